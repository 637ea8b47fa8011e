"""A plan and its measurements, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robsweep.orchestrator.plan.sources import Code
from robsweep.orchestrator.ranges import Ranges
from robsweep.orchestrator.spec.fields import Rerun
from robsweep.orchestrator.spec.spec import ResourceSpec
from robsweep.tasks.job import Measurement, ModelRef, Setting


@dataclass(frozen=True)
class PlannedModel:
    """A trained or imported model of the sweep."""

    ref: ModelRef
    identity: str
    name: str
    training: str | None
    seed: int | None
    needs: tuple[str, ...]
    code: Code = field(default_factory=dict)  # of an imported one: its architecture, if a user's
    members: tuple["PlannedModel", ...] = ()  # of an ensemble that is put together of others


@dataclass(frozen=True)
class Planned:
    """One measurement of a sweep, the samples wanted of it, and how its jobs are cut."""

    measurement: Measurement
    section: str  # of the sweep file; `clean` for plain predictions
    entry: str  # its name there
    model: str
    training: str | None
    wanted: Ranges
    size: int  # samples in the split
    group: int  # samples that are always computed together
    per_job: int
    needs: tuple[str, ...]  # measurements that must be complete first
    setting: Setting
    resources: ResourceSpec
    rerun: Rerun = "ambiguous"  # of a solve: which past ones to do again
    code: Code = field(default_factory=dict)  # a user's own functions that its id hashes


@dataclass(frozen=True)
class Plan:
    """A sweep's measurements by id, in the order of the sweep file."""

    name: str
    measurements: Mapping[str, Planned]
    preflights: tuple[Planned, ...]


@dataclass(frozen=True)
class Places:
    """Where data sets and published weights lie."""

    data_dir: Path
    nets_dir: Path | None = None
