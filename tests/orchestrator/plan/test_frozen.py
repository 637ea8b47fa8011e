"""What stores hold is final: ids of measurements, log entries, paths, and a store of version 0.1.0.

`tests/frozen/` was written by version 0.1.0. An id changes with its kind's version and never else;
a changed line of `ids.json` must be explained in the changelog.
"""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from robsweep.orchestrator.plan.plan import Places, plan
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.spec import sweep_file
from robsweep.orchestrator.store.log import Entry, Part, entry_key
from robsweep.orchestrator.store.store import Store

ROOT = Path(__file__).parents[3]
FROZEN = ROOT / "tests" / "frozen"
IDS = json.loads((FROZEN / "ids.json").read_text())
MODEL_FREE = {
    "adversarial", "ensemble", "full_spectrum", "iris", "mlss_ood", "mnist", "mnist_c",
    "quickstart",
}  # fmt: skip


def ids(file, nets_dir=None):
    """Kind -> hashes in plan order, and the models' ids."""
    found = {}
    planned = plan(sweep_file.load(file), Places(Path("data"), nets_dir))
    for p in planned.measurements.values():
        kind, digest = p.measurement.measurement_id.split("-")
        found.setdefault(kind, []).append(digest)
    models = dict.fromkeys(p.measurement.model.model_id for p in planned.measurements.values())
    return {**found, "models": list(models)}


def test_every_sweep_file_is_frozen():
    assert {file.stem for file in (ROOT / "sweeps").glob("*.yaml")} <= {*IDS}


@pytest.mark.parametrize("name", sorted(IDS))
def test_measurement_ids_of(name, request):
    file = FROZEN / f"{name}.yaml" if name == "frozen" else ROOT / "sweeps" / f"{name}.yaml"
    needs_nets = name not in {*MODEL_FREE, "frozen"}
    nets = request.getfixturevalue("nets_dir") if needs_nets else None
    assert ids(file, nets) == IDS[name], "stores out there hold the old ids"


def test_the_log_format():
    part = Part("parts/attacks/a.parquet", "attacks", 5, 7, "ab", "cd", {"attack-1": ((0, 5),)})
    entry = Entry(3, "w", "2026-01-01T00:00:00+00:00", "s", 1, False, (part,), ("parts/x.parquet",))
    text = (
        b'{"add":[{"bytes":7,"covers":{"attack-1":[[0,5]]},"path":"parts/attacks/a.parquet",'
        b'"rows":5,"schema":"cd","sha256":"ab","table":"attacks"}],'
        b'"at":"2026-01-01T00:00:00+00:00","epoch":1,"remove":["parts/x.parquet"],"seq":3,'
        b'"sweep":"s","take_over":false,"writer":"w"}'
    )
    assert entry.to_json() == text
    assert Entry.from_json(text) == entry
    assert entry_key(3) == "log/000000000003.json"


@pytest.fixture
def old(tmp_path):
    """The store, its sweep file and the module that the sweep names, each a copy."""
    with zipfile.ZipFile(FROZEN / "store.zip") as archive:
        archive.extractall(tmp_path)
    for name in ("store.yaml", "mine.py"):
        shutil.copy(FROZEN / name, tmp_path)
    return tmp_path


def test_a_store_of_0_1_0_is_read(old, robsweep):
    results = Results.open(old / "store")
    assert results.leaderboard("old").height > 0
    store = Store.open(old / "store")
    rows = {}
    for part in store.snapshot().live.values():
        rows[part.table] = rows.get(part.table, 0) + part.rows
    assert rows == json.loads((FROZEN / "rows.json").read_text())
    code, out, err = robsweep("check", "--store", old / "store")
    assert code == 0, out + err


def test_a_store_of_0_1_0_is_resumed_and_extended(old, robsweep):
    before = Store.open(old / "store").snapshot().live
    text = (old / "store.yaml").read_text()
    (old / "store.yaml").write_text(text.replace("samples: 60", "samples: 120"))
    code, out, err = robsweep(
        "run", old / "store.yaml", "--store", old / "store", "--only", "predict"
    )
    assert code == 0, out + err
    code, out, err = robsweep("run", old / "store.yaml", "--store", old / "store")
    assert code == 0, out + err
    after = Store.open(old / "store").snapshot().live
    assert before.keys() <= after.keys()
    new = [part for path, part in after.items() if path not in before]
    assert not [part for part in new if part.table == "models"], "trained again"
    done = {
        (key, piece) for part in before.values() for key, r in part.covers.items() for piece in r
    }
    again = {(key, piece) for part in new for key, r in part.covers.items() for piece in r}
    assert not {one for one in done & again if not one[0].startswith("solve")}
    code, out, err = robsweep("check", "--store", old / "store")
    assert code == 0, out + err
