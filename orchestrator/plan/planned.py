"""A plan and its measurements, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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


class Use(NamedTuple):
    """An entry that asks for a measurement, and what for."""

    section: str
    entry: str
    dataset: str  # whose numbers it goes into: of an OOD set, the ID data beside it
    groups: tuple[str, ...] = ()  # of an OOD set
    shifted: bool = False  # an OOD set that is a corruption of the ID data, or the other way round
    label: str = ""  # an OOD set as readers know it, where rows name it by an id


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
    uses: tuple[Use, ...] = ()  # of what is asked for in other ways than the fields above say
    from_rows: bool = False  # its jobs read rows of what it needs, and run no model


@dataclass(frozen=True)
class Plan:
    """A sweep's measurements by id, in the order of the sweep file."""

    name: str
    measurements: Mapping[str, Planned]
    preflights: tuple[Planned, ...]


class Attacked(NamedTuple):
    """An attack on a model, as a plan has it."""

    measurement_id: str
    entry: str  # of the sweep file
    model: str
    model_id: str
    dataset: str
    split: str
    eps: tuple[float | None, ...]  # None: of minimal norm
    wanted: Ranges
    group: int
    size: int
    needs: tuple[str, ...] = ()  # its own id, where it is of the same sweep


@dataclass(frozen=True)
class Places:
    """Where data sets and published weights lie, and what other sweeps on the store have attacked.

    `attacks` gives those of a sweep; None where there is no such sweep.
    """

    data_dir: Path
    nets_dir: Path | None = None
    attacks: Callable[[str], Sequence[Attacked] | None] | None = None
