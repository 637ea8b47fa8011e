"""From a sweep to its measurements: what is wanted, of whom, and what must be there first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import get_args

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Places, Plan, Planned, PlannedModel
from robsweep.orchestrator.plan.preflights import preflight_checks
from robsweep.orchestrator.plan.sections.attacks import attacks
from robsweep.orchestrator.plan.sections.boxes import landscapes, sensitivities
from robsweep.orchestrator.plan.sections.calibration import calibrations
from robsweep.orchestrator.plan.sections.models import models
from robsweep.orchestrator.plan.sections.ood import ood
from robsweep.orchestrator.plan.sections.predictions import clean, shift
from robsweep.orchestrator.plan.sections.verification import verifications
from robsweep.orchestrator.ranges import Ranges, union
from robsweep.orchestrator.source import file_sha256
from robsweep.orchestrator.spec.fields import Rerun
from robsweep.orchestrator.spec.spec import SweepSpec

__all__ = ["Places", "Plan", "Planned", "asked_for", "of_kinds", "plan", "with_rerun"]

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
    now = _expanded(Make.of(spec, places))
    if covered is None or not any(one.setting.code for one in now.measurements.values()):
        return now
    before = _expanded(Make.of(spec, places, file_sha256))

    def known(one: Plan, other: Plan) -> bool:
        return any(map(covered, one.measurements.keys() - other.measurements.keys()))

    return before if known(before, now) and not known(now, before) else now


def _expanded(make: Make) -> Plan:
    made = list(models(make))
    known = [model for model, _ in made]
    measured = (one for model in known for one in _measured(make, model, known))
    measurements: dict[str, Planned] = {}
    for planned in (*(by for _, by in made if by is not None), *measured):
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
    return Plan(make.spec.name, measurements, tuple(_preflights(make, known)))


def asked_for(whole: Plan, kinds: frozenset[str], policy: Rerun | None) -> Plan:
    """What a run is asked for: some kinds of a plan, or all, under one policy if one is given."""
    todo = of_kinds(whole, kinds)
    return todo if policy is None else with_rerun(todo, policy)


def with_rerun(planned: Plan, policy: Rerun) -> Plan:
    """A plan with one policy for all of its solves, whatever its entries say."""
    measurements = {key: replace(one, rerun=policy) for key, one in planned.measurements.items()}
    return replace(planned, measurements=measurements)


def of_kinds(whole: Plan, kinds: frozenset[str]) -> Plan:
    """The measurements of some kinds, and what they need; all, if no kind is named.

    Raises:
        InputError: The sweep has none of them.
    """
    if not kinds:
        return whole
    keep: dict[str, None] = {}

    def add(key: str) -> None:
        for need in whole.measurements[key].needs:
            add(need)
        keep[key] = None

    for key, planned in whole.measurements.items():
        if planned.measurement.kind in kinds:
            add(key)
    if not keep:
        there = sorted({p.measurement.kind for p in whole.measurements.values()})
        raise InputError(f"--only {', '.join(sorted(kinds))}: the sweep has {', '.join(there)}")
    measurements = {key: p for key, p in whole.measurements.items() if key in keep}
    return replace(whole, measurements=measurements)


def _measured(make: Make, model: PlannedModel, known: Sequence[PlannedModel]) -> Iterator[Planned]:
    """All that is measured of one of the known models, in the order of rows and reports."""
    yield from clean(make, model)
    yield from attacks(make, model, known)
    yield from ood(make, model)
    yield from shift(make, model)
    yield from calibrations(make, model)
    yield from verifications(make, model)
    yield from sensitivities(make, model)
    yield from landscapes(make, model)


def _preflights(make: Make, known: Sequence[PlannedModel]) -> Iterator[Planned]:
    """One per architecture or file of imported weights, and one per further data set."""
    for check in preflight_checks(make.spec, known):
        name = check.model.name
        yield make.planned(
            "preflight",
            check.model,
            "models",
            name,
            name,
            check.params,
            dataset=check.dataset,
            split=check.split,
        )


def _merged(first: Planned, second: Planned) -> Planned:
    """One measurement that satisfies two entries."""
    limits = (first.setting.time_limit_seconds, second.setting.time_limit_seconds)
    setting = replace(
        first.setting,
        time_limit_seconds=None if None in limits else max(limits),  # type: ignore[type-var]
        keep_adversarials=first.setting.keep_adversarials or second.setting.keep_adversarials,
    )
    from_rows = first.from_rows and second.from_rows
    needs = second.needs if first.from_rows and not from_rows else first.needs
    return replace(
        first,
        needs=needs,
        from_rows=from_rows,
        wanted=union([*first.wanted, *second.wanted]),
        setting=setting,
        rerun=max(first.rerun, second.rerun, key=_EAGER.index),
        uses=tuple(dict.fromkeys((*first.uses, *second.uses))),
    )
