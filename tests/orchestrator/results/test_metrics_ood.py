import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

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
    assert found.aupr_out == pytest.approx(average_precision_score(is_ood, score))
    assert found.aupr_in == pytest.approx(average_precision_score(1 - is_ood, -score))
    for fpr95, positive, values in (
        (found.fpr95_ood_pos, is_ood, score),
        (found.fpr95_id_pos, 1 - is_ood, -score),
    ):
        fpr, tpr, _ = roc_curve(positive, values, drop_intermediate=False)
        assert fpr95 == pytest.approx(fpr[tpr >= 0.95 - 1e-12].min())


def test_the_two_false_positive_rates_by_hand():
    id_ = np.arange(20.0)  # 95 % of ID lie at or below 18
    ood = np.r_[[-1.0, 18.0], np.full(18, 30.0)]  # 95 % of OOD lie at or above 18
    found = detection(ood, id_)
    assert found.fpr95_ood_pos == 2 / 20
    assert found.fpr95_id_pos == 2 / 20
    assert detection(ood, id_[:19]).fpr95_id_pos == 2 / 20


def test_empty_sets_give_nan():
    assert all(math.isnan(x) for x in detection([], [1.0])[1:])
    assert math.isnan(detection([1.0], []).auroc.value)
