"""Entries of `verification:`, and which of their keys go together."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from robsweep.orchestrator.spec.entries.base import Evaluation, Frozen
from robsweep.orchestrator.spec.fields import (
    BallEps,
    Curve,
    Margin,
    Norm,
    Positive,
    Rerun,
    Share,
    Targets,
    check_pixels,
)
from robsweep.tasks.catalogue import VERIFIERS

# What a verifier that only estimates a distance has no use for.
OF_A_QUESTION = (
    "eps", "property", "margin", "targets", "radius", "box", "region", "rerun",
    "time_limit_seconds", "cross_check", "question", "curve", "certificates",
)  # fmt: skip


_BOUNDING = {"interval", "crown", "alpha", "branching"}  # stages that prove without a solver
FEASIBLE = "feasible"  # the question that is meant where none is named
NO_EPS = ("closest", "curve")  # questions that are about no one radius


def only_estimates(verifier: str) -> bool:
    """Whether a verifier estimates a distance, and is asked about no ball."""
    return verifier in VERIFIERS and VERIFIERS[verifier].solve is None


class RegionSpec(Frozen):
    """A region of the catalogue around each image, in place of a ball."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)  # resolved

    @property
    def file(self) -> str | None:
        """Of its arrays, relative to the sweep file."""
        return self.parameters.get("file")


class VerificationSpec(Evaluation):
    family = "verifier"
    catalogue = VERIFIERS
    lists = Evaluation.lists | {"targets", "curve"}
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
            linear, stages = self.parameters.get("solver") == "highs", self.parameters.get("stages")
            if self.norm == "l2" and linear and stages and not _BOUNDING & {*stages}:
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


class RegionFile(Frozen):
    """A file of a radius map or of boxes."""

    path: str
    sha256: str
