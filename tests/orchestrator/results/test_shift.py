"""The table of distribution shift: worst cases, means with intervals, and against a baseline."""

import numpy as np
import polars as pl
import pytest

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.intervals import wilson
from robsweep.orchestrator.results.metrics.shift import Wrong, against, mean_error, on_common
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.results.tables.shift import shift_table
from tests.demo_store import DemoSweep

N = 200
CNN, MLP = ("cnn", "standard", 0), ("mlp", "standard", 0)


def given(demo, model, entry, source, wrong, dataset="digits", **parameters):
    """Plans and gives predictions, of which these samples are wrong."""
    section = "clean" if source == "clean" else "shift"
    params = {"source": source, "seed": 0, "parameters": parameters}
    key = demo.ask(
        "predict", section, entry, model, params=params, wanted=[(0, N)], dataset=dataset
    )
    predicted = np.ones(N, dtype=np.int64)
    predicted[list(wrong)] = 0
    columns = {"source": source, "label": 1, "logits": np.eye(2, dtype=np.float32)[predicted],
               "predicted": predicted, "confidence": 0.9}  # fmt: skip
    demo.add(key, "predictions", range(N), columns, classes=2)


def table(root, baseline=None):
    results = Results.open(root)
    return shift_table(results.models("demo"), results._wanted, baseline)


def test_the_worst_case_is_per_sample_over_all_points_of_an_entry(tmp_path):
    demo = DemoSweep(tmp_path)
    for degrees, wrong in ((-30.0, {0, 1}), (0.0, {1}), (30.0, {1, 2, 3})):
        given(demo, CNN, f"turned[degrees={degrees:g}]", "corruption:rotate_by:1", wrong,
              degrees=degrees)  # fmt: skip
    given(demo, CNN, "fog[severity=1]", "corruption:fog:1", {5})
    given(demo, CNN, "fog[severity=4]", "corruption:fog:4", {5, 6, 7})
    rows = table(tmp_path).to_dicts()
    worst = [row["worst_case_accuracy"] for row in rows]
    assert worst == pytest.approx([1 - 4 / N] * 3 + [1 - 3 / N] * 2)
    assert [rows[0][f"worst_case_accuracy_{k}"] for k in ("low", "high")] == pytest.approx(
        wilson(N - 4, N)[1:]
    )
    assert rows[0]["worst_case_accuracy_n"] == rows[0]["worst_case_accuracy_wanted"] == N
    assert rows[0]["worst_case_accuracy_status"] == "done"
    assert [row["severity"] for row in rows] == [None, None, None, 1, 4]
    # a grid is no corruption of the mean
    assert [row["mean_corruption_error"] for row in rows] == pytest.approx([(1 + 3) / 2 / N] * 5)


def both(demo):
    """Two models under two corruptions: 20 and 40, 60 errors of 200; 10 and 20, 20 errors."""
    for model, clean, wrongs in (
        (MLP, range(10), (range(20), range(40), range(60))),
        (CNN, (), (range(10), range(20), range(40, 60))),
    ):
        given(demo, model, "clean", "clean", clean)
        given(demo, model, "fog[severity=1]", "corruption:fog:1", wrongs[0])
        given(demo, model, "fog[severity=2]", "corruption:fog:2", wrongs[1])
        given(demo, model, "snow", "corruption:snow:3", wrongs[2])


def test_errors_against_a_baseline_are_the_published_ratios(tmp_path):
    demo = DemoSweep(tmp_path)
    both(demo)
    rows = table(tmp_path, "mlp").to_dicts()
    own, cnn = rows[:3], rows[3:]
    assert {row["baseline"] for row in rows} == {"mlp/standard"}
    for row in own:
        for name in ("corruption_error", "mean_corruption_error"):
            for of in ("normalised", "relative"):
                values = [row[f"{name}_{of}{end}"] for end in ("", "_low", "_high")]
                assert values == [1.0] * 3
    assert [row["corruption_error_normalised"] for row in cnn] == pytest.approx(
        [(1 + 2) / (2 + 4)] * 2 + [2 / 6]
    )
    assert cnn[0]["mean_corruption_error_normalised"] == pytest.approx((3 / 6 + 2 / 6) / 2)
    # the baseline errs on ten clean images, the other model on none
    assert [row["corruption_error_relative"] for row in cnn] == pytest.approx(
        [(1 + 2) / (1 + 3)] * 2 + [2 / 5]
    )
    assert cnn[0]["mean_corruption_error_relative"] == pytest.approx((3 / 4 + 2 / 5) / 2)
    for name in ("corruption_error_normalised", "mean_corruption_error_relative"):
        assert cnn[0][f"{name}_low"] < cnn[0][name] < cnn[0][f"{name}_high"]
        assert (cnn[0][f"{name}_n"], cnn[0][f"{name}_status"]) == (N, "done")


def test_a_baseline_is_named_on_the_command_line(tmp_path, robsweep):
    both(DemoSweep(tmp_path))
    asked = ("show", "demo", "--store", tmp_path, "--table", "shift", "--baseline", "mlp")
    for more in ((), ("--over-seeds",)):
        code, out, err = robsweep(*asked, "--format", "csv", *more)
        assert code == 0, err
        rows = pl.read_csv(out.encode())
        assert rows["mean_corruption_error_normalised"].to_list() == pytest.approx(
            [1] * 3 + [5 / 12] * 3
        )
        assert rows["baseline"].to_list() == ["mlp/standard"] * 6
    code, _, err = robsweep("show", "demo", "--store", tmp_path, "--baseline", "mlp")
    assert code == 2
    assert "--baseline is of --table comparisons and --table shift" in err


def test_what_cannot_be_divided_says_why(tmp_path):
    demo = DemoSweep(tmp_path)
    both(demo)
    given(demo, CNN, "zoom", "corruption:zoom_blur:3", {1})
    given(demo, MLP, "line", "corruption:zigzag:3", set())
    given(demo, CNN, "line", "corruption:zigzag:3", {3})
    rows = {(row["model"], row["entry"]): row for row in table(tmp_path, "mlp/standard").to_dicts()}
    zoom, line = rows["cnn", "zoom"], rows["cnn", "line"]
    assert zoom["corruption_error_normalised"] is None
    why = "the baseline was not asked about zoom_blur"
    assert zoom["corruption_error_normalised_why"] == why
    assert zoom["mean_corruption_error_normalised_why"] == why
    assert line["corruption_error_normalised"] is None
    assert line["corruption_error_normalised_why"] == (
        "the baseline makes no errors under a corruption"
    )
    assert line["corruption_error_relative_why"] == (
        "the baseline makes no more errors than on clean images under a corruption"
    )
    assert rows["cnn", "snow"]["corruption_error_normalised"] == pytest.approx(2 / 6)


def test_a_baseline_must_be_one_model(tmp_path):
    demo = DemoSweep(tmp_path)
    both(demo)
    assert table(tmp_path, "mlp/standard/0").equals(table(tmp_path, "mlp"))
    given(demo, ("mlp", "noisy", 0), "clean", "clean", set())
    for name, message in (
        ("vgg", "'vgg': no such model; there are: mlp/standard/0, cnn/standard/0, mlp/noisy/0"),
        ("mlp", "baseline 'mlp' is mlp/standard and mlp/noisy: name one"),
    ):
        with pytest.raises(InputError, match=message):
            table(tmp_path, name)


def test_without_a_baseline_there_are_no_ratios(tmp_path):
    demo = DemoSweep(tmp_path)
    both(demo)
    found = table(tmp_path)
    ratios = [name for name in found.columns if "normalised" in name or "relative" in name]
    assert found.select(pl.col(ratios).is_null().all()).row(0) == (True,) * len(ratios)


def test_a_baseline_is_held_against_on_the_same_data_set(tmp_path):
    demo = DemoSweep(tmp_path)
    both(demo)
    for model, wrong in ((MLP, range(30)), (CNN, range(10))):
        given(demo, model, "clean", "clean", range(5), dataset="other")
        given(demo, model, "line", "corruption:zigzag:3", wrong, dataset="other")
    rows = {(row["model"], row["entry"]): row for row in table(tmp_path, "mlp").to_dicts()}
    line = rows["cnn", "line"]
    assert line["dataset"] == "other"
    assert line["corruption_error_normalised"] == pytest.approx(10 / 30)
    assert line["corruption_error_relative"] == pytest.approx(5 / 25)
    assert rows["cnn", "snow"]["corruption_error_normalised"] == pytest.approx(20 / 60)


def test_tiers_are_of_the_mean_of_this_table(tmp_path):
    demo = DemoSweep(tmp_path)
    both(demo)
    for model, wrong in ((CNN, range(150)), (MLP, range(100))):
        given(demo, model, "turned", "corruption:rotate_by:1", wrong, degrees=30.0)
    name = "mean_corruption_error"
    shown = {row["model"]: row for row in table(tmp_path).to_dicts()}
    tiers = Results.open(tmp_path).tiers("demo", name).to_dicts()
    assert [row["model"] for row in tiers] == ["cnn", "mlp"]
    for row in tiers:
        own = shown[row["model"]]
        assert [row["value"], row["value_low"], row["value_high"]] == pytest.approx(
            [own[name], own[f"{name}_low"], own[f"{name}_high"]]
        )
    given(demo, CNN, "fog_again", "corruption:fog:5", range(9), seconds=1)
    tiers = Results.open(tmp_path).tiers("demo", name).to_dicts()
    assert [row["model"] for row in tiers] == ["mlp"]  # of two errors of one there is no mean


def test_common_samples_are_those_of_all():
    errors = on_common(
        [
            Wrong(np.array([0, 2, 3, 5]), np.array([1.0, 0, 1, 0])),
            Wrong(np.array([2, 3, 4, 5, 6]), np.array([1.0, 1, 0, 0, 0])),
        ]
    )
    assert errors.tolist() == [[0, 1], [1, 1], [0, 0]]


def test_the_interval_of_a_mean_error_knows_what_goes_together():
    random = np.random.default_rng(0)
    one = (random.random((400, 1)) < 0.2).astype(float)
    assert mean_error([one]) == pytest.approx(wilson(one.sum(), 400))
    alike = mean_error([np.repeat(one, 5, axis=1)])  # nothing new
    assert alike == pytest.approx(wilson(one.sum(), 400))
    apart = (random.random((400, 25)) < 0.2).astype(float)
    value, low, high = mean_error([apart[:, :15], apart[:, 15:]])
    assert value == pytest.approx((apart[:, :15].mean() + apart[:, 15:].mean()) / 2)
    assert high - low == pytest.approx(wilson(0.2 * 1e4, 1e4).high - wilson(2e3, 1e4).low, rel=0.1)
    none = mean_error([np.zeros((400, 3))])
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(wilson(0, 400).high)
    assert np.isnan(mean_error([np.zeros((0, 2))]).value)


def test_a_ratio_has_no_limits_where_nothing_is_known_of_it():
    ours, theirs = np.zeros((50, 2)), np.ones((50, 2))
    value, low, high = against([ours], [theirs])
    assert value == 0
    assert np.isnan([low, high]).all()
    assert against([theirs], [theirs]) == (1, 1, 1)
    assert np.isnan(against([theirs], [ours]).value)
    few = np.zeros((50, 2))
    few[:4] = 1  # a divisor that might as well be 0
    value, low, high = against([theirs], [few])
    assert value == pytest.approx(50 / 4)
    assert np.isnan([low, high]).all()
    # as many errors as the baseline, which had some before
    before = np.arange(50) % 2.0
    value, low, high = against([theirs], [theirs], (np.zeros(50), before))
    assert value == pytest.approx(2)
    assert low < 2 < high


def test_limits_of_a_ratio_are_those_of_the_delta_method():
    random = np.random.default_rng(1)
    a, b = ((random.random((900, 1)) < p).astype(float) for p in (0.2, 0.4))
    value, low, high = against([a], [b])
    p, q, both_ = a.mean(), b.mean(), (a * b).mean()
    variance = ((1 - p) / p + (1 - q) / q - 2 * (both_ - p * q) / (p * q)) / 900
    half = 1.959964 * np.sqrt(variance * 900 / 899)
    assert value == pytest.approx(p / q)
    assert np.log([low, high]) == pytest.approx([np.log(p / q) - half, np.log(p / q) + half])
