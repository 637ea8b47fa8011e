import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from robsweep.tasks.verification.optimise.duals import Program, certified_lower


def _random(seed: int) -> tuple[Program, np.ndarray, float, np.ndarray]:
    """A feasible program, a cost, its optimum and optimal duals."""
    generator = np.random.default_rng(seed)
    size, count = int(generator.integers(2, 12)), int(generator.integers(1, 15))
    rows = generator.normal(size=(count, size)) * (generator.random((count, size)) < 0.6)
    lower = generator.normal(size=size)
    upper = lower + generator.random(size) * 3
    inside = lower + generator.random(size) * (upper - lower)
    slack = generator.random((2, count))
    row_lower, row_upper = rows @ inside - slack[0], rows @ inside + slack[1]
    kind = generator.integers(0, 4, count)
    row_lower[kind == 0], row_upper[kind == 1] = -np.inf, np.inf
    row_lower[kind == 2] = row_upper[kind == 2] = (rows @ inside)[kind == 2]
    cost = generator.normal(size=size)
    program = Program(lower, upper, sparse.csr_array(rows), row_lower, row_upper)
    above, below = np.isfinite(row_upper), np.isfinite(row_lower)
    found = linprog(
        cost,
        np.vstack([rows[above], -rows[below]]),
        np.hstack([row_upper[above], -row_lower[below]]),
        bounds=np.stack([lower, upper], 1),
    )
    assert found.status == 0
    duals = np.zeros(count)
    duals[above] += found.ineqlin.marginals[: above.sum()]
    duals[below] -= found.ineqlin.marginals[above.sum() :]
    return program, cost, found.fun, duals


@pytest.mark.parametrize("seed", range(60))
def test_optimal_duals_prove_the_optimum(seed: int) -> None:
    program, cost, optimum, duals = _random(seed)
    bound = certified_lower(program, cost, duals)
    assert optimum - 1e-6 < bound < optimum + 1e-9  # linprog's own tolerance


@pytest.mark.parametrize("seed", range(60))
def test_any_duals_prove_something_true(seed: int) -> None:
    program, cost, optimum, duals = _random(seed)
    generator = np.random.default_rng(seed)
    garbage = [
        duals + generator.normal(size=duals.size) * 10.0 ** generator.integers(-9, 3),
        -duals,
        np.zeros_like(duals),
        np.full_like(duals, np.nan),
        np.where(generator.random(duals.size) < 0.5, np.inf, duals),
        generator.normal(size=duals.size) * 1e300,
        generator.normal(size=duals.size) * 1e-310,
    ]
    for some in garbage:
        bound = certified_lower(program, cost, some)
        assert bound < optimum + 1e-9
        assert not np.isnan(bound)


def test_the_bound_is_below_the_exact_one_in_rational_arithmetic() -> None:
    from fractions import Fraction

    generator = np.random.default_rng(7)
    for scale in (1.0, 1e8, 1e-8):
        rows = generator.normal(size=(40, 30)) * scale
        lower, upper = -generator.random(30), generator.random(30)
        cost, y = generator.normal(size=30), generator.normal(size=40)
        ends = rows @ np.zeros(30)
        program = Program(lower, upper, sparse.csr_array(rows), ends, ends)
        exact = Fraction(0)
        for j in range(30):
            column = [Fraction(a) * Fraction(b) for a, b in zip(rows[:, j], y, strict=True)]
            reduced = Fraction(cost[j]) - sum(column)
            exact += min(reduced * Fraction(lower[j]), reduced * Fraction(upper[j]))
        assert Fraction(certified_lower(program, cost, y)) < exact
        size = float(np.abs(y) @ np.abs(rows).sum(1)) + 1
        assert certified_lower(program, cost, y) > float(exact) - 1e-9 * size


def test_no_rows_leave_the_bounds_of_the_variables() -> None:
    empty = np.zeros(0)
    program = Program(
        np.array([-1.0, 2.0]), np.array([3.0, 4.0]), sparse.csr_array((0, 2)), empty, empty
    )
    assert certified_lower(program, np.array([1.0, -2.0]), empty) == pytest.approx(-9, abs=1e-12)
