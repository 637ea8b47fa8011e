import numpy as np
import pytest
import torch
from scipy.optimize import Bounds as Limits
from scipy.optimize import LinearConstraint, milp

from robsweep.tasks.verification.bounds.intervals import interval
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.optimise.milp import Milp, constraint_rows, encode, sparse_of
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.small_nets import (
    ball,
    convolutional,
    dense,
    points_in,
    smallest_margin,
)


def _margin_row(program: Milp, label: int, other: int) -> tuple[np.ndarray, float]:
    weight = np.zeros((1, len(program.offset)))
    weight[0, label], weight[0, other] = 1, -1
    rows, constants = constraint_rows(program, weight, np.zeros(1))
    return rows[0], constants[0]


@pytest.mark.parametrize("how", [interval, crown])
@pytest.mark.parametrize(
    "name", ["dense", "functional", "pooled", "averaged", "residual", "rearranged"]
)
def test_smallest_margin_of_the_program_is_that_of_the_network(name: str, how) -> None:  # type: ignore[no-untyped-def]
    module, shape = (dense(3, 6, 9, 7, 3), (6,)) if name == "dense" else convolutional(name)
    network = read(module, shape)
    x, eps = torch.rand(1, *shape), 0.1
    program = encode(network, how(network, ball(x, eps)))
    logits = torch.cat([module.double()(points) for points in points_in(x, eps, 300)])
    for other in (1, 2):
        cost, constant = _margin_row(program, 0, other)
        best = milp(
            cost,
            integrality=program.integer,
            bounds=Limits(program.lower, program.upper),
            constraints=LinearConstraint(program.rows, program.row_lower, program.row_upper),
        )
        assert best.status == 0
        point = torch.tensor(best.x[: x.numel()]).reshape(x.shape)
        reached = module(point)[0]
        assert (reached[0] - reached[other]).item() == pytest.approx(best.fun + constant, abs=1e-5)
        assert best.fun + constant <= (logits[:, 0] - logits[:, other]).min().item() + 1e-6


def test_stable_units_need_no_binary() -> None:
    module, shape = convolutional("pooled")
    network = read(module, shape)
    program = encode(network, crown(network, ball(torch.rand(1, *shape), 0.0)))
    assert program.integer.sum() <= 2  # what the widening by rounding leaves undecided


def test_sparse_matrices_are_the_layers() -> None:
    for name in ("functional", "pooled", "averaged", "residual", "rearranged"):
        module, shape = convolutional(name)
        network = read(module, shape)
        values = evaluate(network, torch.rand(1, *shape, dtype=torch.float64))
        for k, layer in enumerate(network.layers):
            if hasattr(layer, "weight"):
                value = values[network.inputs[k][0]]
                matrix, bias = sparse_of(layer, tuple(value.shape[1:]))
                found = matrix @ value.numpy().ravel() + bias
                np.testing.assert_allclose(found, values[k + 1].numpy().ravel(), atol=1e-12)


def test_the_oracle_agrees_with_the_program() -> None:
    net = dense(5, 2, 3, 3, 3)
    x = torch.rand(1, 2)
    network = read(net, (2,))
    program = encode(network, crown(network, ball(x, 0.2)))
    found = []
    for other in (1, 2):
        cost, constant = _margin_row(program, 0, other)
        rows = LinearConstraint(program.rows, program.row_lower, program.row_upper)
        limits = Limits(program.lower, program.upper)
        best = milp(cost, integrality=program.integer, bounds=limits, constraints=rows)
        found.append(best.fun + constant)
    assert min(found) == pytest.approx(smallest_margin(net, x[0], 0, 0.2), abs=1e-6)


def test_curves_have_no_program() -> None:
    module, shape = convolutional("curved")
    network = read(module, shape)
    with pytest.raises(ValueError, match="gelu has bounds only"):
        encode(network, crown(network, ball(torch.rand(1, *shape), 0.1)))
