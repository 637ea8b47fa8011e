"""Basin hopping: perturb the weights, minimise, accept by Metropolis."""

from collections.abc import Callable

import numpy as np
import torch

from robsweep.tasks.landscape.objective import Floats, Visit


def basin_hopping(
    objective: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    *,
    steps: int = 50,
    temperature: float = 0.01,
    step_size: float = 10.0,
    max_iterations: int = 20_000,
) -> list[Visit]:
    """Local minima one after the other, the first one from the start itself.

    A step adds uniform noise from [-step_size, step_size] to every weight and descends with
    L-BFGS as far as float64 allows. A higher minimum is accepted with probability
    exp(-rise / temperature), unless its descent failed where the last one's did not. Every 50 steps
    the step size is adapted towards half of the steps being accepted.

    Args:
        objective: Value and gradient (P,) at weights (P,).
        start: (P,).
        max_iterations: Of each descent.

    Source: Wales & Doye 1997, section II; as implemented in scipy.
    """
    from scipy.optimize import basinhopping

    visits: list[Visit] = []

    def visited(weights: Floats, loss: float, accepted: bool) -> None:
        del loss
        visits.append(Visit(len(visits), weights.copy(), bool(accepted)))

    descent = {
        "method": "L-BFGS-B",
        "jac": True,
        # no test of the loss: it stands still long before the gradient is small
        "options": {
            "maxiter": max_iterations, "maxfun": 2 * max_iterations, "maxcor": 50,
            "gtol": 1e-8, "ftol": 0.0,
        },
    }  # fmt: skip
    basinhopping(
        objective,
        start,
        niter=steps,
        T=temperature,
        stepsize=step_size,
        minimizer_kwargs=descent,
        callback=visited,
        rng=np.random.default_rng(int(torch.randint(2**62, ()))),
    )
    return visits
