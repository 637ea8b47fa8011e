"""Makes one planned measurement: what all sections of a sweep file share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.identity import measurement_id
from robsweep.orchestrator.plan.planned import Places, Planned, PlannedModel, Use
from robsweep.orchestrator.plan.sources import Code, Hash, Source, hashes, sources
from robsweep.orchestrator.ranges import union
from robsweep.orchestrator.source import source_sha256
from robsweep.orchestrator.spec.spec import DatasetSpec, ResourceSpec, SweepSpec
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.catalogue.words import base_of
from robsweep.tasks.job import Measurement, Setting

# one unit, not one per sample
_WHOLE = frozenset({"preflight", "train", "ensemble", "calibrate", "fit"})


@dataclass(frozen=True)
class Make:
    """A sweep, and what its measurements have in common."""

    spec: SweepSpec
    places: Places
    setting: Setting  # of all jobs
    hashed: Hash = source_sha256  # of a user's own code, in ids
    _planned: dict[str, str] = field(default_factory=dict)  # what `setting.code` is
    _read: dict[str, Source] = field(default_factory=dict)  # each module is read once

    @classmethod
    def of(cls, spec: SweepSpec, places: Places, hashed: Hash = source_sha256) -> "Make":
        others = (spec.datasets, spec.ood_sets, spec.outlier_sets, spec.tuning_sets)
        sets = [spec.dataset, *(one for named in others for one in named.values())]
        planned: dict[str, str] = {}
        setting = Setting(
            data_dir=str(places.data_dir.expanduser().resolve()),
            data_files={base_of(s.name): s.file for s in sets if s.file is not None},
            import_paths=(str(spec.folder),),
            code=planned,  # fills up with the plan; jobs run the code that it names, or none
        )
        return cls(spec, places, setting, hashed, planned)

    def code(self, *names: str) -> Code:
        """Sources of a user's own functions among the names."""
        unread = [name for name in names if name not in self._read]
        self._read.update(sources(unread, self.setting.import_paths, self.hashed))
        self._planned.update(
            {name: one.planned for name, one in self._read.items() if one.planned is not None}
        )
        return {name: self._read[name] for name in names if name in self._read}

    def code_of(self, dataset: DatasetSpec) -> Code:
        """The source of a user's own corruption of a data set."""
        return {} if dataset.function is None else self.code(dataset.function)

    def planned(
        self,
        kind: str,
        model: PlannedModel,
        section: str,
        entry: str,
        name: str,
        params: Mapping[str, Any],
        *,
        dataset: DatasetSpec | None = None,
        split: str | None = None,
        samples: tuple[int, int] | None = None,
        units: int | None = None,
        code: Code | None = None,
        needs: tuple[str, ...] | None = None,
        setting: Setting | None = None,
        key: str | None = None,
        uses: tuple[Use, ...] = (),
    ) -> Planned:
        """One measurement.

        Args:
            section: Of the sweep file, and `entry` its name there; `name` is its catalogue entry.
            dataset: The sweep's own, if none is given; its own split, if none is given.
            samples: What is wanted; the whole split, if not given.
            units: How many there are, if they are not the samples of the split.
            code: The user's own functions behind it.
            needs: Other measurements; those of the model, if not given.
            setting: What its jobs share, if not that of all jobs.
            key: Its id, where that is known already.
            uses: What it is asked for, where that is not plain.

        Raises:
            InputError: The data set has no such split.
        """
        dataset = dataset or self.spec.dataset
        split = split or dataset.split
        code = {**(code or {}), **self.code_of(dataset)}
        if key is None:
            key = measurement_id(
                kind,
                params,
                model.identity,
                f"{dataset.name}:{split}",
                model.seed,
                KINDS[kind].version,
                hashes(code),
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
                threads=resources.threads or max(1, int(cpus)),
                checkpoint_seconds=resources.checkpoint_seconds,
            ),
            resources,
            code={**model.code, **code},
            uses=uses,
        )
