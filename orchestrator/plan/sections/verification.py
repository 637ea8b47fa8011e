"""Measurements of the section `verification`."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.ranges import Ranges, union
from robsweep.orchestrator.spec.entries.questions import question_params
from robsweep.orchestrator.spec.selection import selected
from robsweep.tasks.catalogue import KINDS, VERIFIERS
from robsweep.tasks.catalogue.values import stages_in_ids


def verifications(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """Per entry a screen, a solve of what it leaves open, unless it only estimates, and a check."""
    spec = make.spec
    for name, entry in spec.verification.items():
        if not selected(entry, model.name, model.training):
            continue
        verifier = VERIFIERS[entry.name]
        common = {
            "verifier": entry.name,
            **question_params(entry, spec.regions),
            "seed": entry.seed,
        }
        if entry.certificates:
            common["certificates"] = True
        file = entry.box or entry.radius
        if entry.region is not None:
            file = entry.region.file
        region_file = None if file is None else spec.regions[file].path
        setting = replace(make.setting, region_file=region_file)
        dataset = spec.dataset_of(entry)
        own = [
            _written(entry.parameters, names)
            for names in (verifier.screen_parameters, verifier.solve_parameters)
        ]
        group = entry.group_size or KINDS["screen"].group_size
        screen = make.planned(
            "screen",
            model,
            "verification",
            name,
            entry.name,
            {**common, "group_size": group, "parameters": own[0]},
            dataset=dataset,
            samples=entry.samples or spec.samples,
            setting=setting,
        )
        yield screen
        if verifier.solve is None:
            continue
        solve = make.planned(
            "solve",
            model,
            "verification",
            name,
            entry.name,
            {**common, "parameters": own[1]},
            dataset=dataset,
            samples=entry.samples or spec.samples,
            needs=(screen.measurement.measurement_id,),
            setting=replace(setting, time_limit_seconds=entry.time_limit_seconds),
        )
        yield replace(solve, rerun=entry.rerun)
        if verifier.cross_check is not None and entry.cross_check:
            other = VERIFIERS[verifier.cross_check]
            params = {k: v for k, v in common.items() if k != "certificates"}
            params["verifier"] = verifier.cross_check
            second = make.planned(
                "cross_check",
                model,
                "verification",
                name,
                verifier.cross_check,
                {**params, "parameters": _written(other.solve_parameters, other.solve_parameters)},
                dataset=dataset,
                samples=entry.samples or spec.samples,
                setting=replace(setting, time_limit_seconds=entry.time_limit_seconds),
            )
            yield replace(second, wanted=drawn(second.wanted, entry.cross_check, entry.seed))


def drawn(wanted: Ranges, share: float, seed: int) -> Ranges:
    """A share of samples, at least one; whether one is among them depends on it and the seed."""
    samples = [sample for start, stop in wanted for sample in range(start, stop)]
    count = math.ceil(share * len(samples))

    def place(sample: int) -> str:
        return hashlib.sha256(f"{seed}:{sample}".encode()).hexdigest()

    return union((sample, sample + 1) for sample in sorted(samples, key=place)[:count])


def _written(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of an engine's parameters, as measurements have them."""
    return {
        key: stages_in_ids(value) if key == "stages" else value
        for key, value in given.items()
        if key in names
    }
