"""Why a measurement would run: a table of edits of a sweep file, and of what the store has."""

from dataclasses import replace

import pytest

from robsweep.orchestrator.plan.changes import changes
from robsweep.orchestrator.plan.next_jobs import missing_ranges
from robsweep.orchestrator.plan.sources import Source
from robsweep.orchestrator.plan.table import SCHEMA, from_table, to_table
from robsweep.orchestrator.plan.why import Standing, reasons
from robsweep.tasks.catalogue import KINDS
from tests.sweeps import SMALL, plan_of

ONE = SMALL.replace("seeds: [0, 1]", "seeds: [0]\nsamples: 250")
OWN = ONE.replace("mlp: {hidden: [16]}", 'mlp: {hidden: [16]}\n  own: {arch: "mine:net"}').replace(
    "  pgd:", '  weak: {attack: "mine:weak", norm: linf, eps: 0.1}\n  pgd:'
)
SOURCE = "def net(shape, classes): ...\ndef weak(model, images, labels, eps): ...\n"


def rows_of(plan, *without):
    table = to_table(plan)
    return from_table(table.drop_columns(list(without)))


def why(old, new, *, failed=None, done=None, where=None, open_samples=()):
    """Reasons by `section.entry` or kind, where the store has all of the old plan, or `done`."""
    before = None if old is None else plan_of(old, **(where or {}))
    return explained(before, plan_of(new, **(where or {})), failed, done, open_samples)


def explained(before, now, failed=None, done=None, open_samples=(), without=()):
    have = {
        key: missing_ranges(one, ()) for key, one in (before.measurements if before else {}).items()
    }
    have = {key: ranges for key, ranges in have.items() if done is None or done(key)}
    left = {
        key: tuple(open_samples) if key[:5] == "solve" else missing_ranges(one, have.get(key, ()))
        for key, one in now.measurements.items()
    }
    standing = Standing(left, lambda key: have.get(key, ()), failed or {})
    found = reasons(rows_of(now), rows_of(before, *without) if before else (), standing)
    named = {}
    for key, texts in found.items():
        named.setdefault(name_of(now.measurements[key]), []).extend(texts)
    return named


def name_of(planned):
    kind, section = planned.measurement.kind, planned.section
    return kind if kind in {"train", "ensemble", "solve"} else f"{section}.{planned.entry}"


def test_what_is_done_has_no_reason():
    assert why(ONE, ONE) == {}


def test_without_a_recorded_plan_all_is_new():
    found = why(None, ONE)
    assert len(found) == 9
    first = {text for texts in found.values() for text in texts if text[:6] != "needs "}
    assert first == {"new: the sweep has no recorded plan in this store"}


@pytest.mark.parametrize(
    ("old", "new", "name", "reason"),
    [
        ("steps: 2", "steps: 3", "attacks.pgd", "steps: 2 -> 3"),
        ("steps: 2", "steps: 2, restarts: 4", "attacks.pgd", "restarts: 1 -> 4"),
        ("eps: [0.05, 0.1]", "eps: [0.05]", "attacks.pgd", "eps: [0.05,0.1] -> [0.05]"),
        ("steps: 2", "steps: 2, target: random", "attacks.pgd", "new parameter target: random"),
        ("steps: 2, target: random", "steps: 2", "attacks.pgd",
         "without parameter target, was random"),
        ("eps: 0.02,", "eps: 0.02, solver: highs,", "solve", "solver: scip -> highs"),
        ("eps: 0.02,", "eps: 0.03,", "verification.linf", "eps: 0.02 -> 0.03"),
        ("sets: [photo_patches]", "sets: [photo_patches], temperature: 2", "ood.energy",
         "temperature: 1.0 -> 2.0"),
        ("epochs: 1", "epochs: 2", "train", "trainings.standard.epochs: 1 -> 2"),
        ("hidden: [16]", "hidden: [17]", "train", "models.mlp.hidden: [16] -> [17]"),
        ("mlp: {hidden: [16]}", "mlp: {arch: cnn_small}", "train",
         "models.mlp.arch: mlp -> cnn_small"),
        ("steps: 2", "steps: [2, 5]", "attacks.pgd[steps=5]", "new: attacks.pgd[steps=5]"),
        ("steps: 2", "steps: [3, 5]", "attacks.pgd[steps=3]", "steps: 2 -> 3"),
        ("  pgd:", "  more: {attack: LinfPGD, eps: 0.2}\n  pgd:", "attacks.more",
         "new: attacks.more"),
        ("seeds: [0]", "seeds: [0, 5]", "train", "new: seed 5 of mlp/standard/5"),
        ("  mlp:", "  wide: {arch: mlp, hidden: [99]}\n  mlp:", "train", "new: model wide"),
        ("  standard:", "  noise: {epochs: 1}\n  standard:", "train",
         "new: training noise of mlp/noise/0"),
    ],
)  # fmt: skip
def test_an_edit_is_named_with_its_old_and_new_value(old, new, name, reason):
    before = ONE.replace("steps: 2", old) if old.startswith("steps: 2,") else ONE
    assert old in before
    found = why(before, before.replace(old, new, 1), open_samples=[(0, 1)])
    assert reason in found[name]


def test_an_edit_of_one_entry_says_nothing_of_the_others():
    assert set(why(ONE, ONE.replace("steps: 2", "steps: 3"))) == {"attacks.pgd"}
    assert why(ONE, ONE.replace("steps: 2", "steps: 3")) == {"attacks.pgd": ["steps: 2 -> 3"]}


def test_what_a_new_training_pulls_along_needs_it():
    after = ONE.replace("epochs: 1", "epochs: 2")
    trained = next(iter(plan_of(after).measurements))
    found = why(ONE, after)
    assert found.pop("train") == ["trainings.standard.epochs: 1 -> 2"]
    assert len(found) == 8
    needed = f"needs {trained}, which runs anew"
    assert all(texts[0] == needed for texts in found.values())
    assert found["calibration.temperature"][1].startswith("needs predict-")
    assert "first" in found["solve"][1]


def test_members_and_sources_are_needed_too():
    pair = ONE.replace(
        "hidden: [16]}", "hidden: [16]}\n  b: {arch: cnn_small}\n  both: {members: [mlp, b]}"
    ).replace("  pgd:", "  from_b: {attack: LinfPGD, eps: 0.1, source: b, only: [mlp]}\n  pgd:")
    after = pair.replace("arch: cnn_small", "arch: mlp, hidden: [8]")
    keys = {p.model: p.measurement.model.model_id for p in plan_of(after).measurements.values()}
    found = why(pair, after)
    assert found["ensemble"] == [f"needs {keys['b']}, which runs anew"]
    assert found["attacks.from_b"] == [f"needs {keys['b']}, which runs anew"]


def test_more_samples_are_counted_in_whole_groups():
    found = why(ONE, ONE.replace("samples: 250", "samples: 400"))
    assert found["attacks.pgd"] == ["more samples: 250 more of 500"]
    assert found["clean.clean"] == ["more samples: 250 more of 500"]


def test_another_sweeps_samples_count_as_there():
    before = plan_of(ONE)
    now = plan_of(ONE.replace("samples: 250", "samples: 400"))
    left = {key: missing_ranges(p, ((0, 250),)) for key, p in now.measurements.items()}
    standing = Standing(left, lambda key: ((0, 250),), {})
    found = reasons(rows_of(now), (), standing)
    attack = next(key for key in before.measurements if key.startswith("attack"))
    assert found[attack] == ["more samples: 250 more of 500"]


def test_the_rest_of_an_unfinished_run_is_resumed():
    found = why(ONE, ONE, done=lambda key: not key.startswith("attack"))
    assert found == {"attacks.pgd": ["resumed: 250 of 250 not done yet"]}


def test_a_failed_job_is_said_to_wait_for_a_retry_and_so_is_what_needs_it():
    train = next(iter(plan_of(ONE).measurements))
    found = why(ONE, ONE, failed={train: ((0, 1),)}, done=lambda key: False)
    assert found["train"] == ["failed before: 1 of 1, tried again by robsweep retry"]
    assert found["clean.clean"] == [
        "resumed: 250 of 250 not done yet",
        f"needs {train}, which failed before",
    ]


def test_open_solves_say_which_time_limit_has_grown():
    longer = ONE.replace("time_limit_seconds: 5", "time_limit_seconds: 50")
    found = why(ONE, longer, open_samples=[(3, 4), (7, 8)])
    assert found == {
        "solve": ["solved again: 2 that earlier solves left open, time_limit_seconds: 5 -> 50"]
    }


def test_a_new_version_of_a_kind_is_named():
    before = rows_of(plan_of(ONE))
    old = [replace(r, measurement_id=f"{r.kind}-0", version=r.version - 1) for r in before]
    left = {r.measurement_id: ((0, 1),) for r in before if r.kind == "attack"}
    found = reasons(before, old, Standing(left, lambda key: (), {}))
    now = KINDS["attack"].version
    assert [*found.values()] == [[f"version of attack: {now - 1} -> {now}"]]


class Files:
    """A user's module and weights, in a folder, as they change."""

    def __init__(self, folder):
        self.folder = folder
        self.write(SOURCE)

    def write(self, text, name="mine.py"):
        (self.folder / name).write_text(text)

    def plan(self, text=OWN):
        return plan_of(text, folder=self.folder)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_changed_code_is_named_by_its_file(files):
    before = files.plan()
    files.write(SOURCE + "OTHER = 1\n")
    found = explained(before, files.plan())
    assert set(found["attacks.weak"][:1]) == {"code changed in mine.py"}
    assert found["train"] == ["code changed in mine.py"]
    assert "attacks.pgd" in found, "of the model that is the user's own"
    assert all("code" not in text for text in found["attacks.pgd"])


def test_code_of_an_imported_model_is_code_of_all_that_is_measured_on_it(files):
    text = OWN.replace('arch: "mine:net"', 'arch: "mine:net", train: false')
    before = files.plan(text)
    files.write(SOURCE + "OTHER = 1\n")
    found = explained(before, files.plan(text))
    assert found["attacks.pgd"] == ["code changed in mine.py"]


def test_changed_weights_are_named_by_their_file(files):
    text = ONE.replace("hidden: [16]", "hidden: [16], weights: net.safetensors")
    files.write("one", "net.safetensors")
    before = files.plan(text)
    files.write("two", "net.safetensors")
    assert set(explained(before, files.plan(text))["attacks.pgd"]) == {
        "weights changed in net.safetensors"
    }
    files.write("two", "b.safetensors")
    after = files.plan(text.replace("net.safetensors", "b.safetensors"))
    assert explained(before, after)["attacks.pgd"] == [
        "models.mlp.weights: net.safetensors -> b.safetensors"
    ]


def test_a_plan_of_before_these_columns_is_read_and_says_what_it_cannot_tell(files):
    later = ("version", "code_json", "import_json")
    assert set(later) <= set(SCHEMA.names)
    before = files.plan()
    files.write(SOURCE + "OTHER = 1\n")
    found = explained(before, files.plan(), without=later)
    assert found["attacks.weak"][0] == (
        "code in mine.py or version of attack changed: "
        "the recorded plan is of an older robsweep and does not tell"
    )
    found = explained(before, files.plan(OWN.replace("steps: 2", "steps: 3")), without=later)
    assert "steps: 2 -> 3" in found["attacks.pgd"]


def test_of_several_files_behind_a_function_those_that_changed_are_named():
    row = rows_of(plan_of(ONE))[2]

    def of(sha256, **files):
        return replace(row, code={"mine:f": Source(sha256, files)})

    before = of("1", **{"mine.py": "a", "helper.py": "b", "gone.py": "c"})
    after = of("2", **{"mine.py": "a", "helper.py": "B", "more.py": "d"})
    assert changes(before, after) == [
        f"code changed in {file}.py" for file in ("gone", "helper", "more")
    ]
    assert changes(before, before) == []
    same = of("3", **{"mine.py": "a", "helper.py": "b", "gone.py": "c"})
    assert changes(before, same) == ["code of mine:f is hashed in another way"]
