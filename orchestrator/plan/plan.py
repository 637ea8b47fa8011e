"""From a sweep to its measurements: what is wanted, of whom, and what must be there first."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.planned import Places, Plan, Planned
from robsweep.orchestrator.plan.planner import Planner
from robsweep.orchestrator.ranges import Ranges, union
from robsweep.orchestrator.source import file_sha256
from robsweep.orchestrator.spec.fields import Rerun
from robsweep.orchestrator.spec.spec import SweepSpec

__all__ = ["Places", "Plan", "Planned", "plan", "with_rerun"]

_EAGER = get_args(Rerun)  # from the fewest solves to the most


def plan(spec: SweepSpec, places: Places, covered: Callable[[str], Ranges] | None = None) -> Plan:
    """Expands a sweep; reads no file but the weights and modules that it names.

    Args:
        covered: What a store holds of a measurement. If it has some of this sweep as 0.1.0 named
            them, by the bytes of a user's own files, and none as they are named now, they keep
            those names.

    Raises:
        InputError: Such a file is missing, or two entries are the same model.
    """
    now = _expanded(Planner(spec, places))
    if covered is None or not any(one.setting.code for one in now.measurements.values()):
        return now
    before = _expanded(Planner(spec, places, file_sha256))

    def known(one: Plan, other: Plan) -> bool:
        return any(map(covered, one.measurements.keys() - other.measurements.keys()))

    return before if known(before, now) and not known(now, before) else now


def _expanded(planner: Planner) -> Plan:
    measurements: dict[str, Planned] = {}
    for planned in planner.measurements():
        key = planned.measurement.measurement_id
        if key not in measurements:
            measurements[key] = planned
        elif planned.measurement.kind == "train":
            first = measurements[key]
            raise InputError(
                f"{planned.model}/{planned.training} and {first.model}/{first.training} "
                "are the same model trained the same way: take one out"
            )
        elif planned.measurement.kind == "ensemble":
            other = measurements[key].model
            raise InputError(f"{planned.model} and {other} are the same ensemble: take one out")
        else:  # the same measurement under two names, or an ID set that two entries score
            measurements[key] = _merged(measurements[key], planned)
    return Plan(planner.spec.name, measurements, tuple(planner.preflights()))


def with_rerun(planned: Plan, policy: Rerun) -> Plan:
    """A plan with one policy for all of its solves, whatever its entries say."""
    measurements = {key: replace(one, rerun=policy) for key, one in planned.measurements.items()}
    return replace(planned, measurements=measurements)


def _merged(first: Planned, second: Planned) -> Planned:
    """One measurement that satisfies two entries."""
    limits = (first.setting.time_limit_seconds, second.setting.time_limit_seconds)
    setting = replace(
        first.setting,
        time_limit_seconds=None if None in limits else max(limits),  # type: ignore[type-var]
        keep_adversarials=first.setting.keep_adversarials or second.setting.keep_adversarials,
    )
    return replace(
        first,
        wanted=union([*first.wanted, *second.wanted]),
        setting=setting,
        rerun=max(first.rerun, second.rerun, key=_EAGER.index),
    )
