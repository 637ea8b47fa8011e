"""What a store keeps of a sweep: written before a run, read by the next, also from of old."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.recorded import is_recorded, record, recorded, recorded_plan
from robsweep.orchestrator.plan.table import from_table, to_table
from robsweep.orchestrator.run.outlook import outlook
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec import sweep_file
from robsweep.orchestrator.store import free
from robsweep.orchestrator.store.store import Store
from tests.sweeps import TINY, plan_of, spec_of

FROZEN = Path(__file__).parents[2] / "frozen"


def settings(store, **given):
    fields = {"data_dir": Path("data"), "nets_dir": None, "data_dir_given": False, **given}
    return Settings(store, address="inline", **fields)


@pytest.fixture
def store(tmp_path):
    made = Store.create(tmp_path / "s")
    text = TINY.replace("mlp: {", 'own: {arch: "mine:net"}\n  mlp: {')
    (tmp_path / "mine.py").write_text("def net(shape, classes): ...\n")
    kept = settings(tmp_path / "s", nets_dir=Path("/nets"))
    plan = plan_of(text, folder=tmp_path)
    record(made, spec_of(text, folder=tmp_path), plan, kept, json.dumps({"python": "3"}))
    return made


def test_a_sweep_is_read_as_it_was_written(store, tmp_path):
    spec, places = recorded(store, "small", settings(tmp_path / "s"))
    assert spec.folder == tmp_path
    assert places.nets_dir == Path("/nets")
    assert json.loads(store.files.read("sweeps/small/env.json"))["library_versions"] == {
        "python": "3"
    }
    again = plan_of(spec.text, folder=tmp_path)
    assert recorded_plan(store, "small") == from_table(to_table(again))


def test_what_is_given_now_wins_over_what_it_ran_with(store, tmp_path):
    now = settings(tmp_path / "s", data_dir=Path("/d"), data_dir_given=True, nets_dir=Path("/n"))
    _, places = recorded(store, "small", now)
    assert (places.data_dir, places.nets_dir) == (Path("/d"), Path("/n"))


def test_an_edit_replaces_the_last_plan_and_keeps_those_before(store, tmp_path):
    kept, text = settings(tmp_path / "s"), TINY.replace("steps: 2", "steps: 3")
    first, plans = store.files.read("sweeps/small/plan.parquet"), store.plans("small")
    plan = plan_of(text)
    record(store, spec_of(text), plan, kept, "{}")
    assert is_recorded(store, plan)
    assert recorded_plan(store, "small") == from_table(to_table(plan))
    last, *earlier = store.plans("small")
    assert {store.files.read(key) for key in earlier} == {first, store.files.read(last)}
    assert {*plans} < {last, *earlier}
    record(store, spec_of(text), plan, kept, "{}")
    assert store.plans("small") == [last, *earlier]
    free.forget(store, "small")
    assert not is_recorded(store, plan)
    assert not list(store.files.list("sweeps"))


def test_an_unknown_sweep_is_one_message(store, tmp_path):
    with pytest.raises(InputError, match="there: small"):
        recorded(store, "other", settings(tmp_path / "s"))
    assert recorded_plan(store, "other") == ()
    assert recorded_plan(None, "small") == ()


def test_a_users_code_is_named_as_it_lies_beside_the_sweep_file(store):
    rows = {row.kind: row for row in recorded_plan(store, "small") if row.model == "own"}
    (source,) = rows["train"].code.values()
    assert {*source.files} == {"mine.py"}
    assert [*source.files.values()] == [source.sha256]
    assert rows["attack"].code == {}, "its model's id hashes it"


def test_the_plan_of_a_store_of_0_1_0_is_read_and_compared(tmp_path):
    with zipfile.ZipFile(FROZEN / "store.zip") as archive:
        archive.extractall(tmp_path)
    for name in ("store.yaml", "mine.py"):
        shutil.copy(FROZEN / name, tmp_path)
    before = recorded_plan(Store.open(tmp_path / "store"), "old")
    assert {(row.version, row.code, row.imported) for row in before} == {(None, None, None)}
    kept = settings(tmp_path / "store")
    found = outlook(sweep_file.load(tmp_path / "store.yaml"), kept)
    newer = {"attack", "calibrate", "screen", "solve"}  # kinds whose rows have changed since
    old = [(r.kind, r.measurement_id) for r in before if r.kind not in newer]
    rows = [(m.row.kind, m.row.measurement_id) for m in found.measurements]
    assert sorted(row for row in rows if row[0] not in newer) == sorted(old)
    resumed = [found.reasons[key] for _, key in old if key in found.reasons]
    assert resumed, "it was cut off"
    assert all(text.startswith("resumed: ") for why in resumed for text in why)
    mine = tmp_path / "mine.py"
    mine.write_text(mine.read_text() + "OTHER = 1\n")
    found = outlook(sweep_file.load(tmp_path / "store.yaml"), kept)
    named = {
        (m.row.kind, m.row.label, m.row.entry): m.row.measurement_id for m in found.measurements
    }
    why = found.reasons[named["train", "mine/margin/0", "mine"]]
    assert why == [
        "code in mine.py or version of train changed: "
        "the recorded plan is of an older robsweep and does not tell"
    ]
    assert named["train", "mlp/standard/0", "mlp"] not in found.reasons
