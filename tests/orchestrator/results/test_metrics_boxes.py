import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from robsweep.orchestrator.results.intervals import spearman
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.results.tables.boxes import distinct_minima
from tests.demo_store import DemoSweep


def test_spearman_is_scipys():
    rng = np.random.default_rng(0)
    for n in (4, 7, 50):
        x, y = rng.normal(size=n), rng.integers(0, 4, n)  # with ties
        assert spearman(x, y).value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_the_interval_covers_as_often_as_it_says():
    """Of normal pairs with correlation 0.6, whose rank correlation is known in closed form."""
    rng, r = np.random.default_rng(1), 0.6
    truth = 6 / np.pi * np.arcsin(r / 2)
    inside = 0
    for _ in range(1000):
        x, noise = rng.normal(size=(2, 25))
        found = spearman(x, r * x + np.sqrt(1 - r * r) * noise)
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 1000 <= 0.98


def test_no_correlation_where_there_is_none_to_speak_of():
    for x, y in (([], []), ([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 4], [5, 5, 5, 5])):
        assert np.isnan(spearman(x, y).value)
    entire = spearman([1, 2, 3, 4], [9, 7, 5, 1])
    assert entire.value == -1
    assert np.isnan([entire.low, entire.high]).all()


def minima(*rows):
    names = ("loss", "sensitivity")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Float64), orient="row")


def test_minima_that_agree_count_once():
    found = distinct_minima(
        minima(
            (0.2, -3.0),
            (0.1, -3.0),
            (0.1 * (1 + 5e-7), -3.0 * (1 + 5e-4)),  # the same one, found less exactly
            (0.1, -3.0 * (1 + 5e-3)),
            (0.1 * (1 + 5e-6), -3.0),
            (0.1, -3.0),
        )
    )
    assert found["loss"].to_list() == [0.1, 0.1, 0.1 * (1 + 5e-6), 0.2]
    assert len(distinct_minima(minima())) == 0


def test_sensitivity_table(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    key = demo.ask(
        "sensitivity", "sensitivity", "boxes", eps=[0.0, 0.1], params={"method": "crown"}
    )
    volumes = {0.0: [-np.inf] * 7, 0.1: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, np.inf]}
    widths = {0.0: [0.0] * 7, 0.1: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 14.0]}
    columns = {
        "method": "crown",
        "eps": [0.0, 0.1] * 7,
        "log_volume": [volumes[eps][i] for i in range(7) for eps in (0.0, 0.1)],
        "mean_width": [widths[eps][i] for i in range(7) for eps in (0.0, 0.1)],
    }
    demo.add(key, "sensitivity", [i for i in range(7) for _ in range(2)], columns)
    other = demo.ask("sensitivity", "sensitivity", "later", eps=[0.1])
    rows = Results.open(tmp_path / "s").table("demo", "sensitivity").to_dicts()
    flat, round_, missing = rows
    assert (flat["mean_log_volume"], flat["infinite_log_volume"]) == (None, 7)
    assert flat["median_width"] == flat["mean_width"] == 0
    assert (round_["mean_log_volume"], round_["infinite_log_volume"]) == (3.5, 1)
    assert (round_["median_width"], round_["mean_width"]) == (4.0, 5.0)
    assert (round_["median_width_n"], round_["median_width_wanted"]) == (7, 10)
    assert (missing["median_width"], missing["median_width_n"]) == (None, 0)
    assert other


def test_landscape_table(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    params = {"eps": 0.05, "measure": "log_volume"}
    key = demo.ask("landscape", "landscape", "minima", params=params, wanted=[(0, 4)])
    loss = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.1])
    columns = {
        "step": list(range(6)),
        "loss": loss,
        "sensitivity": [1.0, 3.0, 2.0, 4.0, 5.0, 1.0],
        "accuracy": 0.9,
        "robust_accuracy": [0.9, 0.8, 0.7, 0.6, 0.5, 0.9],
        "gradient_norm": 1e-8,
        "accepted": True,
    }
    demo.add(key, "landscape", [0, 0, 0, 1, 1, 2], columns, covers=(0, 3))
    demo.ask("landscape", "landscape", "later", params=params, wanted=[(0, 4)])
    row, missing = Results.open(tmp_path / "s").table("demo", "landscape").to_dicts()
    assert (row["minima"], row["chains"], row["chains_planned"]) == (5, 3, 4)
    assert (row["lowest_loss"], row["highest_loss"]) == (0.1, 0.5)
    assert row["sensitivity_correlation"] == pytest.approx(0.9)
    assert row["sensitivity_correlation_low"] < 0.9 < row["sensitivity_correlation_high"]
    assert row["robust_accuracy_correlation"] == pytest.approx(-1)
    assert row["robust_accuracy_correlation_n"] == 5
    assert (missing["minima"], missing["sensitivity_correlation"]) == (0, None)
