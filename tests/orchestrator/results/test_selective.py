import math
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from robsweep.orchestrator.results.metrics.detection.selective import selective


def by_definition(scores, wrong):
    """The mean of the error rates among the k lowest scores, over k, and over orders of ties."""
    found = []
    for order in permutations(range(len(scores))):
        ordered = [scores[i] for i in order]
        if ordered == sorted(ordered):
            errors = np.cumsum([wrong[i] for i in order])
            found.append(np.mean(errors / np.arange(1, len(order) + 1)))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(6))
def test_by_definition_with_ties(seed):
    rng = np.random.default_rng(seed)
    scores, wrong = rng.integers(0, 4, 7).astype(float), rng.random(7) < 0.4
    wrong[:2] = [True, False]
    scores[:2] = [0, 1]
    found = selective(scores, wrong)
    assert found.aurc.value == pytest.approx(by_definition(scores, wrong))
    best = by_definition(wrong.astype(float), wrong)
    assert found.e_aurc.value == pytest.approx(found.aurc.value - best)
    assert found.auroc.value == pytest.approx(roc_auc_score(wrong, scores))
    assert (found.n, found.errors) == (7, wrong.sum())


def test_all_errors_last_is_perfect():
    found = selective(np.arange(100.0), np.arange(100) >= 90)
    assert found.e_aurc.value == pytest.approx(0, abs=1e-12)
    assert found.auroc.value == 1
    assert found.auroc.low < 0.9


@pytest.mark.parametrize(
    ("scores", "wrong", "why"),
    [
        ([], [], "no samples"),
        ([1.0, 1.0, 1.0], [True, False, False], "constant scores"),
        ([1.0, 2.0], [False, False], "no errors"),
        ([1.0, 2.0], [True, True], "only errors"),
        ([1.0, math.nan], [True, False], "scores that are no numbers"),
    ],
)
def test_what_is_undefined_says_why(scores, wrong, why):
    found = selective(scores, wrong)
    assert found.why == why
    assert math.isnan(found.auroc.value)


def test_without_errors_the_risk_is_zero_and_its_limit_that_of_the_error_rate():
    found = selective(np.arange(100.0), np.zeros(100, bool))
    assert (found.aurc.value, found.aurc.low) == (0, 0)
    assert found.aurc.high == pytest.approx(0.037, abs=0.001)  # Wilson's for 0 of 100


def test_intervals_cover():
    """300 draws: the margin is 3.5 standard errors."""
    rng = np.random.default_rng(0)
    truth = _risk(*_draw(rng, 500_000))
    covered = np.zeros(2)
    for _ in range(300):
        found = selective(*_draw(rng, 1000))
        limits = (found.aurc, found.e_aurc)
        covered += [i.low <= t <= i.high for i, t in zip(limits, truth, strict=True)]
    assert (covered / 300 > 0.906).all()


def _draw(rng, n):
    doubt = rng.random(n)
    return doubt, rng.random(n) < 0.4 * doubt**3  # one in ten is wrong


def _risk(scores, wrong):
    found = selective(scores, wrong)
    return found.aurc.value, found.e_aurc.value
