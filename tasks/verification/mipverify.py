"""MIPVerify's recipe, to measure the engine against: no attack, no bounds but intervals and LPs.

Interval bounds, linear programs for what these leave open, layer after layer, then one MILP, of
which any feasible point counts: it has no objective. All by HiGHS, on one thread.

What differs from MIPVerify.jl, beside what `progressive.py` says: the margin of the MILP is
`BOUNDARY`, not 0, and a point of it is run through the network again, as everywhere here.

Source: Tjeng et al. 2019, sections 4 and 5.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.verification.optimise.child import SolverDiedError, SolverLateError, kept
from robsweep.tasks.verification.optimise.progressive import (
    LP_COMMAND,
    Effort,
    OverflowedError,
    posed,
    wins_of,
)
from robsweep.tasks.verification.optimise.race import raced
from robsweep.tasks.verification.optimise.solver import (
    COMMAND,
    Deadline,
    Parameters,
    Race,
    checked_parameters,
    solver_named,
)
from robsweep.tasks.verification.question import Posed, Robustness
from robsweep.tasks.verification.reading.layers import Network, is_exact
from robsweep.tasks.verification.reading.properties import PROVED
from robsweep.tasks.verification.screen import Attack, Screened, by_groups, screen_group
from robsweep.tasks.verification.search.counterexamples import Checked, Subject
from robsweep.tasks.verification.solve import Question, alone, confirmed, decided, one_by_one
from robsweep.tasks.verification.verdicts import Row

_FURTHER = (0.0, 1e-3, 1e-2)  # on the margin's scale: points at its border may not be confirmed


class Recipe(NamedTuple):
    """Its parameters."""

    solver: str = "highs"  # of the MILP; MathOpt's name
    parameters: Parameters = (("threads", 1),)
    bounds: str = "lp"  # or interval


def screen(job: Job, inputs: Inputs) -> Output:
    """Runs each sample's image alone, which finds the misclassified ones.

    Params: verifier, property, norm, eps, group_size, seed; and margin, targets, radius, box,
    region where they are not the default.
    """

    def group(subject: Subject, images: Tensor, labels: Tensor, asked: Robustness) -> Screened:
        return screen_group(subject, images, labels, asked, Attack(0, 0, 0, 0), frozenset())

    return by_groups(job, inputs, group)


def solve(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample.

    Params: verifier, property, norm, eps, parameters (bounds, solver, solver_parameters); and
    margin, targets, radius, box, region where they are not the default.
    `job.setting.time_limit_seconds` is each sample's, from its first to its last step.
    """
    given = job.measurement.params["parameters"]
    own = checked_parameters(given["solver"], given["solver_parameters"])
    recipe = Recipe(solver_named(given["solver"]), own, given["bounds"])
    return one_by_one(job, inputs, lambda one, limit: alone(solve_one(recipe, one, limit)))


def solve_one(recipe: Recipe, question: Question, limit: float | None) -> tuple[Row, Tensor | None]:
    """Decides one sample, unless its time runs out; returns and raises as `solve.solve_one`."""
    return decided(question, limit, partial(_decide, recipe))


def _decide(
    recipe: Recipe, subject: Subject, asked: Posed, deadline: Deadline
) -> tuple[Row, Tensor | None]:
    try:
        return _asked(recipe, subject, subject.network, asked, deadline)
    except OverflowedError:
        return _asked(recipe, subject, subject.network.over_reals(), asked, deadline)


def _asked(
    recipe: Recipe, subject: Subject, network: Network, asked: Posed, deadline: Deadline
) -> tuple[Row, Tensor | None]:
    wins = wins_of(asked.unsafe)
    if not is_exact(network):
        return Row("unknown", solver_status="bounds only"), None
    effort = Effort(kept(LP_COMMAND), deadline, by_lp=recipe.bounds == "lp")
    row = Row("unknown", solver=recipe.solver)
    try:
        program = posed(network, asked.box, wins, effort)
    except SolverDiedError as died:
        return row._replace(verdict="error", solver_status=str(died)), None
    except SolverLateError as late:
        return row._replace(verdict="timeout", solver_status=str(late)), None
    row = row._replace(
        unstable_relus=program.counts.unstable,
        interval_unstable_relus=program.counts.interval_unstable,
        lp_calls=program.counts.lp_calls,
    )
    shape = asked.box.lower.shape

    def confirm(pixels: list[float]) -> tuple[Tensor, Checked]:
        point = torch.tensor(pixels, dtype=torch.float64).reshape(shape)
        return confirmed(subject, asked, point)

    nodes, first_status, boundary = 0, None, False
    for further in _FURTHER:
        inner = program.unsafe._replace(bias=program.unsafe.bias + further)
        race = Race(recipe.solver, inner, (0,), deadline, recipe.parameters)
        end = raced(program.milp, race, confirm, kept(COMMAND))
        nodes, first_status = nodes + end.nodes, first_status or end.status
        boundary = boundary or (end.checked is not None and end.checked.boundary)
        if further == 0.0 and end.verdict == "verified":
            proved = row._replace(solver_status=end.status, nodes=nodes, lower_bound=PROVED)
            if network.steps is None:
                return proved.proved_over_reals(), None
            return proved.proved("milp"), None
        if end.verdict == "falsified" and end.checked is not None:
            return row._replace(
                verdict="falsified",
                decided_by="milp",
                solver_status=end.status,
                nodes=nodes,
                upper_bound=end.checked.margin,
                counterexample_check=end.checked.check,
                boundary=end.checked.boundary,
            ), end.adversarial
        if end.verdict != "unknown" or end.checked is None:
            break
    verdict = "unknown" if end.verdict == "verified" else end.verdict
    return row._replace(
        verdict=verdict,
        solver_status=first_status,
        nodes=nodes,
        boundary=boundary,
    ), None
