"""Measurements of the section `verification`."""

from collections.abc import Iterator
from dataclasses import replace

from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.spec.questions import question_params
from robsweep.orchestrator.spec.selection import selected
from robsweep.tasks.catalogue import KINDS, VERIFIERS
from robsweep.tasks.catalogue.values import stages_in_ids


def verifications(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """Per entry a screen, and a solve of what it leaves open, unless it only estimates."""
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
        region_file = None if file is None else spec.regions[file].path
        setting = replace(make.setting, region_file=region_file)
        dataset = spec.dataset_of(entry)
        own = [
            {
                key: stages_in_ids(value) if key == "stages" else value
                for key, value in entry.parameters.items()
                if key in parameters
            }
            for parameters in (verifier.screen_parameters, verifier.solve_parameters)
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
