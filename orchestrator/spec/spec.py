"""A sweep file as typed, frozen values: what the researcher wrote, with every default resolved."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from robsweep.orchestrator.spec.entries.base import EntrySpec, Evaluation, Frozen
from robsweep.orchestrator.spec.entries.verification import RegionFile, VerificationSpec
from robsweep.orchestrator.spec.fields import (
    Bytes,
    EpsList,
    EpsTuple,
    Names,
    Natural,
    Norm,
    Numbers,
    PlainName,
    Positive,
    Samples,
    Seed,
    Sha256,
    check_pixels,
)
from robsweep.orchestrator.spec.parameters import unknown_name
from robsweep.tasks.catalogue import (
    ATTACKS,
    CALIBRATIONS,
    CORRUPTIONS,
    LANDSCAPES,
    MODELS,
    SCORERS,
    SENSITIVITIES,
    TRAININGS,
)
from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.catalogue.words import ADVERSARIALS, word_of


def is_url(weights: str) -> bool:
    return weights.startswith(("https://", "http://"))


class ModelSpec(EntrySpec):
    family = "arch"
    catalogue = MODELS
    # `samples` is a parameter here, so a list of them is an axis
    lists = frozenset({"only", "exclude", "members"})
    net: str | None = None  # a published network, whose file, arch and SHA-256 are known
    weights: str | None = None  # imported: a URL, or relative to the sweep file or the nets dir
    sha256: Sha256 = None  # of the weights
    train: bool = True
    members: Names = ()  # of an ensemble: models of this sweep, or `model/training`

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        if self.members and self.name != "ensemble":
            raise ValueError("an ensemble has the architectures of its members: leave `arch:` out")
        if self.members and self.imported:
            raise ValueError(
                "an ensemble has its members' weights: leave `net:`, `weights:` and `train:` out"
            )
        if self.name == "ensemble" and not self.members:
            raise ValueError("an ensemble needs `members:`, e.g. members: [small, large]")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights is None and self.sha256 is not None:
            raise ValueError("`sha256:` says what `weights:` hold: name a file or URL there")
        if self.sha256 is None and is_url(self.weights or ""):
            raise ValueError("weights from a URL need `sha256:`, as nothing else is believed")
        return self

    @property
    def imported(self) -> bool:
        return self.weights is not None or not self.train


class TrainingSpec(EntrySpec):
    family = "training"
    catalogue = TRAININGS
    start: str | None = None  # another training, whose weights a model starts from


class AttackSpec(Evaluation):
    family = "attack"
    catalogue = ATTACKS
    lists = Evaluation.lists | {"eps"}
    norm: Norm
    eps: EpsList = None
    gives: Literal["fixed_eps", "min_norm"]
    restarts: Natural = 1
    target: Literal["runner_up", "least_likely", "random"] | None = None  # the class aimed at
    gradients: Literal["finite_difference", "nes"] | None = None  # estimated; None: the model's own
    gradient_samples: Annotated[int, Field(ge=0, strict=True)] = 0  # queries; 0: every pixel's
    gradient_step: Annotated[Positive, Field(ge=1e-5)] = 1e-3  # below, rounding is all
    eot: Natural = 1  # passes that are averaged, for randomised models
    source: str | None = None  # of a transfer: the model that is attacked, or `model/training`
    detector: str | None = None  # an OOD scorer, which must accept what counts as a success
    beyond_pixels: bool = False  # whether an eps may be larger than the pixel range
    keep_adversarials: bool = True
    time_limit_seconds: Positive = 3600.0  # of one call, on the samples of a group

    @field_validator("detector")
    @classmethod
    def _a_scorer(cls, name: str | None) -> str | None:
        if name is not None and ":" not in name and name not in SCORERS:
            raise ValueError(unknown_name("scorer", name, SCORERS))
        return name

    @model_validator(mode="after")
    def _eps_fits(self) -> Self:
        if self.gives == "fixed_eps" and self.eps is None:
            raise ValueError(f"{self.name} needs eps, e.g. eps: [0.1, 8/255]")
        if self.gives == "min_norm" and self.eps is not None:
            raise ValueError(
                f"{self.name} looks for the closest adversarial and takes no eps: "
                "its distances give the accuracy at every eps"
            )
        return self


class EvasionSpec(Frozen):
    """OOD images are pushed towards low scores before they are scored."""

    norm: Literal["linf", "l2"] = "linf"
    eps: EpsTuple  # each is a measurement
    steps: Natural = 40
    rel_step_size: Positive = 0.1  # of eps, at first
    restarts: Natural = 1

    @model_validator(mode="after")
    def _eps_fits(self) -> Self:
        for eps in self.eps:
            check_pixels(self.norm, eps)
        return self


class TuneSpec(Frozen):
    """ODIN's search: the validation images of the sweep against those of another set."""

    set: str
    split: str = "validation"  # of that set
    samples: Natural = 1000  # of each, at most
    temperatures: Numbers = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
    eps: EpsTuple = tuple(k / 5000 for k in range(21))


class OodSpec(Evaluation):
    family = "scorer"
    catalogue = SCORERS
    lists = Evaluation.lists | {"sets"}
    sets: Annotated[Names, Field(min_length=1)]
    ood_samples: Samples = None
    members: Literal["mean"] | None = None  # of an ensemble: the mean of its members' scores
    tune: TuneSpec | None = None
    evasion: EvasionSpec | None = None

    @model_validator(mode="after")
    def _scorer_fits(self) -> Self:
        scorer = scorer_named(self.name)
        if self.tune is not None and self.name != "odin":
            raise ValueError(f"`tune:` is a search of odin's: {self.name} has nothing to search")
        if self.members and (scorer.fit is not None or scorer.reads == "members"):
            raise ValueError(
                f"`members: mean` is of scores of logits, or of a model: {self.name} is "
                + ("of all members together" if scorer.fit is None else "fitted to the ensemble")
            )
        return self

    @property
    def data_sets(self) -> tuple[str, ...]:
        return tuple(word for word in self.sets if not word.startswith(ADVERSARIALS))

    @property
    def adversarials(self) -> tuple[str, ...]:
        """Attacks of this sweep, or `SWEEP/ATTACK`, whose adversarials are sets."""
        words = (word for word in self.sets if word.startswith(ADVERSARIALS))
        return tuple(word.removeprefix(ADVERSARIALS) for word in words)


class ShiftSpec(Evaluation):
    family = "corruption"
    catalogue = CORRUPTIONS
    severity: Annotated[int, Field(ge=1, le=5, strict=True)] = 3

    @model_validator(mode="before")
    @classmethod
    def _severity_of_a_grid(cls, given: Any) -> Any:
        entry = CORRUPTIONS.get(str(given.get("name")))
        if entry is None or "grid" not in entry.traits:
            return given
        if "severity" in given:
            points = ", ".join(f"`{name}:`" for name in entry.parameters)
            raise ValueError(f"{given['name']} has no severity: give it {points}")
        return {**given, "severity": 1}


class CalibrationSpec(EntrySpec):
    family = "method"
    catalogue = CALIBRATIONS
    members: Literal["before", "after"] = "after"  # of an ensemble: scaled before the vote, or not
    dataset: str | None = None  # fitted and measured there, in place of the sweep's own


class SensitivitySpec(Evaluation):
    family = "method"
    catalogue = SENSITIVITIES
    lists = Evaluation.lists | {"eps"}
    eps: EpsTuple

    @model_validator(mode="after")
    def _eps_fits(self) -> Self:
        for eps in self.eps:
            check_pixels("linf", eps)
        return self


class LandscapeSpec(EntrySpec):
    family = "landscape"
    catalogue = LANDSCAPES
    chains: Natural = 4
    train_samples: Annotated[int, Field(ge=0, strict=True)] = 0  # the first ones; 0: all
    l2: Positive = 1e-5  # times the squared weights, part of the loss
    gradient_tolerance: Positive = 1e-6  # of what counts as a minimum
    samples: Samples = None  # of the test split: what is measured at each minimum
    eps: Positive
    method: Literal["interval", "crown"] = "interval"  # of the output boxes
    measure: Literal["log_volume", "mean_width"] = "log_volume"
    attack_steps: Natural = 20  # of PGD
    seed: Seed = 0

    @model_validator(mode="after")
    def _eps_fits(self) -> Self:
        check_pixels("linf", self.eps)
        return self


class ResourceSpec(Frozen):
    """What one job of a kind takes. Changes no row, but threads may change last bits."""

    num_cpus: Annotated[float, Field(gt=0)] | None = None
    num_gpus: Annotated[float, Field(ge=0)] = 0
    memory: Bytes = None
    threads: Natural | None = None
    samples_per_job: Natural | None = None
    attempts: Natural = 3  # when a worker dies; a job that raises is not run again by itself
    time_limit_seconds: Positive | None = None  # a job still running then is stopped
    checkpoint_seconds: Positive = 60.0  # between two checkpoints of a training
    workers: Natural = 1  # processes that train one model together, each with `num_cpus`


class DatasetSpec(Frozen):
    """A data set as the planner knows it."""

    name: str  # in rows
    splits: dict[str, int]
    shape: tuple[int, ...]
    classes: int
    file: str | None = None  # a user's .npz
    split: str = "test"  # what is measured on
    function: str | None = None  # a user's own corruption of it

    @property
    def word(self) -> str:
        """Its name with the split, unless that is the test split."""
        split = None if self.split == "test" else self.split
        return word_of(self.name)._replace(split=split).text


class SweepSpec(Frozen):
    """One sweep: trained models (models x trainings x seeds), and what to measure on them."""

    name: PlainName
    dataset: DatasetSpec
    datasets: dict[str, DatasetSpec]  # that entries name in place of it, as named there
    ood_sets: dict[str, DatasetSpec]
    ood_groups: dict[str, tuple[str, ...]]  # names of OOD sets
    outlier_sets: dict[str, DatasetSpec]  # that trainings draw from, as named there
    tuning_sets: dict[str, DatasetSpec] = Field(default_factory=dict)  # of searches of scorers
    samples: Samples
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    models: dict[str, ModelSpec]
    trainings: dict[str, TrainingSpec]
    attacks: dict[str, AttackSpec]
    ood: dict[str, OodSpec]
    shift: dict[str, ShiftSpec]
    calibration: dict[str, CalibrationSpec]
    verification: dict[str, VerificationSpec]
    sensitivity: dict[str, SensitivitySpec]
    landscape: dict[str, LandscapeSpec]
    regions: dict[str, RegionFile]  # `radius:` and `box:` of a verification, as named there
    resources: dict[str, ResourceSpec]
    folder: Path  # of the sweep file: a user's own modules and weights lie there
    text: str  # the file as written

    def dataset_of(self, entry: EntrySpec) -> DatasetSpec:
        """What an entry is measured on."""
        named = getattr(entry, "dataset", None)
        return self.dataset if named is None else self.datasets[named]


SECTIONS: dict[str, type[EntrySpec]] = {
    "models": ModelSpec,
    "trainings": TrainingSpec,
    "attacks": AttackSpec,
    "ood": OodSpec,
    "shift": ShiftSpec,
    "calibration": CalibrationSpec,
    "verification": VerificationSpec,
    "sensitivity": SensitivitySpec,
    "landscape": LandscapeSpec,
}
