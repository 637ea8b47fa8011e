import io

import polars as pl
import pytest

from robsweep.orchestrator.results.report import cell, eps_text, honesty_text, readable, render

TABLE = pl.DataFrame(
    {
        "model": ["cnn_small", "a|b"],
        "model_id": ["train-1", "train-2"],
        "eps": [8 / 255, 0.1],
        "clean_accuracy": [0.986, None],
        "clean_accuracy_low": [0.979, None],
        "clean_accuracy_high": [0.991, None],
        "clean_accuracy_n": [250, 0],
        "clean_accuracy_wanted": [1000, 1000],
        "bracket_low": [0.5, None],
        "bracket_high": [0.75, None],
        "bracket_n": [100, None],
        "bracket_wanted": [100, None],
        "nll": [0.123456, None],
        "never": pl.Series([None, None], dtype=pl.Float64),
        "id_n": [400, 400],
    }
)


def test_a_metric_shares_a_cell_with_its_interval_and_count():
    shown = readable(TABLE)
    assert shown.columns == ["model", "eps", "clean_accuracy", "bracket", "nll", "id_n"]
    assert shown.row(0) == (
        "cnn_small", "8/255", "98.6 % [97.9, 99.1] n=250/1000", "50.0 .. 75.0 % n=100",
        "0.1235", "400",
    )  # fmt: skip
    assert shown.row(1) == ("a|b", "0.1", "-", "-", "-", "400")


def test_a_complete_count_has_no_wanted():
    row = {"ece": 0.012, "ece_low": 0.01, "ece_high": 0.014, "ece_n": 5, "ece_wanted": 5}
    assert cell("ece", row) == "1.2 % [1.0, 1.4] n=5"
    assert cell("median_distance", {"median_distance": 0.5}) == "0.5"


def test_an_upper_limit_alone_is_shown():
    row = {"ece_if_calibrated": 0.08, "ece_if_calibrated_low": None, "ece_if_calibrated_high": 0.12}
    assert cell("ece_if_calibrated", row) == "8.0 % [up to 12.0]"


def test_text_is_aligned():
    lines = render(TABLE, "text").splitlines()
    assert lines[0].split() == ["model", "eps", "clean_accuracy", "bracket", "nll", "id_n"]
    assert len({line.index("8/255") + 5 for line in lines[2:3]} | {lines[0].index("eps") + 3}) == 1
    assert len({len(line) for line in lines}) == 1


def test_csv_has_everything():
    again = pl.read_csv(io.StringIO(render(TABLE, "csv")))
    assert again.columns == TABLE.columns
    assert again["clean_accuracy"].to_list() == [0.986, None]


def test_markdown_and_latex_escape_what_they_must():
    assert "| a\\|b |" in render(TABLE, "markdown")
    latex = render(TABLE, "latex")
    assert r"cnn\_small & 8/255 & 98.6 \% [97.9, 99.1] n=250/1000" in latex
    assert latex.count(r"\\") == 3


@pytest.mark.parametrize("form", ["text", "csv", "latex", "markdown"])
def test_an_empty_table_still_has_its_header(form):
    header = render(TABLE.clear(), form).replace("\\_", "_")
    assert "clean_accuracy" in header


@pytest.mark.parametrize(
    ("eps", "text"),
    [(None, "-"), (0.1, "0.1"), (4 / 255, "4/255"), (0.2, "0.2"), (1.0, "1"), (0.03137, "0.03137")],
)
def test_eps_text(eps, text):
    assert eps_text(eps) == text


def test_honesty_checks_that_could_not_run_are_told_once():
    rows = [("cnn", "loss increases", "fail", 9, "bad"), ("cnn", "soundness", "not run", 0, "why")]
    rows.append(("mlp", "soundness", "not run", 0, "why"))
    columns = ["model", "check", "status", "n", "detail"]
    table = pl.DataFrame(rows, schema=columns, orient="row").with_columns(norm=pl.lit("l2"))
    ran, _, absent = honesty_text(table).partition("\nnot run")
    assert "loss increases" in ran
    assert "soundness" not in ran
    assert absent.splitlines()[-1].split() == ["l2", "soundness", "2", "why"]
    assert "not run" not in honesty_text(table.filter(pl.col("status") == "fail"))
