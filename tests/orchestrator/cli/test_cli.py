"""The command line, in this process, inline, on the embedded digits."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.stores import all_rows
from tests.sweeps import TINY, sweep


def test_a_sweep_from_plan_to_leaderboard(robsweep, tmp_path):
    code, out, _ = robsweep("plan", sweep())
    assert code == 0
    assert not (tmp_path / "results").exists()
    code, out, err = robsweep("run", "sweep.yaml")
    assert code == 0, err
    for column in ("clean_accuracy", "robust_accuracy", "verified_accuracy", "ece", "auroc"):
        assert column in out
    assert "n=100" in out
    jobs = all_rows(tmp_path / "results", "jobs").num_rows
    code, again, _ = robsweep("run", "sweep.yaml")
    assert (code, again) == (0, out)
    assert all_rows(tmp_path / "results", "jobs").num_rows == jobs
    code, out, _ = robsweep("status", "--json")
    progress = {row["kind"]: row for row in json.loads(out)["small"]}
    assert progress["attack"]["done"] == progress["attack"]["wanted"] == 100
    for table in ("attacks", "calibration", "ood", "verification"):
        code, out, _ = robsweep("show", "small", "--table", table, "--format", "csv")
        assert code == 0
        assert len(out.splitlines()) > 1, table
    code, out, _ = robsweep("check")
    assert code == 0
    assert "0 failed, 0 missing" in out
    code, out, _ = robsweep("compact")
    assert code == 0
    assert robsweep("check")[0] == 0
    assert robsweep("run", "sweep.yaml")[1] == again


def imported(**tensors):
    text = TINY.split("trainings:")[0] + TINY[TINY.index("attacks:") :]
    save_file(tensors, "net.safetensors")
    return sweep(text.replace("hidden: [16]", "hidden: [16], weights: net.safetensors"))


def weights(rng):
    return {
        "fc1.weight": rng.normal(size=(16, 64)).astype(np.float32) * 0.1,
        "fc1.bias": np.zeros(16, np.float32),
        "fc2.weight": rng.normal(size=(10, 16)).astype(np.float32),
        "fc2.bias": np.zeros(10, np.float32),
    }


def test_corrupted_weights_end_before_anything_is_written(robsweep, tmp_path):
    good = weights(np.random.default_rng(0))
    code, _, err = robsweep("run", imported(**good))
    assert code == 0, err
    bad = {
        "wrong shape": {**good, "fc2.weight": good["fc2.weight"][:5]},
        "missing": {"fc1.weight": good["fc1.weight"]},
        "nan": {**good, "fc2.bias": np.full(10, np.nan, np.float32)},
    }
    for tensors in bad.values():
        code, _, err = robsweep("run", imported(**tensors), "--store", "results2")
        assert code == 2
        assert "Traceback" not in err
        assert not (tmp_path / "results2").exists()
    (tmp_path / "net.safetensors").write_bytes(b"garbage" * 100)
    code, _, err = robsweep("run", "sweep.yaml", "--store", "results2")
    assert code == 2
    assert "net.safetensors" in err or "weights" in err


def test_eval_of_one_model(robsweep, tmp_path):
    imported(**weights(np.random.default_rng(0)))
    code, out, err = robsweep(
        "eval", "mlp", "--dataset", "digits", "--weights", "net.safetensors", "--eps", "8/255"
    )
    assert code == 2  # a 16-unit net does not fit the default architecture
    assert "do not fit the model" in err
    (tmp_path / "mine.py").write_text(
        "from robsweep.tasks.models.architectures.mlp import mlp\n"
        "def net(shape, classes): return mlp(shape, classes, hidden=(16,))\n"
    )
    command = ["eval", "mine:net", "--dataset", "digits", "--weights", "net.safetensors"]
    command += ["--eps", "8/255", "--samples", "100", "--verify", "10", "--time-limit", "5"]
    code, out, err = robsweep(*command)
    assert code == 0, err
    assert "verified_accuracy" in out
    sys.modules.pop("mine", None)


def test_a_failing_job_says_how_to_reproduce_it(robsweep, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def attack(model, images, labels, eps):\n    raise ArithmeticError('no luck')\n"
    )
    text = TINY.replace("attack: LinfPGD,", 'attack: "mine:attack", norm: linf,')
    text = text.replace(", steps: 2", "")
    code, out, err = robsweep("run", sweep(text))
    assert code == 1
    assert "clean_accuracy" in out  # the others went on
    last = err.strip().splitlines()[-1]
    assert last.startswith("reproduce here: robsweep explain attack-")
    words = last.split("robsweep ")[1].split()
    code, out, _ = robsweep(*[word for word in words if word != "--run"])
    assert code == 0
    assert "ArithmeticError: no luck" in out
    assert "Traceback" in out
    with pytest.raises(ArithmeticError, match="no luck"):
        robsweep(*words)
    (tmp_path / "mine.py").write_text(
        "def attack(model, images, labels, eps):\n    return images\n"
    )
    sys.modules.pop("mine", None)
    code, _, err = robsweep("run", "sweep.yaml")  # mended code is another measurement
    assert code == 0, err
    sys.modules.pop("mine", None)


def test_an_attack_is_six_lines_of_yours(robsweep, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def sign_noise(model, images, labels, eps):\n"
        "    noise = torch.sign(torch.randn_like(images))\n"
        "    return images + eps * noise\n"
    )
    text = TINY.replace("attack: LinfPGD,", 'attack: "mine:sign_noise", norm: linf,')
    code, _, err = robsweep("run", sweep(text.replace(", steps: 2", "")))
    assert code == 0, err
    rows = all_rows(tmp_path / "results", "attacks")
    assert set(rows["check"].to_pylist()) == {"ok"}
    sys.modules.pop("mine", None)


def test_an_attack_that_gives_no_adversarials_gives_no_number(robsweep, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def attack(model, images, labels, eps):\n    return images * float('nan')\n"
    )
    text = TINY.replace("attack: LinfPGD,", 'attack: "mine:attack", norm: linf,')
    code, out, err = robsweep("run", sweep(text.replace(", steps: 2", "")))
    assert code == 1
    assert "robust_accuracy" not in out  # a column without any number is left out
    assert "it gives no number" in err
    assert "not finite" in err
    sys.modules.pop("mine", None)


def test_contradicting_results_end_with_exit_3(robsweep, tmp_path):
    from robsweep.orchestrator.store.store import Store
    from robsweep.orchestrator.store.writer import Finished, Writer
    from robsweep.tasks.rows import Keys, schema, table

    assert robsweep("run", sweep())[0] == 0
    proved = next(
        row
        for row in all_rows(tmp_path / "results", "verification").to_pylist()
        if row["verdict"] == "verified"
    )
    store = Store.open(tmp_path / "results")
    writer = Writer(store, "planted")
    key = "attack-ffffffffffffffff"
    keys = Keys(key, proved["model_id"], "w", "digits", "test", 0)
    columns = {"attack": "a", "norm": "linf", "eps": 0.02, "success": True, "check": "ok"}
    columns["distance"] = 0.01
    rows = table("attacks", keys, [proved["sample"]], columns)
    row = dict.fromkeys(schema("jobs").names) | {"measurement_id": key, "status": "done"}
    sample = proved["sample"]
    writer.commit([Finished(key, sample, sample + 1, 0, row, {"attacks": rows})])
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 3
    assert "proved robust and yet broken" in err


def test_failures_of_an_earlier_run_are_not_forgotten(robsweep, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def attack(model, images, labels, eps):\n    raise ArithmeticError('no luck')\n"
    )
    text = TINY.replace("attack: LinfPGD,", 'attack: "mine:attack", norm: linf,')
    sweep(text.replace(", steps: 2", ""))
    assert robsweep("run", "sweep.yaml")[0] == 1
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 1
    assert "robsweep retry small" in err
    assert "starting" not in err
    code, _, err = robsweep("retry", "small")
    assert code == 1
    assert "ArithmeticError: no luck" in err
    assert robsweep("retry", "small", "--data-dir", "elsewhere")[0] == 1
    sys.modules.pop("mine", None)


def test_a_limit_leaves_work_and_says_so(robsweep):
    code, _, err = robsweep("run", sweep(), "--limit", "1")
    assert code == 1
    assert "still missing" in err
    assert robsweep("run", "sweep.yaml")[0] == 0


def test_two_models_on_one_weights_file_are_two_models(robsweep, tmp_path):
    imported(**weights(np.random.default_rng(0)))
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "from robsweep.tasks.models.architectures.mlp import mlp\n"
        "class Negative(nn.Module):\n"
        "    def __init__(self, shape, classes):\n"
        "        super().__init__()\n"
        "        inner = mlp(shape, classes, hidden=(16,))\n"
        "        self.fc1, self.fc2 = inner.fc1, inner.fc2\n"
        "    def forward(self, x):\n"
        "        return self.fc2(self.fc1(x.flatten(1)).relu()) * -1.0\n"
        "def negative(shape, classes): return Negative(shape, classes)\n"
    )
    text = (tmp_path / "sweep.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("  mlp:"))
    other = '  negative: {arch: "mine:negative", weights: net.safetensors}'
    code, _, err = robsweep("run", sweep(text.replace(line, f"{line}\n{other}")))
    assert code == 0, err
    assert {row["model"] for row in all_rows("results", "models").to_pylist()} == {
        "mlp",
        "negative",
    }
    ids = {row["model_id"] for row in all_rows("results", "attacks").to_pylist()}
    assert len(ids) == 2
    sys.modules.pop("mine", None)


def test_weights_that_were_lost_or_changed_are_noticed(robsweep, tmp_path):
    assert robsweep("run", sweep())[0] == 0
    file = next((tmp_path / "results" / "artifacts" / "models").iterdir())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out, _ = robsweep("check")
    assert code == 1
    assert "not those it was measured with" in out
    sweep(TINY.replace("steps: 2", "steps: 3"))
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 1
    assert "is not what was trained" in err
    file.unlink()
    assert "are gone" in robsweep("check")[1]
    file.write_bytes(content)
    assert robsweep("check")[0] == 0
    assert robsweep("retry", "small")[0] == 0


def test_lists_show_parameters_and_sources(robsweep):
    for family in ("attacks", "models", "trainings", "scorers", "datasets", "verifiers"):
        code, out, _ = robsweep("list", family)
        assert code == 0
        assert out
    assert "rel_step_size=" in robsweep("list", "attacks")[1]


def test_verify_answers_one_instance_and_lists(robsweep, tmp_path):
    for library in ("onnx", "vnnlib", "ortools"):
        pytest.importorskip(library)
    from tests.tasks.verification.reading.onnx_files import ball_file, dense_file
    from tests.tasks.verification.small_nets import dense

    net = dense(0, 2, 4, 3, 3)
    x = net[0].weight.new_tensor([[0.1, 0.9]])
    label = int(net(x).argmax())
    dense_file(tmp_path / "net.onnx", net)
    for name, eps in (("near", 1e-4), ("far", 0.9)):
        ball_file(tmp_path / f"{name}.vnnlib", x, eps, label, 3)
    assert robsweep("verify", "net.onnx", "near.vnnlib")[:2] == (0, "unsat\n")
    found = robsweep("verify", "net.onnx", "far.vnnlib", "--counterexample", "found.txt")
    assert found[:2] == (0, "sat\n")
    text = (tmp_path / "found.txt").read_text()
    assert text.startswith("((X_0 ")
    assert text.count("Y_") == 3
    lines = ["onnx,vnnlib,timeout_seconds", "net.onnx,near.vnnlib,60", "net.onnx,far.vnnlib,60"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    code, out, _ = robsweep("verify", "--instances", "list.csv", "--out", "ours.csv")
    assert code == 0
    assert out == (tmp_path / "ours.csv").read_text()
    header, *rows = [line.split(",") for line in out.splitlines()]
    assert header == ["onnx", "vnnlib", "verdict", "seconds"]
    assert [row[:3] for row in rows] == [
        ["net.onnx", "near.vnnlib", "unsat"],
        ["net.onnx", "far.vnnlib", "sat"],
    ]
    (tmp_path / "list.csv").write_text("net.onnx,near.vnnlib,60\nlist.csv,near.vnnlib,60\n")
    code, out, err = robsweep("verify", "--instances", "list.csv")
    assert code == 1
    assert "list.csv,near.vnnlib,error" in out
    assert "not an ONNX file" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a network and a property"),
        (["net.onnx"], "give a network and a property"),
        (["net.onnx", "p.vnnlib", "--instances", "list.csv"], "give a network and a property"),
        (["net.onnx", "p.vnnlib"], "net.onnx: no such file"),
        (["net.onnx", "p.vnnlib", "--time-limit", "0"], "time limit 0"),
        (["net.onnx", "p.vnnlib", "--solver", "scp"], "unknown solver 'scp'"),
        (["--instances", "list.csv"], "list.csv: cannot be read"),
    ],
)
def test_verify_names_wrong_input(robsweep, words, message):
    code, out, err = robsweep("verify", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
