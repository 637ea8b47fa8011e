"""The commit rule: what is in the log counts, once, whoever races whom."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from robsweep.orchestrator.errors import FencedError, StoreError
from robsweep.orchestrator.files import LocalFiles
from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.store import log
from robsweep.orchestrator.store.compact import compact
from robsweep.orchestrator.store.parts import Stamp, write_part
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.rows import Keys, schema, table
from tests.stores import all_rows

KEY = "attack-0123456789abcdef"


def rows(start, stop, key=KEY):
    keys = Keys(key, "m", "w", "digits", "test", 0)
    return table("attacks", keys, range(start, stop), {"attack": "a", "eps": 0.1, "success": True})


def finished(writer, start, stop, key=KEY, **more):
    row = dict.fromkeys(schema("jobs").names)
    row |= {"measurement_id": key, "start": start, "stop": stop, "status": "done"}
    seq = more.pop("cut_seq", writer.snapshot.seq)
    return Finished(key, start, stop, seq, row, {"attacks": rows(start, stop, key)}, **more)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store")


def samples(store):
    return all_rows(store.root, "attacks")["sample"].to_pylist()


def test_committed_ranges_are_covered_and_adjacent_ones_share_a_part(store):
    writer = Writer(store, "one")
    writer.commit([finished(writer, 0, 250), finished(writer, 250, 500)])
    snapshot = store.snapshot()
    assert snapshot.coverage(KEY) == ((0, 500),)
    assert len(snapshot.parts("attacks")) == 1
    assert samples(store) == list(range(500))


def test_an_uncommitted_part_does_not_count(store):
    write_part(store.files, "attacks", rows(0, 9), {KEY: ((0, 9),)}, Stamp("s", "w", "b", 1))
    assert store.snapshot().coverage(KEY) == ()
    assert not store.snapshot().parts("attacks")


def test_two_sweeps_that_cover_the_same_samples_count_them_once(store):
    one, two = Writer(store, "one"), Writer(store, "two")
    first, second = finished(one, 0, 1000), finished(two, 250, 1250)
    two.refresh()
    second = finished(two, 250, 1250, cut_seq=two.snapshot.seq)
    one.commit([first])
    two.commit([second])  # cut before the first was known to be done
    assert samples(store) == list(range(1250))
    assert store.snapshot().coverage(KEY) == ((0, 1250),)
    assert not check(store).problems


def test_a_sweep_that_lost_all_its_samples_says_so_in_its_job_row(store):
    one, two = Writer(store, "one"), Writer(store, "two")
    late = finished(two, 0, 250)
    one.commit([finished(one, 0, 250)])
    two.commit([late])
    assert all_rows(store.root, "jobs")["status"].to_pylist() == ["cancelled", "done"]
    assert samples(store) == list(range(250))


def test_retried_samples_are_kept_beside_the_first_ones(store):
    one = Writer(store, "one")
    one.commit([finished(one, 0, 10)])
    two = Writer(store, "two")
    two.commit([finished(two, 0, 10)])  # cut when the first was known: a wish, not a race
    assert len(samples(store)) == 20


def test_a_sample_may_be_solved_by_two_sweeps_and_both_rows_count(store):
    one, two = Writer(store, "one"), Writer(store, "two")
    key = "solve-0123456789abcdef"

    def solved(writer, verdict):
        columns = {"verdict": verdict, "property": "untargeted", "norm": "linf", "eps": 0.1}
        rows_ = table("verification", Keys(key, "m", "w", "d", "test", 0), [7], columns)
        row = dict.fromkeys(schema("jobs").names) | {"measurement_id": key, "status": "done"}
        return Finished(key, 7, 8, 0, row, {"verification": rows_})

    late = solved(two, "verified")
    one.commit([solved(one, "timeout")])
    two.commit([late])
    verdicts = all_rows(store.root, "verification")["verdict"].to_pylist()
    assert sorted(verdicts) == ["timeout", "verified"]
    assert [part.table for part in two.news] == ["jobs", "verification"]
    assert not check(store).problems


def test_many_writers_at_once_lose_and_double_nothing(store):
    writers = [Writer(store, f"sweep{i}") for i in range(6)]
    barrier = threading.Barrier(len(writers))

    def work(index):
        writer = writers[index]
        barrier.wait()
        for step in range(8):
            start = (index + step) % 8 * 100
            key = "attack-" + f"{step % 2}" * 16
            writer.commit([finished(writer, start, start + 150, key, cut_seq=0)])

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(work, range(len(writers))))
    assert not check(store).problems
    rows_ = all_rows(store.root, "attacks").select(["measurement_id", "sample"]).to_pylist()
    for key in {row["measurement_id"] for row in rows_}:
        mine = [row["sample"] for row in rows_ if row["measurement_id"] == key]
        assert len(mine) == len(set(mine))
        covered = store.snapshot().coverage(key)
        assert sum(stop - start for start, stop in covered) == len(mine)
    names = sorted(p.name for p in (store.root / "log").glob("*.json"))
    assert names == [f"{i:012d}.json" for i in range(1, len(names) + 1)]


def test_a_stale_driver_is_fenced_at_its_next_commit(store):
    old = Writer(store, "one")
    job = finished(old, 0, 250)
    new = Writer(store, "one")
    new.commit([finished(new, 0, 250)])
    with pytest.raises(FencedError, match="took over"):
        old.commit([job])
    assert samples(store) == list(range(250))
    other = Writer(store, "two")  # another sweep's writer is not concerned
    other.commit([finished(other, 250, 500)])
    assert samples(store) == list(range(500))


class LostAnswer(LocalFiles):
    """The put arrives but its answer does not."""

    def put_if_absent(self, key, content):
        super().put_if_absent(key, content)
        if key.startswith("log/0"):
            raise ConnectionError("connection reset")
        return True


def test_an_ambiguous_put_is_resolved_by_reading_back(store):
    shaky = Store(LostAnswer(store.root), store.root, store.store_id)
    writer = Writer(shaky, "one")
    writer.commit([finished(writer, 0, 250)])
    assert samples(store) == list(range(250))
    assert store.snapshot().seq == 2


def unlogged(store, sweep, batch, start, stop, count=1):
    stamp = Stamp(sweep, "dead", batch, count)
    return write_part(
        store.files, "attacks", rows(start, stop), {KEY: ((start, stop),)}, stamp
    ).path


def test_parts_of_a_dead_driver_are_adopted_or_quarantined(store):
    Writer(store, "one")
    unlogged(store, "one", "whole", 0, 250)
    half = unlogged(store, "one", "half", 250, 500, count=2)
    alien = unlogged(store, "two", "alien", 500, 750)
    (store.root / "parts/attacks/broken.parquet").write_bytes(b"PAR1 not really")
    writer = Writer(store, "one")
    assert (writer.adopted, writer.quarantined) == (1, 2)
    assert samples(store) == list(range(250))
    assert (store.root / "quarantine" / half).exists()
    assert (store.root / alien).exists()  # another sweep's driver may still log it
    again = Writer(store, "one")
    assert (again.adopted, again.quarantined) == (0, 0)


def test_what_is_covered_already_is_not_adopted(store):
    unlogged(store, "one", "late", 200, 300)
    other = Writer(store, "two")
    other.commit([finished(other, 0, 250)])
    writer = Writer(store, "one")
    assert (writer.adopted, writer.quarantined) == (0, 1)
    assert samples(store) == list(range(250))


def test_reading_from_a_checkpoint_equals_reading_all(store, monkeypatch):
    monkeypatch.setattr(log, "CHECKPOINT_EVERY", 5)
    writer = Writer(store, "one")
    for i in range(12):
        writer.commit([finished(writer, i * 10, i * 10 + 10)])
    from_checkpoint = store.snapshot()
    for path in (store.root / "log").glob("checkpoint-*"):
        path.unlink()
    from_start = store.snapshot()
    assert from_checkpoint == from_start
    assert from_start.coverage(KEY) == ((0, 120),)


def test_compaction_keeps_rows_and_coverage_and_a_running_writer(store):
    from datetime import timedelta

    writer = Writer(store, "one")
    for i in range(5):
        writer.commit([finished(writer, i * 10, i * 10 + 10)])
    before = all_rows(store.root, "attacks")
    late = finished(writer, 50, 60)
    done = compact(store, timedelta(hours=1))
    assert (done.before, done.deleted) == (10, 0)
    assert len(store.snapshot().parts("attacks")) == 1
    assert all_rows(store.root, "attacks").equals(before)
    writer.commit([late])  # compaction is nobody else's coverage
    assert store.snapshot().coverage(KEY) == ((0, 60),)
    assert compact(store, timedelta(0)).deleted >= 10
    assert samples(store) == list(range(60))
    assert not check(store).problems


def test_check_finds_what_is_wrong(store):
    writer = Writer(store, "one")
    for start in (0, 10, 20):
        writer.commit([finished(writer, start, start + 10)])
    first, second, third = (store.root / p.path for p in store.snapshot().parts("attacks"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"!")
    problems = check(store).problems
    assert len(problems) == 2
    assert "gone" in problems[0]
    assert "SHA-256" in problems[1]
    assert third.exists()


def test_a_gap_and_a_damaged_entry_are_refused(store):
    writer = Writer(store, "one")
    for start in (0, 10, 20):
        writer.commit([finished(writer, start, start + 10)])
    entry = store.root / log.entry_key(3)
    content = entry.read_bytes()
    entry.write_bytes(content[:20])
    with pytest.raises(StoreError, match="damaged"):
        store.snapshot()
    entry.unlink()
    with pytest.raises(StoreError, match="gap"):
        store.snapshot()


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="not a robsweep store"):
        Store.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not empty"):
        Store.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "store.json").write_text(json.dumps({"format": 2, "id": "x"}))
    with pytest.raises(StoreError, match="upgrade"):
        Store.open(tmp_path)


def test_a_full_disk_leaves_no_half_file(store, monkeypatch):
    import os

    def full(_):
        raise OSError(28, "No space left on device")

    writer = Writer(store, "one")
    job = finished(writer, 0, 250)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            writer.commit([job])
    assert not [p for p in store.root.rglob("*") if p.name.startswith(".tmp-")]
    writer.commit([job])
    assert samples(store) == list(range(250))


def test_rows_of_other_classes_have_another_fingerprint():
    from robsweep.orchestrator.store.parts import fingerprint

    ten, three = (fingerprint(schema("predictions", n)) for n in (10, 3))
    assert ten != three
    assert fingerprint(pa.schema([("a", pa.int64())])) == fingerprint(
        pa.schema([("a", pa.int64())])
    )
