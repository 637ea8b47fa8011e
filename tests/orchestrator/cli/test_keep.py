"""`delete` and `compact`: what goes is said and asked first, and nobody else loses anything."""

import sys

import polars as pl
import pytest

from robsweep.orchestrator.cli.keep import _say_lost
from robsweep.orchestrator.results.results import TABLES, Results
from robsweep.orchestrator.store.lost import Lost
from robsweep.orchestrator.store.store import Store
from tests.stores import all_rows
from tests.sweeps import TINY, sweep

OTHER = (
    TINY.replace("name: small", "name: other")
    .replace("steps: 2", "steps: 3")
    .replace("eps: 0.02", "eps: 0.01")  # what is proved at 0.02 is proved here
)


def contents(location):
    return sorted(p for p in location.rglob("*") if p.is_file())


@pytest.fixture
def store(robsweep, tmp_path):
    for text in (TINY, OTHER):
        code, _, err = robsweep("run", sweep(text))
        assert code == 0, err
    return Store.open(tmp_path / "results")


def answering(monkeypatch, yes):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: yes)


# three sweeps are run: seconds, as torch and ortools work
def test_a_sweep_is_forgotten_and_the_other_keeps_its_tables(robsweep, store):
    tables = {table: Results.open(store.root).table("other", table) for table in TABLES}
    before = set(store.snapshot().live)
    code, out, err = robsweep("delete", "small", "--yes")
    assert (code, out) == (0, "")
    assert "measurements with" in err
    assert store.sweeps() == ["other"]
    assert set(store.snapshot().live) == before
    code, out, err = robsweep("compact", "--yes")
    assert code == 0
    assert "wanted by no sweep" in err
    assert "rows that no sweep wants are gone, 0 files" in out
    assert before <= set(store.files.list("parts"))
    code, out, _ = robsweep("compact", "--yes", "--grace", "0")
    assert code == 0
    assert set(store.files.list("parts")) == set(store.snapshot().live)
    assert robsweep("check")[0] == 0
    for table, rows in tables.items():
        assert Results.open(store.root).table("other", table).equals(rows), table
    attacks = all_rows(store.root, "attacks")["measurement_id"].to_pylist()
    assert len(set(attacks)) == 1
    code, _, err = robsweep("run", sweep(TINY))
    assert code == 0, err
    again = all_rows(store.root, "attacks")["measurement_id"].to_pylist()
    assert len(again) == 2 * len(attacks)
    assert robsweep("check")[0] == 0


def test_without_a_terminal_somebody_must_say_yes(robsweep, store):
    before = contents(store.root)
    code, out, err = robsweep("delete", "small")
    assert (code, out) == (2, "")
    assert "robsweep delete small --yes" in err
    assert contents(store.root) == before
    robsweep("delete", "small", "--yes")
    rows = all_rows(store.root, "attacks").num_rows
    code, out, err = robsweep("compact", "--grace", "0")
    assert code == 0
    assert "they stay: robsweep compact --yes" in err
    assert all_rows(store.root, "attacks").num_rows == rows


def test_in_a_terminal_the_answer_counts(robsweep, store, monkeypatch):
    answering(monkeypatch, yes=False)
    before = contents(store.root)
    assert robsweep("delete", "small")[0] == 1
    assert contents(store.root) == before
    answering(monkeypatch, yes=True)
    assert robsweep("delete", "small")[0] == 0
    assert store.sweeps() == ["other"]
    answering(monkeypatch, yes=False)
    rows = all_rows(store.root, "attacks").num_rows
    assert robsweep("compact", "--grace", "0")[0] == 0
    assert all_rows(store.root, "attacks").num_rows == rows
    answering(monkeypatch, yes=True)
    assert robsweep("compact", "--grace", "0")[0] == 0
    assert 0 < all_rows(store.root, "attacks").num_rows < rows


def test_what_goes_is_named_before_it_is_asked_for(robsweep, store):
    # `other` wants the models and the proofs; of `small` go an attack and its rows
    (key,) = {
        *Results.open(store.root).plan("small").filter(pl.col("kind") == "attack")["measurement_id"]
    }
    tables = [all_rows(store.root, table).to_pylist() for table in ("attacks", "predictions")]
    rows = sum(row["measurement_id"] == key for table in tables for row in table)
    line = f"  attack LinfPGD of mlp/standard/0: {rows} rows, by sweep small ({key})"
    assert rows > 0
    assert line in robsweep("delete", "small", "--yes")[2].splitlines()
    err = robsweep("compact")[2]
    assert line in err.splitlines()
    assert " more" not in err
    robsweep("delete", "other", "--yes")
    lines = robsweep("compact")[2].splitlines()
    assert any(text.startswith("  train ") and "small" in text for text in lines)


def test_of_many_only_the_largest_are_named(capsys):
    _say_lost([Lost(f"attack-{n}", "attack", "LinfPGD", "m", n, ("s",)) for n in range(33)])
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert last == "  and 13 more"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["delete", "smal", "--yes"], "did you mean 'small'?"),
        (["compact", "--grace", "-1"], "--grace -1: expected 0 seconds or more"),
        (["compact", "--grace", "nan"], "--grace nan"),
        (["compact", "--grace", "inf"], "--grace inf"),
    ],
)
def test_wrong_input_changes_nothing(robsweep, words, message, tmp_path):
    store = Store.create(tmp_path / "results")
    store.files.write("sweeps/small/plan.parquet", b"")
    before = contents(store.root)
    code, out, err = robsweep(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert contents(store.root) == before
