"""Sweeps from Python: mappings, running again, threads, and what the caller's process keeps."""

import random
import threading

import numpy as np
import pytest
import torch

import robsweep as rob
from robsweep.orchestrator.spec.yaml_file import from_mapping, parse

TINY = {
    "name": "tiny",
    "dataset": "digits",
    "samples": 50,
    "models": {"mlp": {"hidden": (8,)}},
    "trainings": {"standard": {"epochs": np.int64(1), "lr": np.float64(0.01)}},
    "attacks": {"fgsm": {"attack": "LinfFastGradient", "eps": "8/255", "group_size": 50}},
}


def test_a_mapping_is_recorded_as_a_file_that_can_be_read_again(robsweep):
    done = rob.run(TINY, store="results")
    assert done.summary.left == 0
    code, out, _ = robsweep("show", "tiny", "--format", "csv")
    assert code == 0
    assert out.count("\n") == 2
    code, _, err = robsweep("retry", "tiny")
    assert code == 0, err
    recorded = "results/sweeps/tiny/spec.yaml"
    again = rob.run(recorded, store="results", folder=".")
    assert again.summary.jobs == 0
    assert again.table().equals(done.table())


def test_a_mapping_keeps_what_yaml_would_take_for_something_else():
    given = {"a": "8/255", "b": "yes", "c": "1e-3", "d": 1e-5, "e": None, "f": True, "g": [1, "2"]}
    given |= {"h": {"i": float("inf"), "j": "", "k": "null", "l": "0x1", "m": "a: b\n# c"}}
    document = from_mapping(given, "sweep")
    assert document.content == given
    assert parse(document.text, "file").content == given


def test_run_again_runs_what_is_missing():
    assert rob.run(TINY, store="s").summary.jobs == 3
    assert rob.run(TINY, store="s").summary.jobs == 0
    more = {**TINY, "attacks": {**TINY["attacks"], "pgd": {"attack": "LinfPGD", "eps": 0.1}}}
    outlook = rob.plan(more, store="s")
    left = outlook.frame.with_columns(left=outlook.frame["samples"] - outlook.frame["covered"])
    assert dict(left.select("kind", "left").iter_rows()) == {
        "train": 0,
        "predict": 0,
        "attack": 250,
    }
    assert "attack" in repr(outlook)
    assert "CPU-seconds" in repr(outlook)
    done = rob.run(more, store="s")
    assert done.summary.jobs == 1
    assert set(done.table("attacks")["attack"]) == {"fgsm", "pgd", "worst_case"}
    assert "clean_accuracy" in repr(done)


def test_only_some_kinds_and_so_many_jobs():
    assert rob.run(TINY, store="s", limit=1).summary.jobs == 1
    done = rob.run(TINY, store="s", only=["predict"])
    assert done.summary.jobs == 1
    assert done.rows("attacks").is_empty()
    assert len(done.rows("predictions")) == 50


def test_in_another_thread_where_no_signal_can_be_handled():
    found = []

    def target():
        found.append(rob.run(TINY, store="s").summary)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert found[0].left == 0
    assert found[0].failures == []


def test_the_caller_keeps_his_random_numbers_and_threads():
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    expected = torch.rand(3), np.random.rand(3), random.random()
    before = torch.get_num_threads()
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    try:
        torch.set_num_threads(2)
        rob.run(TINY, store="s")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])
    assert random.random() == expected[2]


LOSS = """
from robsweep import Loss
from torch.nn import functional as F


def plain(setup, *, factor=1.0):
    def loss(model, batch):
        logits = model(batch.images)
        return Loss(factor * F.cross_entropy(logits, batch.targets), logits, {})

    return loss
"""


def test_a_users_loss_from_a_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_losses_of_test.py").write_text(LOSS)
    own = {"own": {"training": "my_losses_of_test:plain", "epochs": 1, "factor": 2.0}}
    sweep = {"name": "own", "dataset": "digits", "models": {"mlp": {"hidden": [8]}}}
    sweep["trainings"] = own
    with pytest.raises(rob.InputError, match="my_losses_of_test"):
        rob.run(sweep, store="s")
    done = rob.run(sweep, store="s", folder="mine")
    assert done.summary.failures == []
    assert len(done.rows("training")) == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"modles": {}}, r"sweep: modles: unknown key 'modles'; did you mean 'models'"),
        ({"models": {"mlp": {"hiden": [8]}}}, r"sweep: models\.mlp\.hiden: .*mean 'hidden'"),
        ({"attacks": {"p": {"attack": "LinfPDG"}}}, r"sweep: attacks\.p\.attack: .*'LinfPGD'"),
        ({"attacks": {"p": {"attack": "LinfPGD", "eps": 2}}}, r"sweep: attacks\.p\.eps"),
        ({"seeds": [object()]}, r"sweep: seeds\.0: expected text, numbers, .* got object"),
        ({"samples": 10_000}, r"sweep: samples: asks for 10000"),
    ],
)
def test_errors_of_a_mapping_name_the_key(changed, says):
    with pytest.raises(rob.SpecError, match=says):
        rob.plan({**TINY, **changed})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"only": ["atack"]}, "only: 'atack'; did you mean 'attack'"),
        ({"only": "atack"}, "only: 'atack'; did you mean 'attack'"),
        ({"retry": ["fialed"]}, "retry: 'fialed'; did you mean 'failed'"),
        ({"rerun": "alway"}, "rerun: 'alway'; did you mean 'always'"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(rob.InputError, match=says):
        rob.run(TINY, **options)


def test_a_file_says_its_line(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: a\ndataset: digits\nmodles: {}\n")
    with pytest.raises(rob.SpecError, match=r"sweep\.yaml:3: modles"):
        rob.plan("sweep.yaml")


def test_every_name_of_the_surface_is_there():
    for name in rob.__all__:
        assert getattr(rob, name) is not None, name
    assert {*rob.__all__} <= {*dir(rob)}
    assert issubclass(rob.SpecError, rob.InputError)
    with pytest.raises(AttributeError, match="evalute"):
        rob.evalute  # noqa: B018


def test_progress_in_a_notebook_without_widgets_is_lines(monkeypatch, capsys):
    from robsweep.orchestrator.run import progress

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "find_spec", lambda _: None)
    shown = progress.Progress("mine", 1)
    shown.show({"attack": progress.KindProgress(total=10, done=4)}, final=True)
    shown.close()
    assert capsys.readouterr().err == "mine: attack 4/10\n"


def test_an_outlook_says_what_the_command_says(robsweep, tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.random((100, 8, 8), np.float32), np.arange(100) % 9 + 1
    np.savez(tmp_path / "mine.npz", test_images=images, test_labels=labels)
    fgsm = {"attack": "LinfFastGradient", "eps": 0.1, "group_size": 100}
    own = {"name": "own", "dataset": "npz:mine.npz", "samples": 50, "attacks": {"fgsm": fgsm}}
    own |= {"models": {"mine": {"arch": "mlp", "train": False}}}
    found = rob.plan(own, store="s")
    (warning,) = found.warnings
    assert "labels go from 1 to 9" in warning
    assert found.notes
    assert all(text in repr(found) for text in (*found.notes, warning))
    detail = found.measurements
    assert set(detail["measurement_id"]) == set(found.reasons)
    assert all(why[0].startswith("new") for why in found.reasons.values())
    attack = detail.filter(kind="attack").row(0, named=True)
    assert (attack["wanted"], attack["covered"], attack["left"]) == (50, 0, 100)
    assert detail["expected_seconds"].sum() == pytest.approx(found.expected_seconds)
