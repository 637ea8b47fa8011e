import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from robsweep.orchestrator.results.metrics.detection.areas import auroc, average_precision
from robsweep.orchestrator.results.metrics.detection.spectrum import Scores, joined, mean_auroc
from robsweep.orchestrator.results.metrics.ood import detection


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [True, False])
def test_against_scikit_learn(seed, ties):
    rng = np.random.default_rng(seed)
    ood, id_ = rng.normal(1, 1, 57), rng.normal(0, 1, 83)
    if ties:
        ood, id_ = ood.round(), id_.round()
    is_ood = np.r_[np.ones(57), np.zeros(83)]
    score = np.r_[ood, id_]
    found = detection(ood, id_)
    assert found.auroc.value == pytest.approx(roc_auc_score(is_ood, score))
    assert found.aupr_out.value == pytest.approx(average_precision_score(is_ood, score))
    assert found.aupr_in.value == pytest.approx(average_precision_score(1 - is_ood, -score))
    for fpr95, positive, values in (
        (found.fpr95_ood_pos, is_ood, score),
        (found.fpr95_id_pos, 1 - is_ood, -score),
    ):
        fpr, tpr, _ = roc_curve(positive, values, drop_intermediate=False)
        assert fpr95.value == pytest.approx(fpr[tpr >= 0.95 - 1e-12].min())
    for interval in found[:5]:
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.low < interval.high


def test_the_two_false_positive_rates_by_hand():
    id_ = np.arange(20.0)  # 95 % of ID lie at or below 18
    ood = np.r_[[-1.0, 18.0], np.full(18, 30.0)]  # 95 % of OOD lie at or above 18
    found = detection(ood, id_)
    assert found.fpr95_ood_pos.value == 2 / 20
    assert found.fpr95_id_pos.value == 2 / 20
    assert detection(ood, id_[:19]).fpr95_id_pos.value == 2 / 20


@pytest.mark.parametrize(
    ("ood", "id_", "why"),
    [
        ([], [1.0], "no OOD samples"),
        ([1.0], [], "no ID samples"),
        ([2.0] * 5, [2.0] * 7, "constant scores"),
        ([1.0, math.nan], [0.0], "scores that are no numbers"),
    ],
)
def test_what_is_undefined_says_why(ood, id_, why):
    found = detection(ood, id_)
    assert found.why == why
    assert all(math.isnan(x) for interval in found[:5] for x in interval)


def test_infinite_scores_are_ranked_like_others():
    found = detection([math.inf, 2.0], [-math.inf, 1.0, 3.0])
    assert found.auroc.value == pytest.approx(5 / 6)
    assert found.why is None


@pytest.mark.parametrize("area", [auroc, average_precision])
@pytest.mark.parametrize("decimals", [1, 9])
def test_influences_are_what_leaving_a_sample_out_changes(area, decimals):
    rng = np.random.default_rng(0)
    positive = np.sort(rng.normal(1, 1, 400)).round(decimals)
    negative = np.sort(rng.normal(0, 1, 500)).round(decimals)
    found = area(positive, negative)
    negatives = [found.value - area(positive, np.delete(negative, i)).value for i in range(500)]
    assert _slope(found.negatives, np.array(negatives) * 499) == pytest.approx(1, abs=0.02)
    if area is auroc:  # precision itself changes with the number of positives
        positives = [found.value - area(np.delete(positive, i), negative).value for i in range(400)]
        assert _slope(found.positives, np.array(positives) * 399) == pytest.approx(1, abs=0.02)


def _slope(influence, left_out):
    centred = influence - influence.mean()
    return (centred @ left_out) / (centred @ centred)


def test_two_gaussians_have_the_closed_form_and_intervals_cover_it():
    """5 numbers, 150 draws of each of 2 settings: the margin is 3.5 standard errors."""
    rng = np.random.default_rng(0)
    covered = np.zeros(5)
    for m, n, shift in ((200, 300, 1.5), (300, 200, 3.0)):
        truth = _gaussians(m, n, shift)
        for _ in range(150):
            found = detection(rng.normal(shift, 1, m), rng.normal(0, 1, n))[:5]
            covered += [i.low <= t <= i.high for i, t in zip(found, truth, strict=True)]
    assert (covered / 300 > 0.906).all()
    big = detection(rng.normal(1.5, 1, 100_000), rng.normal(0, 1, 100_000))
    assert big.auroc.value == pytest.approx(norm.cdf(1.5 / math.sqrt(2)), abs=0.005)


def _gaussians(m, n, shift):
    """AUROC, AUPR out and in, both FPR95 of N(shift, 1) over N(0, 1)."""
    share = (np.arange(100_000) + 0.5) / 100_000
    flagged = norm.sf(norm.isf(share) + shift)
    out = np.mean(m * share / (m * share + n * flagged))
    in_ = np.mean(n * share / (n * share + m * flagged))
    fpr95 = norm.sf(norm.isf(0.95) + shift)
    return norm.cdf(shift / math.sqrt(2)), out, in_, fpr95, fpr95


def test_a_mean_over_sets_and_shifted_id_data_by_leaving_out_images():
    rng = np.random.default_rng(0)
    clean = Scores(np.arange(150), rng.normal(0, 1, 150))
    shifted = Scores(np.arange(150), clean.scores + rng.normal(0.5, 0.3, 150))
    ood = [Scores(np.arange(n), rng.normal(1.5, 1, n)) for n in (80, 120)]
    id_ = joined([clean, shifted])
    found = mean_auroc(ood, id_)
    by_hand = [
        roc_auc_score(np.r_[np.ones(len(one.scores)), np.zeros(300)], np.r_[one.scores, id_.scores])
        for one in ood
    ]
    assert found.value == pytest.approx(np.mean(by_hand))

    def jackknife(parts):
        values = [mean_auroc(*part).value for part in parts]
        return (len(values) - 1) * np.var(values)

    def but(scores, i):
        keep = scores.samples != i
        return Scores(scores.samples[keep], scores.scores[keep])

    variance = jackknife([(ood, but(id_, i)) for i in range(150)])
    variance += jackknife([([but(ood[0], i), ood[1]], id_) for i in range(80)])
    variance += jackknife([([ood[0], but(ood[1], i)], id_) for i in range(120)])
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(np.sqrt(variance), rel=0.05)
    apart = Scores(np.arange(300), id_.scores)  # as if each were an image of its own
    assert mean_auroc(ood, apart).high < found.high
