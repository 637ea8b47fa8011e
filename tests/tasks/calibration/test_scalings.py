import json

import numpy as np
import pytest
from scipy.special import softmax

from robsweep.orchestrator.results.metrics.calibration_scaling import Fitted, scaled
from robsweep.tasks.calibration.affine import dirichlet, matrix, vector
from robsweep.tasks.calibration.fit import nll
from robsweep.tasks.calibration.isotonic import isotonic
from robsweep.tasks.calibration.temperature import temperature

ALL = [temperature, vector, matrix, dirichlet, isotonic]


def drawn(n, seed=0, classes=4, spread=1.5):
    """Logits, and labels of exactly their probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes)) * spread
    p = softmax(logits, axis=1)
    labels = (p.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    return logits, labels


def stored(fit):
    """As a row holds it."""
    parameters = None if fit.parameters is None else json.dumps(fit.parameters)
    return Fitted(fit.temperature, parameters)


def test_logits_times_five_have_temperature_five():
    logits, labels = drawn(10_000)
    fit = temperature(logits * 5, labels)
    assert fit.temperature == pytest.approx(5, rel=0.05)
    after = scaled(logits * 5, stored(fit))
    assert (after.argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("method", ALL)
def test_what_is_stored_gives_the_likelihood_that_the_fit_says(method):
    logits, labels = drawn(600)
    logits = logits * [2.0, 0.5, 1.0, 1.5] + [0.0, 1.0, 0.0, -0.5]
    fit = method(logits, labels)
    assert fit.nll_before == pytest.approx(nll(logits, labels))
    assert fit.nll_after == pytest.approx(nll(scaled(logits, stored(fit)), labels), rel=1e-9)
    assert fit.nll_after < fit.nll_before
    assert (fit.at_bound, fit.why) == (False, None)


def test_vector_scaling_undoes_factors_and_biases():
    logits, labels = drawn(20_000)
    factors, biases = np.array([3.0, 1.0, 0.5, 2.0]), np.array([0.5, -0.5, 0.0, 0.0])
    fit = vector(logits * factors + biases * factors, labels)
    assert np.array(fit.parameters["weights"]) == pytest.approx(1 / factors, rel=0.1)
    found = np.array(fit.parameters["bias"])
    assert found - found.mean() == pytest.approx(-biases + biases.mean(), abs=0.1)


@pytest.mark.parametrize("method", [matrix, dirichlet])
def test_a_matrix_undoes_what_mixes_classes_and_a_heavy_penalty_leaves_the_diagonal(method):
    logits, labels = drawn(4000)
    mixing = np.eye(4) + np.diag([0.4, 0.4, 0.4], 1)
    light = method(logits @ mixing.T, labels, penalty=1e-6)
    if method is matrix:  # what is mixed before the softmax is not undone from behind it
        assert light.nll_after == pytest.approx(nll(logits, labels), abs=0.005)
    heavy = method(logits @ mixing.T, labels, penalty=1e4)
    weights = np.array(heavy.parameters["weights"])
    assert np.abs(weights - np.diag(np.diag(weights))).max() < 0.02
    assert np.diag(weights).min() > 0.3
    assert light.nll_after < heavy.nll_after < heavy.nll_before + 1e-9


def test_dirichlet_does_not_see_a_constant_added_to_a_samples_logits():
    logits, labels = drawn(400)
    shift = np.random.default_rng(3).normal(size=(400, 1)) * 10
    one, other = dirichlet(logits, labels), dirichlet(logits + shift, labels)
    np.testing.assert_allclose(
        softmax(scaled(logits, stored(one)), axis=1),
        softmax(scaled(logits + shift, stored(other)), axis=1),
        atol=1e-4,
    )
    assert other.nll_after == pytest.approx(one.nll_after, abs=1e-6)


def test_isotonic_is_scikit_learns_one_class_against_the_rest():
    sklearn = pytest.importorskip("sklearn.isotonic")
    logits, labels = drawn(500)
    fit = isotonic(logits * 3, labels)
    p = softmax(logits * 3, axis=1)
    columns = []
    for k in range(4):
        theirs = sklearn.IsotonicRegression(y_min=1 / 1000, y_max=1 - 1 / 1000)
        columns.append(theirs.fit(p[:, k], labels == k).predict(p[:, k]))
    expected = np.stack(columns, axis=1)
    found = softmax(scaled(logits * 3, stored(fit)), axis=1)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-7)
    far = np.array([[50.0, 0, 0, 0], [0, 0, -50, 0]])
    assert np.isfinite(scaled(far, stored(fit))).all()


@pytest.mark.parametrize("method", ALL)
def test_one_class_is_not_defined_and_says_so(method):
    logits, _ = drawn(50)
    fit = method(logits, np.full(50, 2))
    assert (fit.temperature, fit.parameters, fit.nll_after) == (None, None, None)
    assert fit.why == "all 50 labels are class 2: nothing is learnt about the others"
    assert not stored(fit).defined
    with pytest.raises(ValueError, match="no fit"):
        scaled(logits, stored(fit))


@pytest.mark.parametrize("method", ALL)
def test_without_an_error_no_fit_is_best(method):
    logits = np.tile(np.eye(4) * 6, (10, 1))
    fit = method(logits, np.arange(40) % 4)
    assert "no errors among 40" in fit.why
    assert fit.at_bound == (method is temperature)
    assert stored(fit).defined == (method is temperature)


def test_a_class_that_never_occurs_puts_its_bias_at_the_bound_and_says_so():
    logits, labels = drawn(300)
    fit = vector(logits[labels != 3], labels[labels != 3])
    assert np.isfinite(fit.parameters["bias"]).all()
    assert fit.nll_after < fit.nll_before
