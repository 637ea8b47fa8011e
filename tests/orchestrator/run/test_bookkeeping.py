"""The books of a run: every job is claimed, in flight, finished and committed, once."""

from datetime import UTC, datetime

import pytest

from robsweep.orchestrator.run.bookkeeping import Books
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.work import Outcome, Workplace, work
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Writer
from robsweep.tasks.job import Inputs, Job
from tests.stores import all_rows
from tests.sweeps import TINY, plan_of

PLAN = plan_of(TINY)


def job(kind, start, stop):
    planned = next(p for key, p in PLAN.measurements.items() if key.startswith(kind))
    return Job(planned.measurement, start, stop, planned.setting)


def done(one):
    return work(one, Inputs(), Workplace(runner="tests.runners:rows"))


@pytest.fixture
def books(tmp_path):
    store = Store.create(tmp_path / "s")
    writer = Writer(store, PLAN.name)
    reader = InputReader(PLAN, store, writer.snapshot)
    return Books(PLAN, writer, reader, OpenRows(PLAN), {})


def test_claims_grow_together(books):
    for start in (0, 100, 50):
        books.claim(job("attack", start, start + 50))
    assert [*books.claimed.values()] == [((0, 150),)]


def test_a_finished_job_waits_for_the_commit(books, tmp_path):
    one = job("predict", 0, 100)
    books.start(one)
    assert (books.in_flight, books.pending_bytes) == (1, 0)
    books.end(one, done(one))
    assert books.in_flight == 0
    assert books.pending_bytes > 0
    key = one.measurement.measurement_id
    assert Store.open(tmp_path / "s").snapshot().coverage(key) == ()
    books.commit()
    assert Store.open(tmp_path / "s").snapshot().coverage(key) == ((0, 100),)
    assert (books.pending, books.pending_bytes) == ([], 0)


def test_a_failed_job_leaves_its_row_and_no_sample(books, tmp_path):
    one = job("attack", 0, 50)
    books.start(one)
    books.end(one, Outcome("failed", 1.5, datetime.now(UTC), error="Traceback\nno luck"))
    books.commit()
    (row,) = all_rows(tmp_path / "s", "jobs").to_pylist()
    assert (row["status"], row["start"], row["stop"]) == ("failed", 0, 50)
    assert row["error"].endswith("no luck")
    assert not Store.open(tmp_path / "s").snapshot().coverage(one.measurement.measurement_id)


def test_a_job_ends_only_once(books):
    one = job("attack", 0, 50)
    books.start(one)
    books.end(one, done(one))
    with pytest.raises(KeyError):
        books.end(one, done(one))


def test_what_a_screen_leaves_open_is_open_after_the_commit(tmp_path):
    store = Store.create(tmp_path / "s")
    writer, open_rows = Writer(store, PLAN.name), OpenRows(PLAN)
    books = Books(PLAN, writer, InputReader(PLAN, store, writer.snapshot), open_rows, {})
    one = job("screen", 0, 100)
    books.start(one)
    outcome = done(one)
    books.end(one, outcome)
    assert [*open_rows.open.values()] == [{}]
    books.commit()
    rows = outcome.tables["verification"].to_pylist()
    unknown = {row["sample"] for row in rows if row["verdict"] == "unknown"}
    assert {*next(iter(open_rows.open.values()))} == unknown != set()


def test_a_checkpoint_goes_when_its_model_is_in_the_log(books, tmp_path):
    one = job("train", 0, 1)
    file = tmp_path / "s" / "checkpoints" / f"{one.measurement.measurement_id}.pt"
    file.parent.mkdir()
    file.write_bytes(b"half")
    books.start(one)
    books.end(one, done(one))
    assert file.exists()
    books.commit()
    assert not file.exists()
