"""Giving up what no sweep wants: others lose nothing, whatever they are doing meanwhile."""

import shutil
from datetime import timedelta

import pyarrow as pa
import pytest

from robsweep.orchestrator.errors import FencedError, StoreError
from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.store import free, log
from robsweep.orchestrator.store.compact import compact
from robsweep.orchestrator.store.parts import Stamp, write_part
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Writer
from tests.drives import drive_once, record
from tests.stores import all_rows
from tests.sweeps import SMALL, plan_of

NOW = timedelta(0)
TABLES = ("models", "training", "predictions", "attacks", "ood_scores", "calibration")
# shares its models and all but an attack and the radius of its proofs with `other`
FIRST = plan_of(SMALL)
OTHER = plan_of(
    SMALL.replace("name: small", "name: other").replace("steps: 2", "steps: 3")
    .replace("eps: 0.02", "eps: 0.01").replace("seeds: [0, 1]", "seeds: [1, 2]")
)  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    location = tmp_path_factory.mktemp("both") / "s"
    for plan in (FIRST, OTHER):
        assert not drive_once(plan, location).failures
    return location


@pytest.fixture
def store(both, tmp_path):
    shutil.copytree(both, tmp_path / "s")
    return Store.open(tmp_path / "s")


def freed(store, grace=NOW):
    ids = free.surplus(store, store.snapshot(), free.recorded(store)).ids
    return free.free(store, ids, grace)


def ids_of(store, table):
    return set(all_rows(store.root, table)["measurement_id"].to_pylist())


def artifacts(store):
    return {key.split("/")[2].split(".")[0][:25] for key in store.files.list("artifacts")}


def test_nothing_is_surplus_while_both_sweeps_are_there(store):
    found = free.surplus(store, store.snapshot(), free.recorded(store))
    assert (found.ids, found.rows, found.files) == (frozenset(), 0, ())


@pytest.mark.parametrize("merged", [False, True])
def test_the_other_sweep_keeps_all_that_it_wants(store, merged):
    if merged:  # parts of many measurements, wanted ones and others
        compact(store, NOW)
    free.forget(store, "small")
    kinds = {one: p.measurement.kind for one, p in OTHER.measurements.items()}
    before = {
        table: [r for r in all_rows(store.root, table).to_pylist() if r["measurement_id"] in kinds]
        for table in TABLES
    }
    proofs = all_rows(store.root, "verification")
    promised = free.surplus(store, store.snapshot(), free.recorded(store))
    rows, files = free.free(store, promised.ids, NOW)
    assert rows == promised.rows > 0
    assert files == len(promised.files) > 0
    for table in TABLES:
        assert all_rows(store.root, table).to_pylist() == before[table], table
    gone = FIRST.measurements.keys() - OTHER.measurements.keys()
    kept = ids_of(store, "verification")
    # seed 1 is verified by both, at other radii: a proof at one decides the other
    seed_1 = [p for p in FIRST.measurements.values() if p.measurement.seed == 1]
    answers = {p.measurement.measurement_id for p in seed_1 if p.measurement.kind == "screen"}
    assert answers <= kept
    assert all_rows(store.root, "verification").num_rows < proofs.num_rows
    of_attacks = {one for one in gone if one.startswith(("attack", "train"))}
    assert of_attacks
    assert not of_attacks & (ids_of(store, "attacks") | ids_of(store, "models"))
    assert not of_attacks & artifacts(store)
    assert not check(store).problems
    assert not any(m.missing or m.failed for m in check(store).measurements)
    assert drive_once(OTHER, store.root).jobs == 0
    assert free.surplus(store, store.snapshot(), free.recorded(store)).rows == 0


def test_what_is_freed_is_computed_anew(store):
    before = {table: all_rows(store.root, table) for table in TABLES}
    free.forget(store, "small")
    freed(store)
    assert not drive_once(FIRST, store.root).failures
    for table, rows in before.items():
        assert all_rows(store.root, table).equals(rows), table
    assert not check(store).problems


def test_files_stay_for_the_grace_period(store):
    old = store.snapshot()
    free.forget(store, "small")
    files = set(store.files.list("parts")) | set(store.files.list("artifacts"))
    assert freed(store, timedelta(hours=1))[1] == 0
    compact(store, timedelta(hours=1))
    assert files <= set(store.files.list("parts")) | set(store.files.list("artifacts"))
    assert all(store.files.exists(path) for path in old.live)  # whoever reads by the old log
    deleted = freed(store)[1] + compact(store, NOW).deleted
    assert deleted > 0
    assert set(store.files.list("parts")) == set(store.snapshot().live)


def test_no_sweep_at_all_leaves_an_empty_store(store):
    for name in ("small", "other"):
        free.forget(store, name)
    freed(store)
    compact(store, NOW)
    assert store.snapshot().live == {}
    assert [*store.files.list("parts"), *store.files.list("artifacts")] == []
    assert store.sweeps() == []
    assert not (store.root / "sweeps" / "small").exists()
    assert not check(store).problems


EDITED = plan_of(SMALL.replace("eps: [0.05, 0.1]", "eps: [0.05]"))


def attacks_of(*plans):
    return {k for plan in plans for k in plan.measurements if k[:6] == "attack"}


def test_what_a_sweep_said_before_an_edit_stays_until_it_is_forgotten(store):
    free.forget(store, "other")
    freed(store)
    before = all_rows(store.root, "attacks").num_rows
    drive_once(EDITED, store.root)
    assert freed(store) == (0, 0)
    assert ids_of(store, "attacks") == attacks_of(FIRST, EDITED)
    assert all_rows(store.root, "attacks").num_rows > before
    free.forget(store, "small")
    record(store, EDITED)
    freed(store)
    assert ids_of(store, "attacks") == attacks_of(EDITED)
    # the attempts of a sweep are known as long as it is
    assert attacks_of(FIRST) <= ids_of(store, "jobs")


def test_a_plan_that_an_older_version_wrote_alone_stays_too(store):
    free.forget(store, "other")
    for key in store.files.list("sweeps/small/plans"):
        store.files.remove(key)
    assert freed(store)[0] > 0  # of the other sweep
    assert ids_of(store, "attacks") == attacks_of(FIRST)
    drive_once(EDITED, store.root)
    assert freed(store) == (0, 0)
    assert ids_of(store, "attacks") == attacks_of(FIRST, EDITED)


def test_an_earlier_plan_that_cannot_be_read_stops_all_freeing(store):
    earlier = store.plans("small")[1]
    drive_once(EDITED, store.root)
    store.files.write(earlier, b"damaged")
    with pytest.raises(StoreError, match=f"{earlier} cannot be read"):
        free.recorded(store)
    record(store, FIRST)  # the same plan again
    assert freed(store) == (0, 0)


def test_checkpoints_of_unwanted_trainings_go(store):
    wanted, unwanted = "train-" + "0" * 16, next(k for k in OTHER.measurements if k[:5] == "train")
    for key in (wanted, unwanted):
        store.files.write(f"checkpoints/{key}.pt", b"half a training")
    store.files.write(f"checkpoints/.{wanted}.pt.7", b"being written")
    freed(store)
    assert list(store.files.list("checkpoints")) == [f"checkpoints/{unwanted}.pt"]


def test_a_driver_that_is_running_loses_nothing(store):
    """Its plan is recorded, its parts are not logged yet, its artifacts are there already."""
    free.forget(store, "small")
    third = plan_of(SMALL.replace("name: small", "name: third").replace("[0, 1]", "[7]"))
    record(store, third)
    writer = Writer(store, "third")
    model = next(k for k in third.measurements if k[:5] == "train")
    store.files.write(f"artifacts/models/{model}.safetensors", b"weights")
    store.files.write(f"checkpoints/{model}.pt", b"half a training")
    rows = pa.table({"sample": [0]})
    staged = write_part(store.files, "models", rows, {}, Stamp("third", writer.writer, "b", 1))
    freed(store)
    compact(store, NOW)
    assert store.files.read(f"artifacts/models/{model}.safetensors") == b"weights"
    assert store.files.read(f"checkpoints/{model}.pt") == b"half a training"
    assert store.files.exists(staged.path)
    writer.refresh()  # not fenced
    store.files.remove(staged.path)
    assert not drive_once(third, store.root).failures
    assert not check(store).problems


def test_a_sweep_that_starts_meanwhile_keeps_what_it_has_seen(store, monkeypatch):
    """It takes over between our reading of the plans and our entry, and finds its rows done."""
    free.forget(store, "small")
    put, started = log.put, []

    def late(files, entry):
        if entry.sweep is None and not started:
            again = plan_of(SMALL.replace("name: small", "name: again"))
            record(store, again)
            started.append(Writer(store, "again"))
        return put(files, entry)

    monkeypatch.setattr(log, "put", late)
    freed(store)
    assert started
    plan = plan_of(SMALL.replace("name: small", "name: again"))
    snapshot = store.snapshot()
    for key, planned in plan.measurements.items():
        if planned.measurement.kind != "solve":
            assert snapshot.coverage(key) == planned.wanted, key
            assert started[0].snapshot.coverage(key) == planned.wanted
    assert not check(store).problems


def test_a_sweep_that_comes_back_before_its_files_go_keeps_them(store):
    free.forget(store, "small")
    ids = free.surplus(store, store.snapshot(), free.recorded(store)).ids
    free.free(store, ids, timedelta(hours=1))
    drive_once(FIRST, store.root)
    assert free.free(store, ids, NOW) == (0, 0)
    compact(store, NOW)
    assert not check(store).problems
    assert drive_once(FIRST, store.root).jobs == 0


def test_a_driver_of_a_forgotten_sweep_stops(store):
    writer = Writer(store, "small")
    free.forget(store, "small")
    with pytest.raises(FencedError):
        writer.refresh()


def test_a_driver_that_begins_while_its_sweep_is_forgotten_stops(store, monkeypatch):
    """It would run on without a recorded plan, and lose its rows to a `compact`."""
    remove, begun = store.files.remove, []

    def slow(key):
        remove(key)
        if key == "sweeps/small/plan.parquet" and not begun:
            record(store, FIRST)
            begun.append(Writer(store, "small"))

    monkeypatch.setattr(store.files, "remove", slow)
    free.forget(store, "small")
    with pytest.raises(FencedError):
        begun[0].refresh()
    assert store.sweeps() == ["other"]
    assert not (store.root / "sweeps" / "small").exists()


def test_a_plan_that_cannot_be_read_stops_all_freeing(store):
    free.forget(store, "small")
    store.files.write("sweeps/other/plan.parquet", b"damaged")
    before = store.snapshot().live
    with pytest.raises(StoreError, match="what that sweep wants is not known"):
        free.free(store, frozenset(FIRST.measurements), NOW)
    assert store.snapshot().live == before
