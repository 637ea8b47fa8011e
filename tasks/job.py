"""What goes into a job and what comes out of it. Torch-free: planner and worker both use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from robsweep.tasks.rows import Keys

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ModelRef:
    """How to build a model, and whose weights it takes."""

    # id of the measurement that makes it, or `import-<hash>` of code, parameters and weights
    model_id: str
    arch: str  # catalogue name, or a user's "package.module:function"
    params: Mapping[str, Any]  # the architecture's parameters, defaults resolved
    shape: tuple[int, ...]  # of one input: (channels, height, width), or (features,)
    classes: int
    weights: str | None = None  # file of imported weights; None: trained here, or none needed
    weights_sha256: str | None = None  # of that file; for trained models known after training
    weights_url: str | None = None  # where that file comes from if it is not there yet
    name: str = ""  # in the sweep that asks; no part of any identity


@dataclass(frozen=True)
class Measurement:
    """What has an identity: `measurement_id` hashes kind, params, model, data, seed and version."""

    measurement_id: str
    kind: str
    name: str  # catalogue entry behind it, for progress and costs
    params: Mapping[str, Any]
    model: ModelRef
    dataset: str
    split: str
    seed: int | None  # training seed


@dataclass(frozen=True, eq=False)
class Live:
    """A model and data that are nowhere but in this process, in place of those that jobs name.

    `splits` are images float32 (N, *shape) in [0, 1] and labels int64 (N,), on the CPU.
    """

    model: "nn.Module"  # in evaluation mode, without gradients of its parameters, on the device
    weights_sha256: str
    splits: "Mapping[str, tuple[Tensor, Tensor]]"


@dataclass(frozen=True)
class Setting:
    """What a job needs to know that changes none of its rows."""

    data_dir: str
    data_files: Mapping[str, str] = field(default_factory=dict)  # a user's data set -> its file
    import_paths: tuple[str, ...] = ()  # where a user's own modules lie
    # a user's functions -> hashes of their sources when the sweep was planned
    code: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    device: str = "auto"
    time_limit_seconds: float | None = None
    keep_adversarials: bool = True
    checkpoint_dir: str | None = None  # where trainings keep what they need to go on; None: nowhere
    checkpoint_seconds: float = 60.0
    region_file: str | None = None  # of a radius map or box, whose SHA-256 is a parameter
    # of an ensemble to be assembled, or the one that a transfer attacks: their ids are parameters
    members: tuple[ModelRef, ...] = ()
    images: bytes | None = None  # of a data set that an attack has made: those of `Inputs`
    live: Live | None = None  # of jobs that run in the process that asks for them


@dataclass(frozen=True)
class Job:
    """A slice `measurement[start:stop]`, cut for scheduling only, at group borders."""

    measurement: Measurement
    start: int
    stop: int
    setting: Setting
    attempt: int = 1

    @property
    def name(self) -> str:
        """How the user names it, e.g. `attack-0123456789abcdef:0-250`."""
        return f"{self.measurement.measurement_id}:{self.start}-{self.stop}"

    def keys(self, weights_sha256: str | None) -> Keys:
        m = self.measurement
        return Keys(m.measurement_id, m.model.model_id, weights_sha256, m.dataset, m.split, m.seed)


@dataclass(frozen=True)
class Inputs:
    """What the store holds that a job needs."""

    weights: bytes | None = None  # the model's, as stored; of a training: those it starts from
    rows: pa.Table | None = None  # e.g. the validation predictions of a temperature fit
    members: tuple[bytes | None, ...] = ()  # weights of `Setting.members`; None: they need none
    fit: bytes | None = None  # tensors that a scorer was fitted to, as stored
    images: bytes | None = None  # that an attack has made, where these are what is measured on


@dataclass(frozen=True)
class Output:
    """A finished job's rows by table, and its files by path under `artifacts/`."""

    tables: Mapping[str, pa.Table]
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # for the user, of the job's model
