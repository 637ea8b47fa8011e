import numpy as np
import pytest
from scipy.stats import binomtest, kstest, norm

from robsweep.orchestrator.results.comparisons import weighted
from robsweep.orchestrator.results.comparisons.delong import areas
from robsweep.orchestrator.results.comparisons.metrics import METRICS, compare, first_in_halves
from robsweep.orchestrator.results.comparisons.paired import holm, normal, shares
from robsweep.orchestrator.results.comparisons.recipes import Together, contrast
from robsweep.orchestrator.results.comparisons.samples import Part, shared
from robsweep.orchestrator.results.comparisons.tiers import tiers
from robsweep.orchestrator.results.metrics.calibration import errors
from robsweep.orchestrator.results.metrics.calibration_bins import equal_width
from robsweep.orchestrator.results.metrics.detection.selective import selective


def part(*columns, samples=None):
    values = np.stack([np.asarray(column, float) for column in columns], axis=1)
    return Part(np.arange(len(values)) if samples is None else np.asarray(samples), values)


@pytest.mark.parametrize("seed", range(4))
def test_shares_by_the_binomial_test_of_the_samples_where_two_disagree(seed):
    rng = np.random.default_rng(seed)
    right = rng.random((60, 3)) < [0.9, 0.8, 0.7]
    found = shares(right)
    for i, j in ((0, 1), (2, 1), (0, 2)):
        b, c = (right[:, i] & ~right[:, j]).sum(), (~right[:, i] & right[:, j]).sum()
        assert found.p[i, j] == pytest.approx(binomtest(int(b), int(b + c)).pvalue)
        assert found.difference[i, j] == pytest.approx(right[:, i].mean() - right[:, j].mean())
        assert found.low[i, j] <= found.difference[i, j] <= found.high[i, j]
    assert (np.diag(found.p) == 1).all()


def test_the_interval_of_a_difference_of_shares_covers():
    """2,000 draws; 1.5 % is 3 standard errors below 95 %."""
    rng = np.random.default_rng(0)
    both, only_a, only_b = 0.85, 0.07, 0.03
    drawn = rng.multinomial(200, [both, only_a, only_b, 0.05], 2000)
    covered = []
    for a_and_b, a, b, _ in drawn:
        right = np.zeros((200, 2), bool)
        right[: a_and_b + a, 0] = True
        right[:a_and_b, 1] = right[a_and_b + a : a_and_b + a + b, 1] = True
        found = shares(right)
        covered.append(found.low[0, 1] <= only_a - only_b <= found.high[0, 1])
    assert np.mean(covered) > 0.935


@pytest.mark.parametrize("decimals", [0, 9])
def test_covariance_of_aurocs_by_brute_force(decimals):
    rng = np.random.default_rng(1)
    base_ood, base_id = rng.normal(1, 1, 40), rng.normal(0, 1, 50)
    ood = [(base_ood + rng.normal(0, s, 40)).round(decimals) for s in (0.2, 0.5, 2)]
    id_ = [(base_id + rng.normal(0, s, 50)).round(decimals) for s in (0.2, 0.5, 2)]
    found = areas([(part(x), part(y)) for x, y in zip(ood, id_, strict=True)])
    kernels = [
        (x[:, None] > y[None, :]) + (x[:, None] == y[None, :]) / 2
        for x, y in zip(ood, id_, strict=True)
    ]
    for i in range(3):
        assert found.values[i] == pytest.approx(kernels[i].mean())
        for j in range(3):
            rows = [kernels[k].mean(axis=1) - kernels[k].mean() for k in (i, j)]
            columns = [kernels[k].mean(axis=0) - kernels[k].mean() for k in (i, j)]
            by_hand = rows[0] @ rows[1] / 39 / 40 + columns[0] @ columns[1] / 49 / 50
            assert found.covariance()[i, j] == pytest.approx(by_hand)


def test_equal_models_are_told_apart_as_often_as_the_level_says():
    """600 pairs of models that are equally good; p-values must be uniform, and pairing must help:
    two noises of .3 on shared scores differ far less than two unpaired sets of samples."""
    rng = np.random.default_rng(0)
    p, half = [], []
    for _ in range(600):
        ood, id_ = rng.normal(1, 1, 100)[:, None], rng.normal(0, 1, 100)[:, None]
        noisy = [
            (part((ood + rng.normal(0, 0.3, (100, 1)))[:, 0]),
             part((id_ + rng.normal(0, 0.3, (100, 1)))[:, 0]))
            for _ in range(2)
        ]  # fmt: skip
        found = compare(METRICS["auroc"], noisy)
        p.append(found.p[0, 1])
        half.append(found.high[0, 1] - found.difference[0, 1])
    assert kstest(p, "uniform").pvalue > 0.001
    unpaired = norm.isf(0.025) * np.sqrt(2 * 2 * 0.0006)  # each AUROC has a variance near 0.0012
    assert np.median(half) < unpaired


@pytest.mark.parametrize("metric", ["ece", "aurc", "median_distance"])
def test_the_bootstrap_tells_equal_models_apart_no_more_often_than_it_may(metric):
    """60 pairs at a level of 5 %: 11 or more would be a chance of 1 in 5,000."""
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(60):
        rejected += (
            compare(METRICS[metric], [_drawn(metric, rng, 100) for _ in range(2)]).p[0, 1] < 0.05
        )
    assert rejected < 11


def _drawn(metric, rng, n):
    if metric == "median_distance":
        return (part(rng.gamma(4, 1, n)),)
    confidence = rng.uniform(0.5, 1, n)
    correct = rng.random(n) < confidence - 0.1
    return (part(confidence, correct) if metric == "ece" else part(-confidence, ~correct),)


@pytest.mark.parametrize("ties", [True, False])
def test_weighted_metrics_are_those_of_repeated_samples(ties):
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.3, 1, 90)
    confidence = confidence.round(1) if ties else confidence
    wrong = rng.random(90) < 0.3
    weights = weighted.resamples(90)[:, :20]
    assert (weights.sum(axis=0) == 90).all()
    for draw in range(20):
        again = np.repeat(np.arange(90), weights[:, draw].astype(int))
        c, e = confidence[again], wrong[again]
        one = [weights[:, draw : draw + 1]]
        ece = weighted.ece([(part(confidence, ~wrong),)], one)[0, 0]
        assert ece == pytest.approx(errors(c, ~e, equal_width(c)).ece.seen.value, abs=1e-6)
        aurc = weighted.aurc([(part(-confidence, wrong),)], one)[0, 0]
        assert aurc == pytest.approx(selective(-c, e).aurc.value, abs=1e-6)
        assert weighted.median([(part(confidence),)], one)[0, 0] == pytest.approx(np.median(c))
        assert weighted.mean([(part(confidence),)], one)[0, 0] == pytest.approx(c.mean())


def test_the_auroc_of_halves_is_right_to_first_order():
    rng = np.random.default_rng(3)
    own = (part(rng.normal(1, 1, 400)), part(rng.normal(0, 1, 500)))
    weights = [weighted.halves(400, seed=0)[:, :50], weighted.halves(500, seed=1)[:, :50]]
    assert {*weights[0].sum(axis=0)} == {200}
    linear = weighted.auroc([own], weights)[0]
    exact = [
        areas(
            [tuple(part(p.values[w[:, i] > 0, 0]) for p, w in zip(own, weights, strict=True))]
        ).values
        for i in range(50)
    ]
    assert np.abs(linear - np.ravel(exact)).max() < 0.1 * np.std(exact)


def test_halves_share_a_tie_and_follow_a_better_model():
    same = part(np.arange(100) % 2)
    assert first_in_halves(METRICS["clean_accuracy"], [(same,)] * 2) == pytest.approx([0.5, 0.5])
    better = part(np.ones(100))
    assert first_in_halves(METRICS["clean_accuracy"], [(same,), (better,)]).tolist() == [0, 1]


def test_holm_by_hand():
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert found[[0, 1, 3, 4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(found[2])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]


def test_a_difference_without_variance_is_nothing_or_unknown():
    covariance = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    same = normal(np.array([0.5, 0.5, 0.5]), covariance)
    assert (same.p[0, 1], same.low[0, 1], same.high[0, 1]) == (1, 0, 0)
    apart = normal(np.array([0.5, 0.6, 0.5]), covariance)
    assert np.isnan(apart.p[0, 1])
    assert np.isnan(apart.low[0, 1])


def test_tiers_open_where_a_model_is_worse_than_the_best_of_the_tier():
    p = np.ones((5, 5))

    def apart(a, b):
        p[a, b] = p[b, a] = 0.01

    apart(0, 2)  # 1 is like 0 and like 2; 2 is not like 0
    apart(0, 3)
    apart(1, 3)
    apart(2, 4)
    apart(0, 4)
    apart(3, 4)
    p[1, 4] = p[4, 1] = np.nan
    found = tiers([0, 1, 2, 3, 4], p)
    assert [found[i].tier for i in range(5)] == [1, 1, 2, 2, 3]
    assert found[1].alike_beyond == [2, 4]
    assert found[2].alike_beyond == [1]
    inside = tiers([0, 1, 2], np.array([[1, 1, 1], [1, 1, 0.01], [1, 0.01, 1]]))
    assert [inside[i].tier for i in range(3)] == [1, 1, 1]
    assert (inside[1].apart_within, inside[2].apart_within) == ([2], [1])


def test_pairs_are_on_the_samples_that_both_have():
    a = (part(range(4), samples=[0, 1, 2, 3]),)
    b = (part(range(3), samples=[1, 2, 7]),)
    groups = [g for g in shared([a, b, a]) if g.pairs]
    assert [(g.members, g.pairs, g.n) for g in groups] == [
        ([0, 2], [(0, 1)], [4]),
        ([0, 2, 1], [(0, 2), (1, 2)], [2]),
    ]
    assert groups[1].sampled[2][0].values[:, 0].tolist() == [0, 1]


def test_recipes_that_are_equal_are_told_apart_as_seldom_as_the_level_says():
    """1,000 pairs of three seeds each, whose luck of training is as large as that of samples: the
    seeds alone would be too sure of an accuracy that all of them owe to the same samples, and the
    samples alone far too sure of a recipe. Between 2 and 6 % may be rejected at 5 %."""
    rng = np.random.default_rng(0)
    covariance = np.full((6, 6), 0.5) + 0.5 * np.eye(6)  # half of the samples' luck is shared
    covariance[:3, 3:] = covariance[3:, :3] = 0.3
    root = np.linalg.cholesky(covariance)
    p, samples_alone = [], []
    for _ in range(1000):
        values = rng.normal(0, 1, 6) + root @ rng.normal(0, 1, 6)
        p.append(contrast(Together(values, covariance, []), [0, 1, 2], [3, 4, 5]).p)
        weights = np.array([1, 1, 1, -1, -1, -1]) / 3
        error = np.sqrt(weights @ covariance @ weights)
        samples_alone.append(2 * norm.sf(abs(weights @ values) / error))
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.06
    assert np.mean(np.array(samples_alone) < 0.05) > 0.1


def test_a_recipe_of_one_seed_has_the_luck_of_samples_alone():
    covariance = np.array([[4.0, 1.0], [1.0, 4.0]])
    found = contrast(Together(np.array([3.0, 1.0]), covariance, []), [0], [1])
    assert found.difference.value == 2
    assert found.p == pytest.approx(2 * norm.sf(2 / np.sqrt(6)), rel=1e-4)
    assert np.isnan(contrast(Together(np.array([np.nan, 1.0]), covariance, []), [0], [1]).p)
