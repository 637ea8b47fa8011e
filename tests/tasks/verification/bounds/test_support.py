"""The least value of forms in balls and of weights: against linear programs and a solver."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from robsweep.tasks.verification.bounds.support import least, lowest, narrowed
from robsweep.tasks.verification.reading.layers import Linear
from robsweep.tasks.verification.reading.within import Ball, Simplex

N = 6


def forms(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((count, N), generator=generator).double()
    rows[0] = 0
    rows[1, 2:] = 0  # ties
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_sum_1_in_boxes(seed: int) -> None:
    torch.manual_seed(seed)
    rows = forms(8, seed)
    lower = 0.15 * torch.rand(1, N).double()
    upper = (lower + 0.3).clamp(max=1)
    found, points = least(Simplex(), rows, (lower, upper)), lowest(Simplex(), rows, (lower, upper))
    assert torch.allclose(points.sum(1), torch.ones(8).double())
    assert ((points >= lower) & (points <= upper + 1e-12)).all()
    for i, row in enumerate(rows.numpy()):
        ends = torch.cat([lower, upper]).T.numpy()
        exact = linprog(row, A_eq=np.ones((1, N)), b_eq=[1.0], bounds=ends).fun
        assert exact - 1e-7 <= found[i] <= exact + 1e-9
        assert abs(float(rows[i] @ points[i]) - exact) < 1e-9


@pytest.mark.parametrize("eps", [0.01, 0.5, 2.0, 50.0])
def test_l1_balls_in_boxes(eps: float) -> None:
    torch.manual_seed(1)
    rows, centre = forms(8, 1), torch.rand(1, N).double()
    centre[0, 0], box = 0.0, (torch.zeros(1, N).double(), torch.ones(1, N).double())
    ball = Ball("l1", centre, eps)
    found, points = least(ball, rows, box), lowest(ball, rows, box)
    assert ((points - centre).abs().sum(1) <= eps + 1e-9).all()
    for i, row in enumerate(rows.numpy()):
        x = centre[0].numpy()
        both = np.concatenate([row, -row])  # x + up - down
        ends = [(0, end) for end in np.concatenate([1 - x, x])]
        exact = linprog(both, np.ones((1, 2 * N)), [eps], bounds=ends).fun + row @ x
        assert exact - 1e-7 <= found[i] <= exact + 1e-9
        assert abs(float(rows[i] @ points[i]) - exact) < 1e-7


@pytest.mark.parametrize("eps", [0.01, 0.3, 0.8, 50.0])
def test_l2_balls_in_boxes(eps: float) -> None:
    torch.manual_seed(2)
    rows, centre = forms(8, 2), torch.rand(1, N).double()
    centre[0, 0], box = 0.0, (torch.zeros(1, N).double(), torch.ones(1, N).double())
    ball = Ball("l2", centre, eps)
    found, points = least(ball, rows, box), lowest(ball, rows, box)
    assert ((points - centre).norm(dim=1) <= eps * (1 + 1e-9)).all()
    assert ((points >= -1e-12) & (points <= 1 + 1e-12)).all()
    x = centre[0].numpy()
    for i, row in enumerate(rows.numpy()):
        inside = {"type": "ineq", "fun": lambda d: eps**2 - d @ d}
        ends = [*zip(-x, 1 - x, strict=True)]
        options = {"ftol": 1e-14, "maxiter": 500}
        best = minimize(lambda d, r=row: r @ d, 0 * x, bounds=ends, constraints=inside,
                        method="SLSQP", options=options)  # fmt: skip
        exact = best.fun + row @ x
        assert found[i] <= exact + 1e-6
        assert found[i] >= exact - 1e-5 - 1e-3 * abs(exact)


@pytest.mark.parametrize("within", [Simplex(), Ball("l1", torch.rand(1, N), 0.4),
                                    Ball("l2", torch.rand(1, N), 0.4)])  # fmt: skip
def test_points_of_the_region_are_never_below_and_the_gradient_is_where_it_is_least(within) -> None:
    torch.manual_seed(3)
    box = (torch.zeros(1, N).double(), torch.ones(1, N).double())
    rows = forms(20, 3)[2:].requires_grad_()
    found = least(within, rows, box)
    points = torch.rand(5000, N).double() ** 4
    if isinstance(within, Simplex):
        points = points / points.sum(1, keepdim=True)
    else:
        order = 1 if within.norm == "l1" else 2
        moved = points - 0.5
        size = torch.linalg.vector_norm(moved, ord=order, dim=1, keepdim=True)
        points = within.centre.double() + moved / size * 0.4
        points = points[((points >= 0) & (points <= 1)).all(1)]
    assert len(points) > 50
    assert (points @ rows.detach().T >= found.detach()).all()
    (gradient,) = torch.autograd.grad(found.sum(), rows)
    assert torch.allclose(gradient, lowest(within, rows.detach(), box), atol=1e-3)


def test_values_of_weights_are_means_of_those_at_the_corners() -> None:
    layer = Linear(torch.randn(4, N).double(), torch.randn(4).double())
    wide = (torch.full((1, 4), -torch.inf).double(), torch.full((1, 4), torch.inf).double())
    low, high = narrowed(Simplex(), layer, wide)
    corners = layer.weight + layer.bias[:, None]
    assert torch.allclose(low[0], corners.amin(1))
    assert torch.allclose(high[0], corners.amax(1))
    assert (low[0] <= corners.amin(1)).all()
