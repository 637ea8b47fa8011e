"""A sweep file as typed, frozen values: what the researcher wrote, with every default resolved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from robsweep.orchestrator.spec.fields import (
    BallEps,
    Bytes,
    Curve,
    EpsList,
    EpsTuple,
    Margin,
    Names,
    Natural,
    Norm,
    Numbers,
    PlainName,
    Positive,
    Rerun,
    Samples,
    Seed,
    Sha256,
    Share,
    Targets,
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
    VERIFIERS,
)
from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.catalogue.words import ADVERSARIALS, word_of

# What a verifier that only estimates a distance has no use for.
OF_A_QUESTION = (
    "eps", "property", "margin", "targets", "radius", "box", "region", "rerun",
    "time_limit_seconds", "cross_check", "question", "curve", "certificates",
)  # fmt: skip


_BOUNDING = {"interval", "crown", "alpha", "branching"}  # stages that prove without a solver
FEASIBLE = "feasible"  # the question that is meant where none is named
NO_EPS = ("closest", "curve")  # questions that are about no one radius


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntrySpec(_Frozen):
    """What all entries share: the catalogue name and its parameters, defaults resolved."""

    family: ClassVar[str]  # what the catalogue calls it, and the key that names it
    catalogue: ClassVar[Mapping[str, Any]]
    lists: ClassVar[frozenset[str]] = frozenset({"only", "exclude", "samples"})

    name: str
    parameters: dict[str, Any] = {}
    only: Names = ()
    exclude: Names = ()


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


class _Evaluation(EntrySpec):
    dataset: str | None = None  # in place of the sweep's own
    samples: Samples = None
    group_size: Natural | None = None
    seed: Seed = 0


class AttackSpec(_Evaluation):
    family = "attack"
    catalogue = ATTACKS
    lists = _Evaluation.lists | {"eps"}
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


class EvasionSpec(_Frozen):
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


class TuneSpec(_Frozen):
    """ODIN's search: the validation images of the sweep against those of another set."""

    set: str
    split: str = "validation"  # of that set
    samples: Natural = 1000  # of each, at most
    temperatures: Numbers = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
    eps: EpsTuple = tuple(k / 5000 for k in range(21))


class OodSpec(_Evaluation):
    family = "scorer"
    catalogue = SCORERS
    lists = _Evaluation.lists | {"sets"}
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


class ShiftSpec(_Evaluation):
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


def only_estimates(verifier: str) -> bool:
    """Whether a verifier estimates a distance, and is asked about no ball."""
    return verifier in VERIFIERS and VERIFIERS[verifier].solve is None


class RegionSpec(_Frozen):
    """A region of the catalogue around each image, in place of a ball."""

    name: str
    parameters: dict[str, Any] = {}  # resolved

    @property
    def file(self) -> str | None:
        """Of its arrays, relative to the sweep file."""
        return self.parameters.get("file")


class VerificationSpec(_Evaluation):
    family = "verifier"
    catalogue = VERIFIERS
    lists = _Evaluation.lists | {"targets", "curve"}
    question: Literal["feasible", "worst", "closest"] = "feasible"
    curve: Curve = None  # rising radii that are asked about together, in place of `eps:`
    norm: Norm = "linf"
    eps: BallEps = None
    property: Literal["untargeted", "targeted"] = "untargeted"
    margin: Margin = 0.0  # by which the label must win
    targets: Targets = ()
    radius: str | None = None  # file, relative to the sweep file: each pixel's radius, times eps
    box: str | None = None  # file, likewise: each pixel's bounds, in place of a ball
    region: RegionSpec | None = None  # likewise
    rerun: Rerun = "ambiguous"
    time_limit_seconds: Positive = 60.0
    cross_check: Share = 0.0  # of the samples, that another engine decides too
    certificates: bool = False  # whether proofs are stored

    @model_validator(mode="before")
    @classmethod
    def _norm_of_the_verifier(cls, given: Any) -> Any:
        verifier = VERIFIERS.get(str(given["name"])) if "name" in given else None
        return given if verifier is None else {"norm": verifier.norms[0], **given}

    @model_validator(mode="after")
    def _question_fits(self) -> Self:
        if only_estimates(self.name):
            if given := [name for name in OF_A_QUESTION if name in self.model_fields_set]:
                raise ValueError(
                    f"{self.name} estimates the distance of the nearest adversarial and is asked "
                    f"about no ball: leave out `{given[0]}:`"
                )
            return self
        self._number_fits()
        if self.box is not None and (self.eps is not None or self.radius is not None):
            raise ValueError("a box has bounds of its own: leave out `eps:` and `radius:`")
        if self.region is not None:
            for word in ("eps", "radius", "box"):
                if getattr(self, word) is not None:
                    raise ValueError(f"region {self.region.name} is no ball: leave out `{word}:`")
        elif self.box is None and self.eps is None and question_of(self) not in NO_EPS:
            raise ValueError(
                "needs 'eps', e.g. eps: 8/255, or `region:` or `box: FILE.npz` in its place"
            )
        if self.norm != "linf":
            for word in ("radius", "box", "region"):
                if getattr(self, word) is not None:
                    raise ValueError(f"`{word}:` does not go with norm {self.norm}: leave one out")
            linear = self.parameters["solver"] == "highs"
            if self.norm == "l2" and linear and not _BOUNDING & {*self.parameters["stages"]}:
                raise ValueError(
                    "highs takes no l2 ball, for which it has bounds and branching only: leave "
                    "`stages:` some of interval, crown, alpha, branching, or take solver scip"
                )
        if self.property == "targeted" and not self.targets:
            raise ValueError("property targeted needs `targets:`, e.g. targets: [3, 5]")
        if self.property == "targeted" and self.margin:
            raise ValueError("`margin:` belongs to property untargeted: leave it out")
        if self.property == "untargeted" and self.targets:
            raise ValueError("`targets:` belongs to `property: targeted`: add it or leave them out")
        return self

    @field_validator("eps")
    @classmethod
    def _eps_in_pixels(cls, eps: float | None, info: ValidationInfo) -> float | None:
        if eps is not None:
            check_pixels(info.data.get("norm", "linf"), eps)
        return eps

    def _number_fits(self) -> None:
        """Whether the rest goes with the question."""
        given = [n for n in ("eps", "radius", "box", "region", "margin") if getattr(self, n)]
        if self.curve is not None:
            if self.question != FEASIBLE:
                raise ValueError(f"`curve:` is of verdicts: leave out `question: {self.question}`")
            if wrong := [name for name in given if name != "margin"]:
                raise ValueError(f"`curve:` gives the radii of balls: leave out `{wrong[0]}:`")
        if self.question == "closest" and given:
            raise ValueError(
                "question closest seeks the nearest adversarial among all images: "
                f"leave out `{given[0]}:`"
            )
        feasible = question_of(self) == FEASIBLE
        if self.cross_check and not feasible:
            raise ValueError(
                f"`cross_check:` is of verdicts, not of {question_of(self)}: leave it out"
            )
        if self.certificates and not (feasible and self.norm == "linf" and self.region is None):
            raise ValueError(
                "certificates are of verdicts in linf balls and boxes: leave out `certificates:`"
            )
        if self.question == "worst" and self.region is not None:
            raise ValueError("question worst is about a ball or a box: leave out `region:`")
        if self.question == "worst" and self.margin:
            raise ValueError("question worst finds the margin itself: leave out `margin:`")

    @model_validator(mode="after")
    def _norm_fits(self) -> Self:
        verifier = VERIFIERS.get(self.name)
        if verifier is None:
            return self
        if question_of(self) not in (FEASIBLE, *verifier.questions):
            others = ", ".join(
                name for name, other in VERIFIERS.items() if question_of(self) in other.questions
            )
            raise ValueError(f"{self.name} answers no {question_of(self)}; {others} does")
        asked = verifier.questions.get(question_of(self), verifier)
        if self.norm not in asked.norms:
            what = (
                self.name if asked is verifier else f"question {question_of(self)} of {self.name}"
            )
            raise ValueError(f"{what} verifies {', '.join(asked.norms)}, not {self.norm}")
        second = VERIFIERS[verifier.cross_check] if verifier.cross_check else verifier
        if self.cross_check and self.norm not in second.norms:
            raise ValueError(
                f"{verifier.cross_check}, which is to check a share, verifies "
                f"{', '.join(second.norms)}, not {self.norm}: leave out `cross_check:`"
            )
        l2_alone = question_of(self) == "closest" and self.norm == "l2"
        if l2_alone and self.parameters.get("solver") == "highs":
            raise ValueError("highs minimises no l2 distance: take `solver: scip`")
        return self


def question_of(entry: VerificationSpec) -> str:
    """The name of the question: that which is asked for, or a curve's."""
    return entry.question if entry.curve is None else "curve"


class SensitivitySpec(_Evaluation):
    family = "method"
    catalogue = SENSITIVITIES
    lists = _Evaluation.lists | {"eps"}
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


class ResourceSpec(_Frozen):
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


class DatasetSpec(_Frozen):
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


class RegionFile(_Frozen):
    """A file of a radius map or of boxes."""

    path: str
    sha256: str


class SweepSpec(_Frozen):
    """One sweep: trained models (models x trainings x seeds), and what to measure on them."""

    name: PlainName
    dataset: DatasetSpec
    datasets: dict[str, DatasetSpec]  # that entries name in place of it, as named there
    ood_sets: dict[str, DatasetSpec]
    ood_groups: dict[str, tuple[str, ...]]  # names of OOD sets
    outlier_sets: dict[str, DatasetSpec]  # that trainings draw from, as named there
    tuning_sets: dict[str, DatasetSpec] = {}  # that searches of scorers look at, as named there
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
