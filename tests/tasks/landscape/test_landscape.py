import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Job, ModelRef
from robsweep.tasks.jobs import run
from robsweep.tasks.landscape.basin_hopping import basin_hopping
from robsweep.tasks.landscape.job import distinct
from robsweep.tasks.landscape.objective import Floats, Objective, Visit, put
from robsweep.tasks.models import weights as weights_of
from robsweep.tasks.models.load import build
from robsweep.tasks.sensitivity.measure import log_volume, output_box
from tests.tasks.digit_jobs import job_of

TANH = ModelRef("m", "mlp", {"hidden": [3], "activation": "tanh"}, (4,), 3)
LINEAR = ModelRef("m", "mlp", {"hidden": []}, (4,), 3)
PARAMS = {
    "landscape": "basin_hopping",
    "parameters": {"steps": 3, "temperature": 0.1, "step_size": 5.0, "max_iterations": 5000},
    "train_samples": 30,
    "l2": 1e-3,
    "gradient_tolerance": 1e-6,
    "samples": [0, 12],
    "eps": 0.02,
    "method": "interval",
    "measure": "log_volume",
    "attack_steps": 5,
    "seed": 0,
}


def trained(ref: ModelRef, seed: int = 0) -> tuple[nn.Module, Inputs]:
    torch.manual_seed(seed)
    model = build(ref)
    return model, Inputs(weights=weights_of.to_bytes(model.state_dict()))


def landscape_job(ref: ModelRef = TANH, start: int = 0, stop: int = 1, **changed: object) -> Job:
    return job_of("landscape", {**PARAMS, **changed}, start, stop, model=ref, dataset="iris")


def iris(count: int = 30) -> Labelled:
    data = load("iris", "train", "")
    return Labelled(data.images[:count], data.labels[:count])


def test_gradients_are_those_of_the_loss() -> None:
    model, _ = trained(TANH)
    objective = Objective(model, iris(), 1e-2)
    weights = objective.start()
    loss, gradient = objective(weights)
    logits = model.double()(iris().images.double())
    cross_entropy = float(nn.functional.cross_entropy(logits, iris().labels).detach())
    assert loss == pytest.approx(cross_entropy + 1e-2 * (weights @ weights), rel=1e-12)
    for i, step in enumerate(np.eye(len(weights)) * 1e-5):
        slope = (objective(weights + step)[0] - objective(weights - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, abs=1e-8)


def test_a_convex_loss_has_one_minimum_the_one_scikit_learn_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    data, l2 = iris(90), 1e-3
    model = nn.Linear(4, 3, bias=False)
    objective = Objective(model, data, l2)
    visits = basin_hopping(objective, objective.start(), steps=3)
    (minimum,) = distinct(objective, visits, 1e-6)
    other = LogisticRegression(
        C=1 / (2 * l2 * 90), fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=5000
    )
    other.fit(data.images.double().numpy(), data.labels.numpy())
    found = minimum.visit.weights.reshape(3, 4)
    # a softmax does not notice a shift of all logits; the penalty makes the mean 0
    np.testing.assert_allclose(found, other.coef_ - other.coef_.mean(axis=0), atol=1e-5)


def test_hidden_units_in_another_order_are_the_same_minimum() -> None:
    model, _ = trained(TANH)
    objective = Objective(model, iris(), 1e-3)
    one = basin_hopping(objective, objective.start(), steps=1)[0].weights
    put(model.double(), one)
    first, last = model[1], model[3]
    with torch.no_grad():
        turned = torch.tensor([-1.0, 1.0, 1.0]).double()  # tanh is odd
        order = [2, 0, 1]
        first.weight.copy_((turned[:, None] * first.weight)[order])
        first.bias.copy_((turned * first.bias)[order])
        last.weight.copy_((turned * last.weight)[:, order])
    other = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    assert abs(other - one).max() > 0.1
    visits = [Visit(0, one, True), Visit(1, other, True), Visit(2, one + 1e-9, False)]
    assert [found.visit.step for found in distinct(objective, visits, 1e-5)] == [0]


def test_only_what_converged_is_a_minimum() -> None:
    model, _ = trained(TANH)
    objective = Objective(model, iris(), 1e-3)
    start = objective.start()
    end = basin_hopping(objective, start, steps=1)[0].weights
    nothing = np.full_like(start, np.nan)
    visits = [Visit(0, start, True), Visit(1, nothing, False), Visit(2, end, True)]
    (found,) = distinct(objective, visits, 1e-6)
    assert found.visit.step == 2
    assert found.gradient_norm == np.linalg.norm(objective(end)[1]) <= 1e-6
    with pytest.raises(RuntimeError, match="none of 2 local minimisations came to gradient norm"):
        list(distinct(objective, visits[:2], 1e-6))


def double_well(weights: Floats) -> tuple[float, Floats]:
    """Minima near -1 (the lower one) and 1."""
    (x,) = weights
    return float((x**2 - 1) ** 2 + 0.2 * x), np.array([4 * x * (x**2 - 1) + 0.2])


def test_basin_hopping_leaves_the_basin_that_it_starts_in() -> None:
    torch.manual_seed(0)
    start = np.array([0.9])
    visits = basin_hopping(double_well, start, steps=20, temperature=1e-9, step_size=1.5)
    ends = [float(visit.weights[0]) for visit in visits]
    roots = np.roots([4, 0, -4, 0.2]).real
    assert ends[0] == pytest.approx(roots.max(), abs=1e-6)
    assert min(ends) == pytest.approx(roots.min(), abs=1e-6)
    assert [visit.step for visit in visits] == list(range(21))
    accepted = [double_well(visit.weights)[0] for visit in visits if visit.accepted]
    assert all(later <= before + 1e-9 for before, later in pairwise(accepted))
    assert not all(visit.accepted for visit in visits)
    torch.manual_seed(0)
    again = basin_hopping(double_well, start, steps=20, temperature=1e-9, step_size=1.5)
    assert [float(visit.weights[0]) for visit in again] == ends


def test_chains_are_the_same_however_they_are_cut() -> None:
    _, inputs = trained(TANH)
    together = run(landscape_job(stop=2), inputs).tables["landscape"].to_pylist()
    apart = [
        row
        for chain in (0, 1)
        for row in run(landscape_job(start=chain, stop=chain + 1), inputs)
        .tables["landscape"]
        .to_pylist()
    ]
    assert together == apart
    assert {row["sample"] for row in together} == {0, 1}
    losses = [[row["loss"] for row in together if row["sample"] == chain] for chain in (0, 1)]
    assert losses[0] != losses[1]


def test_rows_say_what_their_minimum_is() -> None:
    """A linear model: one minimum, whose box, accuracy and attack have closed forms."""
    model, inputs = trained(LINEAR)
    eps = 0.02
    (row,) = run(landscape_job(LINEAR, eps=eps), inputs).tables["landscape"].to_pylist()
    objective = Objective(model, iris(), 1e-3)
    (minimum,) = distinct(objective, basin_hopping(objective, objective.start(), steps=1), 1e-6)
    assert row["loss"] == pytest.approx(minimum.loss, rel=1e-9)
    assert row["loss"] < objective(Objective(model, iris(), 1e-3).start())[0]
    assert row["step"] == 0
    assert row["gradient_norm"] <= 1e-6
    put(model, minimum.visit.weights)
    test = load("iris", "test", "")
    images, labels = test.images[:12], test.labels[:12]
    assert row["sensitivity"] == pytest.approx(
        float(log_volume(output_box(model, images, eps, "interval")).mean()), rel=1e-5
    )
    logits = model(images)
    assert row["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    # the worst case of each wrong class in the box [0, 1] around a sample is a corner
    weight = model[1].weight.detach()
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    robust = 0
    for i, label in enumerate(labels):
        difference = weight[label] - weight
        worst = torch.where(difference > 0, low[i], high[i])
        margins = (worst * difference).sum(1) + model[1].bias[label] - model[1].bias
        robust += bool((margins[torch.arange(3) != label] > 0).all())
    assert row["robust_accuracy"] == pytest.approx(robust / 12)
    assert math.isfinite(row["sensitivity"])


def test_a_chain_without_a_minimum_fails() -> None:
    _, inputs = trained(TANH)
    short = {**PARAMS["parameters"], "max_iterations": 2}  # type: ignore[dict-item]
    with pytest.raises(RuntimeError, match="more max_iterations"):
        run(landscape_job(parameters=short), inputs)


def test_a_wrong_method_is_refused() -> None:
    _, inputs = trained(TANH)
    with pytest.raises(InputError, match="unknown method 'guess'"):
        run(landscape_job(method="guess"), inputs)
