"""Runs a solver over a sample's disjuncts, and weighs each of its answers."""

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from torch import Tensor

from robsweep.tasks.verification.optimise.child import Child, SolverDiedError, SolverLateError
from robsweep.tasks.verification.optimise.milp import Milp
from robsweep.tasks.verification.optimise.solver import Race, answers, meaning
from robsweep.tasks.verification.reading.properties import Verdict
from robsweep.tasks.verification.search.counterexamples import Checked


class End(NamedTuple):
    """How the solver's run over a sample's disjuncts ended."""

    verdict: Verdict
    status: str  # of the disjunct that decided
    nodes: int
    proved: list[int]  # disjuncts that cannot be reached
    adversarial: Tensor | None = None  # the last candidate, confirmed or not
    checked: Checked | None = None


def raced(
    milp: Milp,
    race: Race,
    confirm: Callable[[list[float]], tuple[Tensor, Checked]],
    child: Child | None = None,
) -> End:
    """Asks the solver disjunct by disjunct, until one is reached or none is left.

    Args:
        confirm: Runs a solver's point through the network again.
        child: As in `answers`.
    """
    if not race.disjuncts:
        raise ValueError("nothing to ask the solver for")
    end = End("verified", "infeasible", 0, [])
    try:
        with closing(answers(milp, race, child)) as replies:
            for answer in replies:
                end = end._replace(nodes=end.nodes + answer.nodes)
                match meaning(answer):
                    case "proof":
                        end.proved.append(answer.disjunct)
                    case "candidate":
                        adversarial, result = confirm(answer.pixels or [])
                        end = end._replace(adversarial=adversarial, checked=result)
                        if result.check == "ok":
                            return end._replace(verdict="falsified", status=answer.status)
                        # within the solver's tolerance, not in the network: it proves nothing
                        end = end._replace(
                            status=f"{answer.status}, not confirmed",
                            verdict="unknown",
                            checked=result._replace(boundary=True),
                        )
                    case "timeout":
                        return end._replace(verdict="timeout", status="time limit")
                    case "open":
                        end = end._replace(verdict="unknown", status=answer.status)
    except SolverLateError as late:
        return end._replace(verdict="timeout", status=str(late))
    except SolverDiedError as died:
        return end._replace(verdict="error", status=str(died))
    return end
