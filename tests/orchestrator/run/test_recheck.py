"""`robsweep recheck` on honest stores, and on stores with a planted lie."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from robsweep.orchestrator.cli import main as cli
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.run.recheck import prepare
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.recheck.claims import Budget
from robsweep.tasks.rows import Keys, schema, table
from tests.stores import all_rows

pytest.importorskip("ortools")

SWEEP = """\
name: small
dataset: digits
seeds: [0]
models:
  net: {arch: ARCH}
trainings:
  standard: {epochs: 20, batch_size: 32, lr: 0.005}
verification:
  linf: {verifier: milp, eps: 0.05, samples: 20, group_size: 10, time_limit_seconds: 5}
"""
OWN = """\
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(torch.sigmoid(x.flatten(1)))

def net(shape, classes):
    return Own()

class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one = nn.Linear(64, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x.flatten(1))
        return self.out(torch.relu(x + self.one(torch.relu(x))))

def skip(shape, classes):
    return Skip()
"""


def called(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["robsweep", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    return caught.value.code or 0, out, err


def swept(folder: Path, arch: str, extra: str = "") -> Path:
    file, store = folder / "sweep.yaml", folder / "results"
    file.write_text(SWEEP.replace("ARCH", arch).replace("seconds: 5", f"seconds: 5{extra}"))
    with pytest.MonkeyPatch.context() as patch:
        words = ["robsweep", "run", file, "--store", store, "--address", "inline"]
        patch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit) as caught:
            cli.main()
    assert not caught.value.code
    return store


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("honest"), "cnn_small")


@pytest.fixture
def store(honest: Path, tmp_path: Path) -> Path:
    """A copy to plant lies in."""
    shutil.copytree(honest, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def recheck(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda store, *words: called(
        monkeypatch, capsys, "recheck", "small", "--store", store, *words
    )


def rows_with(store: Path, verdict: str) -> list[dict]:
    rows = all_rows(store, "verification").to_pylist()
    return [row for row in rows if row["verdict"] == verdict]


def files(store: Path) -> list[Path]:
    return sorted((store / "artifacts" / "counterexamples").iterdir())


def altered(store: Path, change) -> int:
    """Changes the first counterexample; returns its sample."""
    file = files(store)[0]
    images = load(file.read_bytes())
    name = min(images, key=int)
    images[name] = change(int(name), images[name])
    file.write_bytes(save(images))
    return int(name)


def image_of(sample: int) -> np.ndarray:
    from robsweep.tasks.data.load import load as load_data

    return load_data("digits", "test", "").images[sample].numpy()


def test_honest_rows_pass(honest, recheck):
    code, out, err = recheck(honest, "--sample", 100)
    assert code == 0, out + err
    lines = out.splitlines()
    assert len(lines) == 3
    broken, proved = len(rows_with(honest, "falsified")), len(rows_with(honest, "verified"))
    assert broken > 0
    assert proved > 0
    assert lines[0] == f"counterexamples: {broken} ok, 0 wrong, 0 not rechecked"
    assert lines[2].startswith(
        f"proofs: {proved} ok, 0 wrong, 0 not rechecked, of {proved} verified samples"
    )


def test_the_draw_of_proofs_is_seeded(honest):
    def drawn(seed, proofs=3):
        what = prepare(Results.open(honest), "small", Budget(proofs, seed))
        return tuple(q.claim.sample for q in what.questions if q.derive)

    assert drawn(0) == drawn(0)
    assert len(drawn(0)) == 3
    assert len({drawn(seed) for seed in range(4)}) > 1
    assert sorted(drawn(0, 100)) == sorted(row["sample"] for row in rows_with(honest, "verified"))
    assert drawn(0, 0) == ()


def test_proofs_of_later_stages_are_drawn_first(store):
    rows = rows_with(store, "verified")
    rows = [row for row in rows if row["decided_by"] in ("interval", "crown")]
    assert len(rows) > 5
    for row, stage in zip(rows, ("milp", "milp", "milp", "branching", None), strict=False):
        plant(store, row, decided_by=stage)

    def drawn(seed, proofs):
        what = prepare(Results.open(store), "small", Budget(proofs, seed))
        return {q.claim.sample for q in what.questions if q.derive}

    later = {row["sample"] for row in rows[:5]}
    later |= {
        row["sample"]
        for row in rows_with(store, "verified")
        if row["decided_by"] not in ("interval", "crown")
    }
    for seed in range(4):
        assert drawn(seed, len(later)) == later
        assert drawn(seed, len(later) + 2) > later
        # one of each stage before the second of any
        assert rows[4]["sample"] in drawn(seed, 4) < later
    assert len({frozenset(drawn(seed, 4)) for seed in range(6)}) > 1


def test_a_network_with_a_skip_connection(tmp_path, recheck):
    (tmp_path / "mine.py").write_text(OWN)
    store = swept(tmp_path, '"mine:skip"')
    code, out, err = recheck(store, "--sample", 100)
    assert code == 0, out + err
    assert rows_with(store, "verified")
    row = rows_with(store, "falsified")[0]
    plant(store, row, verdict="verified", decided_by="milp")
    for file in files(store):
        file.unlink()
    code, out, _ = recheck(store, "--sample", 100)
    assert code == 3
    assert f"digits test {row['sample']}," in out
    assert "has margin -" in out


@pytest.mark.slow
def test_it_runs_where_the_verifier_cannot_be_imported(honest):
    code = (
        "import sys\n"
        "sys.modules['robsweep.tasks.verification'] = sys.modules['ortools'] = None\n"
        "from robsweep.orchestrator.cli import main\n"
        "main()"
    )
    words = ["recheck", "small", "--store", str(honest)]
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=root, check=False)
    assert done.returncode == 0


def plant(store: Path, row: dict, **changes) -> None:
    """Commits one more verification row."""
    key = "solve-ffffffffffffffff"
    writer = Writer(Store.open(store), "planted")
    names = ("property", "norm", "eps", "verdict", "decided_by")
    columns = {name: row[name] for name in names} | changes
    keys = Keys(key, row["model_id"], row["weights_sha256"], "digits", "test", row["seed"])
    job = dict.fromkeys(schema("jobs").names) | {"measurement_id": key, "status": "done"}
    sample = row["sample"]
    rows = {"verification": table("verification", keys, [sample], columns)}
    writer.commit([Finished(key, sample, sample + 1, 0, job, rows)])


def test_a_planted_proof_is_refuted_by_a_stored_counterexample(store, recheck):
    row = rows_with(store, "falsified")[0]
    plant(store, row, verdict="verified")
    code, out, err = recheck(store, "--sample", 0)
    assert code == 3
    assert f"wrong: verified, net/standard/seed 0, digits test {row['sample']}, linf 0.05" in out
    assert "do not hold" in err


def test_a_planted_proof_is_refuted_without_any_counterexample(store, recheck):
    row = rows_with(store, "falsified")[0]
    plant(store, row, verdict="verified")
    for file in files(store):
        file.unlink()
    code, out, _ = recheck(store, "--sample", 100)
    assert code == 3
    lies = [line for line in out.splitlines() if line.startswith("wrong: verified")]
    assert len(lies) == 1
    assert f"digits test {row['sample']}," in lies[0]
    assert "has margin -" in lies[0]


def test_a_planted_misclassification_is_noticed(store, recheck):
    row = rows_with(store, "verified")[0]
    plant(store, row, verdict="misclassified")
    code, out, _ = recheck(store, "--sample", 0)
    assert code == 3
    assert ", 1 wrong, 0 not rechecked" in out.splitlines()[1]


def test_a_counterexample_just_outside_the_box_is_wrong(store, recheck):
    def change(sample, image):
        x = image_of(sample).astype(np.float64)
        place = np.unravel_index(np.argmin(np.abs(x - 0.5)), x.shape)
        outside = np.array(image)
        outside[place] = np.float32(x[place] + 0.05 + 1e-7)
        assert 0 < outside[place] - (x[place] + 0.05) < 2e-7
        return outside

    sample = altered(store, change)
    code, out, _ = recheck(store, "--sample", 0)
    assert code == 3
    assert out.splitlines()[0].endswith("1 wrong, 0 not rechecked")
    assert f"digits test {sample}, linf 0.05: it is outside the box" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sample, _: image_of(sample), "> 0 in float64; margin"),
        (lambda _, image: image[:, 1:], "shape"),
        (lambda _, image: np.full_like(image, np.nan), "outside the box"),
        (lambda _, image: image + np.float32(2), "outside the box"),
    ],
)
def test_a_counterexample_that_is_none_is_wrong(store, recheck, change, message):
    altered(store, change)
    code, out, _ = recheck(store, "--sample", 0)
    assert code == 3
    assert message in out


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"garbage" * 9)])
def test_a_missing_counterexample_is_wrong(store, recheck, damage):
    damage(files(store)[0])
    code, out, _ = recheck(store, "--sample", 0)
    assert code == 3
    assert "its counterexample is missing or damaged" in out


def test_a_counterexample_of_another_measurement_counts(store, recheck):
    row = rows_with(store, "falsified")[0]
    plant(store, row)
    code, out, _ = recheck(store, "--sample", 0)
    assert code == 0
    assert f"counterexamples: {len(rows_with(store, 'falsified'))} ok" in out


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("certified"), "cnn_small", ", certificates: true")


def certificates(store: Path) -> list[Path]:
    return sorted((store / "artifacts" / "certificates").iterdir())


def test_certificates_are_stored_and_accepted(certified, honest, recheck):
    rows, plain = rows_with(certified, "verified"), rows_with(honest, "verified")
    assert {row["sample"] for row in rows} == {row["sample"] for row in plain}
    held = [row for row in rows if row["certificate"]]
    assert len(held) >= len(rows) - 1  # of a busy machine, one may not be done in time
    for row in rows:
        assert (row["certificate"] is None) == (row["certificate_missing"] is not None)
    contents = {}
    for file in certificates(certified):
        with zipfile.ZipFile(file) as archive:
            contents |= {name: archive.read(name) for name in archive.namelist()}
    for row in held:
        content = contents[f"{row['sample']}.json"]
        assert hashlib.sha256(content).hexdigest() == row["certificate"]
    assert {row["certificate"] for row in plain} == {None}
    code, out, err = recheck(certified, "--all", "--sample", 0)
    assert code == 0, out + err
    line = next(line for line in out.splitlines() if line.startswith("certificates: "))
    assert line.startswith(
        f"certificates: {len(held)} of {len(rows)} verdicts carry a proof that the second program "
        "accepts, 0 refused"
    )
    # without --all, those of the proofs that are drawn
    out = recheck(certified, "--sample", 2)[1]
    assert f"{len(held) - 2} not looked at (--all)" in out


def test_a_tampered_or_missing_certificate_is_refused(certified, tmp_path, recheck):
    store = tmp_path / "results"
    shutil.copytree(certified, store)
    file = certificates(store)[0]
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    first, second, *_ = contents
    contents[first] = contents[first].replace(b'"row":0', b'"row":1')
    contents[second] = contents[first]
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    code, out, err = recheck(store, "--all", "--sample", 0)
    assert code == 3
    assert "its certificate is missing or damaged" in out
    assert ", 2 refused" in out
    assert "do not hold" in err
    file.unlink()
    assert recheck(store, "--all", "--sample", 0)[0] == 3


def test_other_weights_leave_everything_open(store, recheck):
    (file,) = (store / "artifacts" / "models").iterdir()
    tensors = load(file.read_bytes())
    file.write_bytes(save({name: value * np.float32(1.01) for name, value in tensors.items()}))
    code, out, _ = recheck(store)
    assert code == 1
    assert "weights or data have changed" in out
    assert "0 ok, 0 wrong" in out.splitlines()[0]
    file.unlink()
    code, out, _ = recheck(store)
    assert code == 1
    assert "the model is not there as it was" in out


def test_a_model_that_cannot_be_read_is_never_ok(tmp_path, recheck):
    (tmp_path / "mine.py").write_text(OWN)
    store = swept(tmp_path, '"mine:net"')
    code, out, _ = recheck(store)
    assert code == 1
    assert "Own (Own): sigmoid, as set up here, cannot be rechecked" in out
    assert out.count("0 ok, 0 wrong") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recheck", "small", "--store", "absent"], "not a robsweep store"),
        (["recheck", "other"], "has no sweep 'other'"),
        (["recheck", "small", "--time-limit", "0"], "--time-limit"),
        (["recheck", "small", "--time-limit", "nan"], "--time-limit"),
    ],
)
def test_wrong_input_is_exit_2(honest, monkeypatch, capsys, words, message):
    monkeypatch.setenv("ROBSWEEP_STORE", str(honest))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, out, err = called(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
