"""Wrong input on the command line: one message, exit code 2, nothing written."""

from pathlib import Path

import pytest

from tests.sweeps import TINY, sweep


def store_files(tmp_path):
    return sorted(p for p in tmp_path.rglob("*") if "results" in p.parts and p.is_file())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "absent.yaml"], "No such file"),
        (["run", "sweep.yaml", "--only", "atack"], "did you mean 'attack'"),
        (["show", "small"], "not a robsweep store"),
        (["status"], "not a robsweep store"),
        (["check"], "not a robsweep store"),
        (["list", "atacks"], "did you mean 'attacks'"),
        (["explain", "nonsense"], "not a robsweep store"),
        (["data", "fetch", "mnst"], "mnist"),
        (["eval", "mlp", "--dataset", "digits"], "--weights"),
        (["eval", "absent.onnx", "--dataset", "digits"], "no weights 'absent.onnx'"),
        (["eval", "net.onnx", "--dataset", "digits", "--weights", "w"], "leave --weights out"),
        (["eval", "mlp", "--dataset", "digits", "--weights", "w", "--norm", "l3"], "l2"),
        (["eval", "mlp", "--dataset", "digits", "--weights", "absent.pt"], "absent.pt"),
        (["eval", "m:f", "--dataset", "digits", "--classes", "9"], "--classes is for"),
        (["run", "sweep.yaml", "--only", "preflight"], "the sweep has"),
        (["run", "sweep.yaml", "--store", "/proc/no/store"], "/proc"),
    ],
)
def test_wrong_input_is_one_message_and_exit_2(robsweep, tmp_path, words, message):
    sweep()
    code, out, err = robsweep(*words)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "results").exists()


# importing ray takes seconds
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "nonsense", "a:b"])
def test_a_cluster_that_is_not_there_ends_at_once(robsweep, tmp_path, address, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    monkeypatch.setenv("ROBSWEEP_ADDRESS", address)
    code, out, err = robsweep("run", sweep())
    assert (code, out) == (2, "")
    *_, last = err.splitlines()
    assert last.startswith(f"robsweep: no Ray cluster at {address!r}")
    monkeypatch.setenv("RAY_ADDRESS", address)  # where `auto` looks first
    code, out, err = robsweep("run", "sweep.yaml", "--address", "auto")
    assert code == 2
    assert "no Ray cluster at 'auto'" in err
    assert not (tmp_path / "results").exists()


def bad_module(body):

    Path("mine.py").write_text("import torch\nfrom torch import nn\n" + body)
    return sweep(TINY.replace("mlp: {hidden: [16]}", 'net: {arch: "mine:net"}'))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def net(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))", "7"),
        (
            "class Net(nn.Linear):\n"
            "    def forward(self, x): return super().forward(x.flatten(1)) / 0\n"
            "def net(shape, classes): return Net(64, 10)",
            "finite",
        ),
        ("def other(): ...", "net"),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        ("def net(shape, classes): return 3", "mine:net"),
    ],
)
def test_a_model_that_is_none_ends_before_anything_is_written(robsweep, tmp_path, body, message):
    code, _, err = robsweep("run", bad_module(body))
    assert code == 2, err
    assert message in err
    assert "Traceback" not in err
    assert not store_files(tmp_path)


def test_missing_and_damaged_data_end_before_anything_is_written(robsweep, tmp_path):
    text = TINY.replace("dataset: digits", "dataset: mnist").replace("photo_patches", "notmnist")
    code, _, err = robsweep("run", sweep(text))
    assert code == 2
    assert "robsweep data fetch" in err
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for part in ("t10k", "train"):
        for what in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{what}-ubyte.gz").write_bytes(b"not gzip")
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 2
    assert "t10k" in err
    assert not store_files(tmp_path)


@pytest.mark.parametrize(
    ("where", "body", "message"),
    [
        ("attack: LinfPGD,", 'attack: "mine:nothing", norm: linf,', "has no function 'nothing'"),
        ("attack: LinfPGD,", 'attack: "mine:own", norm: linf, depth: 3,', "depth"),
        ("energy: {", 'own: {scorer: "mine:absent", ', "has no function 'absent'"),
        ("standard: {", 'own: {training: "mine:own", ', "mine:own"),
    ],
)
def test_a_function_that_does_not_fit_ends_before_anything_is_written(
    robsweep, tmp_path, where, body, message
):
    (tmp_path / "mine.py").write_text("def own(model, images, labels, eps): return images\n")
    text = TINY.replace(where, body)
    if "attack:" in where:
        text = text.replace(", steps: 2", "")
    code, _, err = robsweep("run", sweep(text))
    assert code == 2, err
    assert message in err
    assert not store_files(tmp_path)
