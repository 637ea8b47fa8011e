"""Expands a sweep: every model, and every measurement of each of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.identity import measurement_id
from robsweep.orchestrator.plan.attacks import attacks
from robsweep.orchestrator.plan.boxes import landscapes, sensitivities
from robsweep.orchestrator.plan.planned import Places, Planned, PlannedModel
from robsweep.orchestrator.plan.preflights import preflight_checks
from robsweep.orchestrator.plan.weights import planned_model
from robsweep.orchestrator.ranges import union
from robsweep.orchestrator.source import source_sha256
from robsweep.orchestrator.spec.questions import question_params
from robsweep.orchestrator.spec.selection import selected
from robsweep.orchestrator.spec.spec import DatasetSpec, ResourceSpec, SweepSpec
from robsweep.orchestrator.spec.versions import Version, all_versions
from robsweep.tasks.catalogue import KINDS, VERIFIERS
from robsweep.tasks.job import Measurement, ModelRef, Setting

Hash = Callable[[str, tuple[str, ...]], str]  # of a user's own function, as in orchestrator.source
_WHOLE = frozenset({"preflight", "train", "ensemble", "calibrate"})  # one unit, not one per sample


class Planner:
    """Yields a sweep's measurements in the order of its file; `models` fills up on the way."""

    def __init__(self, spec: SweepSpec, places: Places, hashed: Hash = source_sha256) -> None:
        self.spec = spec
        self.places = places
        self.paths = (str(spec.folder),)
        self._hashed = hashed
        self._code: dict[str, str] = {}
        self._in_ids: dict[str, str] = {}
        sets = [spec.dataset, *spec.ood_sets.values(), *spec.outlier_sets.values()]
        self.setting = Setting(
            data_dir=str(places.data_dir.expanduser().resolve()),
            data_files={s.name: s.file for s in sets if s.file is not None},
            import_paths=self.paths,
            code=self._code,  # fills up with the plan; jobs run the code that it names, or none
        )
        self.models: list[PlannedModel] = []
        self._known: dict[tuple[str, str | None, int | None], PlannedModel] = {}

    def measurements(self) -> Iterator[Planned]:
        for name, version in all_versions(self.spec):
            if self.spec.models[name].imported:
                self._add(self._imported(name))
                continue
            for seed in self.spec.seeds if version.seeded else (None,):
                if version.members:
                    yield self._assembled(name, version, seed)
                else:
                    yield self._train(name, version, seed)
        for trained in self.models:
            yield from self._evaluations(trained)

    def preflights(self) -> Iterator[Planned]:
        """One per architecture or file of imported weights, and one per further data set."""
        for check in preflight_checks(self.spec, self.models):
            name = check.model.name
            yield self._planned(
                "preflight",
                check.model,
                "models",
                name,
                name,
                check.params,
                dataset=check.dataset,
                split=check.split,
            )

    def _train(self, name: str, version: Version, seed: int | None) -> Planned:
        model, training = self.spec.models[name], self.spec.trainings[str(version.training)]
        parameters = dict(training.parameters)
        if (named := parameters.get("outliers")) in self.spec.outlier_sets:
            parameters["outliers"] = self.spec.outlier_sets[named].name
        arch, arch_parameters = model.name, dict[str, Any](model.parameters)
        started: dict[str, str] = {}
        if version.start is not None:
            first = self._known[name, version.start, seed].ref
            arch_parameters = dict(first.params)  # of an ensemble: its members'
            started = {"start": first.model_id}
        params = {
            "arch": arch,
            "arch_parameters": arch_parameters,
            "training": training.name,
            "parameters": parameters,
            **started,
        }
        dataset = self.spec.dataset
        if "train" not in dataset.splits:
            raise InputError(f"data set {dataset.name} has no training split: import the models")
        key = measurement_id(
            "train",
            params,
            None,
            f"{dataset.name}:train",
            seed,
            KINDS["train"].version,
            self._sources(arch, training.name),
        )
        ref = ModelRef(key, arch, arch_parameters, dataset.shape, dataset.classes, name=name)
        trained = self._add(PlannedModel(ref, key, name, version.training, seed, (key,)))
        return self._planned(
            "train",
            trained,
            "models",
            name,
            training.name,
            params,
            split="train",
            key=key,
            needs=tuple(started.values()),
        )

    def _assembled(self, name: str, version: Version, seed: int | None) -> Planned:
        """An ensemble of models that come earlier; an imported one has no seed."""
        vote = self.spec.models[name].parameters["vote"]
        members = [
            self._known[model, training, None if training is None else seed]
            for model, training in version.members
        ]
        params = {"vote": vote, "members": [member.ref.model_id for member in members]}
        key = measurement_id("ensemble", params, None, "", seed, KINDS["ensemble"].version, {})
        built = [{"arch": m.ref.arch, "params": m.ref.params} for m in members]
        dataset = self.spec.dataset
        ref = ModelRef(
            key,
            "ensemble",
            {"vote": vote, "members": built},
            dataset.shape,
            dataset.classes,
            name=name,
        )
        ensemble = self._add(PlannedModel(ref, key, name, version.training, seed, (key,)))
        return self._planned(
            "ensemble",
            ensemble,
            "models",
            name,
            "ensemble",
            params,
            key=key,
            needs=tuple(need for member in members for need in member.needs),
            setting=replace(self.setting, members=tuple(member.ref for member in members)),
        )

    def _add(self, model: PlannedModel) -> PlannedModel:
        self.models.append(model)
        self._known[model.name, model.training, model.seed] = model
        return model

    def _imported(self, name: str) -> PlannedModel:
        code = self._sources(self.spec.models[name].name)
        model = planned_model(self.spec, name, self.places, code)
        if same := [other.name for other in self.models if other.identity == model.identity]:
            raise InputError(f"models {same[0]!r} and {name!r} are the same: take one out")
        return model

    def _evaluations(self, model: PlannedModel) -> Iterator[Planned]:
        spec = self.spec
        clean: dict[str, Any] = {
            "source": "clean",
            "group_size": KINDS["predict"].group_size,
            "seed": 0,
        }
        yield self._planned(
            "predict", model, "clean", "clean", "clean", clean, samples=spec.samples
        )
        yield from attacks(spec, model, self.models, self._planned, self._sources, self.setting)
        for name, ood in spec.ood.items():
            if selected(ood, model.name, model.training):
                for ood_set in (None, *ood.sets):
                    dataset = spec.dataset if ood_set is None else spec.ood_sets[ood_set]
                    params = {
                        "scorer": ood.name,
                        "ood_set": None if ood_set is None else dataset.name,
                        "group_size": ood.group_size or KINDS["score"].group_size,
                        "seed": ood.seed,
                        "parameters": ood.parameters,
                    }
                    samples = (ood.samples or spec.samples) if ood_set is None else ood.ood_samples
                    yield self._planned(
                        "score",
                        model,
                        "ood",
                        name,
                        ood.name,
                        params,
                        samples=samples,
                        code=self._sources(ood.name),
                        dataset=dataset,
                    )
        for dataset in spec.ood_sets.values():
            if any(
                spec.ood_sets[ood_set].name == dataset.name
                for ood in spec.ood.values()
                if selected(ood, model.name, model.training)
                for ood_set in ood.sets
            ):
                outside = {**clean, "source": f"ood:{dataset.name}"}
                yield self._planned(
                    "predict", model, "ood", dataset.name, "ood", outside, dataset=dataset
                )
        for name, shift in spec.shift.items():
            if selected(shift, model.name, model.training):
                source = f"corruption:{shift.name}:{shift.severity}"
                params = {
                    "source": source,
                    "group_size": shift.group_size or KINDS["predict"].group_size,
                    "seed": shift.seed,
                    "parameters": shift.parameters,
                }
                yield self._planned(
                    "predict",
                    model,
                    "shift",
                    name,
                    shift.name,
                    params,
                    samples=shift.samples or spec.samples,
                    code=self._sources(shift.name),
                )
        yield from self._calibrations(model, clean)
        yield from self._verifications(model)
        yield from sensitivities(spec, model, self._planned)
        yield from landscapes(spec, model, self._planned, self._sources)

    def _calibrations(self, model: PlannedModel, clean: Mapping[str, Any]) -> Iterator[Planned]:
        chosen = {
            name: entry
            for name, entry in self.spec.calibration.items()
            if selected(entry, model.name, model.training)
        }
        if not chosen:
            return
        if "validation" not in self.spec.dataset.splits:
            raise InputError(
                f"calibration needs a validation split, which {self.spec.dataset.name} has not"
            )
        fitted_on = self._planned(
            "predict", model, "calibration", "validation", "clean", clean, split="validation"
        )
        yield fitted_on
        for name, entry in chosen.items():
            params = {
                "method": entry.name,
                "predictions": fitted_on.measurement.measurement_id,
                "parameters": entry.parameters,
            }
            yield self._planned(
                "calibrate",
                model,
                "calibration",
                name,
                entry.name,
                params,
                split="validation",
                code=self._sources(entry.name),
                needs=(*model.needs, fitted_on.measurement.measurement_id),
            )

    def _verifications(self, model: PlannedModel) -> Iterator[Planned]:
        for name, entry in self.spec.verification.items():
            if not selected(entry, model.name, model.training):
                continue
            verifier = VERIFIERS[entry.name]
            question = question_params(entry, self.spec.regions)
            common = {"verifier": entry.name, **question, "seed": entry.seed}
            file = entry.box or entry.radius
            region_file = None if file is None else self.spec.regions[file].path
            setting = replace(self.setting, region_file=region_file)
            own = [
                {key: value for key, value in entry.parameters.items() if key in parameters}
                for parameters in (verifier.screen_parameters, verifier.solve_parameters)
            ]
            group = entry.group_size or KINDS["screen"].group_size
            screen = self._planned(
                "screen",
                model,
                "verification",
                name,
                entry.name,
                {**common, "group_size": group, "parameters": own[0]},
                samples=entry.samples or self.spec.samples,
                setting=setting,
            )
            yield screen
            if verifier.solve is None:
                continue
            solve = self._planned(
                "solve",
                model,
                "verification",
                name,
                entry.name,
                {**common, "parameters": own[1]},
                samples=entry.samples or self.spec.samples,
                needs=(screen.measurement.measurement_id,),
                setting=replace(setting, time_limit_seconds=entry.time_limit_seconds),
            )
            yield replace(solve, rerun=entry.rerun)

    def _planned(
        self,
        kind: str,
        model: PlannedModel,
        section: str,
        entry: str,
        name: str,
        params: Mapping[str, Any],
        *,
        dataset: DatasetSpec | None = None,
        split: str = "test",
        samples: tuple[int, int] | None = None,
        units: int | None = None,
        code: Mapping[str, str] | None = None,
        needs: tuple[str, ...] | None = None,
        setting: Setting | None = None,
        key: str | None = None,
    ) -> Planned:
        dataset = dataset or self.spec.dataset
        if key is None:
            key = measurement_id(
                kind,
                params,
                model.identity,
                f"{dataset.name}:{split}",
                model.seed,
                KINDS[kind].version,
                code or {},
            )
        if kind in _WHOLE:
            size, group = 1, 1
        else:
            size = units or dataset.splits.get(split, 0)
            group = int(params.get("group_size", 1))
        if size == 0:
            raise InputError(f"data set {dataset.name} has no {split} split")
        resources = self.spec.resources.get(kind, ResourceSpec())
        per_job = resources.samples_per_job or group * KINDS[kind].slice_groups
        cpus = KINDS[kind].num_cpus if resources.num_cpus is None else resources.num_cpus
        threads = resources.threads or max(1, int(cpus))
        return Planned(
            Measurement(key, kind, name, params, model.ref, dataset.name, split, model.seed),
            section,
            entry,
            model.name,
            model.training,
            union([samples or (0, size)]),
            size,
            group,
            max(1, -(-per_job // group)) * group,
            model.needs if needs is None else needs,
            replace(
                setting or self.setting,
                threads=threads,
                checkpoint_seconds=resources.checkpoint_seconds,
            ),
            resources,
        )

    def _sources(self, *names: str) -> dict[str, str]:
        """Hashes of the sources of a user's own functions among the names."""
        for name in names:
            if ":" in name and name not in self._code:
                self._code[name] = source_sha256(name, self.paths)
                self._in_ids[name] = self._hashed(name, self.paths)
        return {name: self._in_ids[name] for name in names if ":" in name}
