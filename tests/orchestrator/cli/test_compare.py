import io

import polars as pl
import pytest

from tests.demo_store import whole_sweep


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return whole_sweep(tmp_path_factory.mktemp("demo") / "store")


def test_pairs_with_a_baseline(robsweep, demo):
    code, out, _ = robsweep(
        "show", demo.name, "--store", str(demo.root), "--table", "comparisons",
        "--metric", "auroc", "--baseline", "wk17a", "--format", "csv",
    )  # fmt: skip
    table = pl.read_csv(io.StringIO(out))
    assert code == 0
    assert {*table["metric"]} == {"auroc"}
    assert {*table["other_model"]} == {"wk17a"}
    assert len(table) == 5 * 4  # scorers x sets
    assert (table["p_holm"] >= table["p"]).all()
    code, out, _ = robsweep(
        "show", demo.name, "--store", str(demo.root), "--table", "tiers", "--metric", "auroc",
    )  # fmt: skip
    assert "first_in_halves" in out
    assert "robust_accuracy" not in out


@pytest.mark.parametrize("style", ["text", "csv", "latex", "markdown"])
def test_over_seeds(robsweep, demo, style):
    code, out, _ = robsweep(
        "show", demo.name, "--store", str(demo.root), "--over-seeds", "--format", style
    )
    assert code == 0
    if style == "csv":
        table = pl.read_csv(io.StringIO(out))
        assert {*table["seeds"]} == {1, 2}
        assert len(table) == 4 * 5
        assert (table["bracket_low"].drop_nulls() <= table["bracket_high"].drop_nulls()).all()
    else:
        assert "+- " in out
        assert "2 seeds" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table", "ood", "--metric", "auroc"], "--table comparisons"),
        (["--table", "tiers", "--baseline", "cnn"], "--table comparisons"),
        (["--table", "honesty", "--over-seeds"], "no mean over seeds of honesty"),
        (["--table", "comparisons", "--metric", "speed"], "clean_accuracy"),
        (["--table", "comparisons", "--baseline", "nobody"], "cnn/standard/0"),
    ],
)
def test_what_makes_no_sense_is_refused(robsweep, demo, words, said):
    code, _, err = robsweep("show", demo.name, "--store", str(demo.root), *words)
    assert code == 2
    assert said in err
