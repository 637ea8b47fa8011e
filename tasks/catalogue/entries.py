"""What a line of the catalogue says. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of job: the table whose rows make it done, and how it is cut and placed."""

    table: str
    version: int = 1  # part of every measurement id: bump it when the kind's rows change
    group_size: int = 1  # default; samples that are computed together, always
    slice_groups: int = 2  # default number of groups in a job
    num_cpus: float = 1


@dataclass(frozen=True)
class Dataset:
    path: str  # function (split, data_dir) -> (images, labels)
    splits: Mapping[str, int]
    shape: tuple[int, ...]
    classes: int
    source: str
    files: tuple[str, ...] = ()  # below the data dir


@dataclass(frozen=True)
class Entry:
    """A model, training, scorer, corruption or calibration.

    `later` names the parameters that came after the entry's first release. Where they have their
    default they are no part of any id, so that ids of before stay; such a default is final.
    """

    path: str
    parameters: Parameters
    source: str
    traits: frozenset[str] = frozenset()  # of a model: what attacks may need; of a corruption
    later: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scorer(Entry):
    """A score of how far samples are from what the model knows; higher = more OOD.

    | reads | function |
    |---|---|
    | `logits` | `f(model, images)`; with a fit, `f(logits, fit)` |
    | `features` | `f(features, logits, fit)` |
    | `members` | `f(members)`, the logits (N, M, K) of an ensemble's members |
    | `model` | `f(model, images)`: it is run on the images, and may follow its gradients |

    All but the last are computed from stored rows, and no model is loaded.
    """

    reads: Literal["logits", "features", "members", "model"] = "logits"
    fit: str | None = None  # of FITS
    fitted: tuple[str, ...] = ()  # parameters that belong to features and fit, not to the function
    # what it takes of the last layer: nothing; a head that may stand for it (of pooled features, or
    # of the mean of members' logits whatever the vote); or the one that makes the model's logits
    head: Literal["none", "any", "exact"] = "none"


@dataclass(frozen=True)
class Fit:
    """What a scorer is fitted on: rows of the training or validation split."""

    path: str  # function (Given, *, ...) -> tensors by name
    parameters: Parameters
    source: str
    reads: Literal["features", "logits", "head", "search"] = "features"
    head: Literal["none", "any", "exact"] = "none"  # as in `Scorer`


@dataclass(frozen=True)
class Net:
    """A published network: weights that go with an architecture."""

    file: str  # beside the sweep file, or in the nets dir
    arch: str  # of MODELS; a sweep file may name another one that these weights fit
    sha256: str  # of the file
    source: str
    parameters: Parameters = field(default_factory=dict)  # of that architecture


@dataclass(frozen=True)
class Attack:
    """`fixed_eps` attacks take a list of eps; `min_norm` ones seek the closest adversarial.

    A function with several norms takes the one that is asked for as `norm`. One that takes
    `starting_points` or `targets` is given these: adversarials of any size, and classes.
    """

    path: str
    norms: tuple[str, ...]
    gives: Literal["fixed_eps", "min_norm"]
    parameters: Parameters
    source: str
    access: Literal["white_box", "black_box", "noise"]  # noise: looks at no answer but the last
    targets: Literal["none", "optional", "required"] = "none"
    iterative: bool = True
    detects: bool = False  # takes a `detector`, which it evades beside the classifier
    needs: frozenset[str] = frozenset()  # traits of the model
    fixed: Parameters = field(default_factory=dict)  # arguments that make the entry what it is
    later: frozenset[str] = frozenset()  # as in `Entry`

    @property
    def default_norm(self) -> str:
        return self.norms[0]


@dataclass(frozen=True)
class Region:
    """A region around each image, in which a verification asks.

    What is exact is so for networks that are: see `is_exact`.
    """

    path: str  # function (image, *, ...) -> Area
    parameters: Parameters
    holds: str  # which images
    exact: str  # what of it is decided exactly, and what has bounds only
    source: str
    ball: bool = False  # named by `norm:` and `eps:`, not by `region:`


@dataclass(frozen=True)
class Question:
    """What is asked of each sample in place of "is there an adversarial in the region".

    `worst` and `closest` ask for a number, from both sides; their rows have a `property` of their
    own. `curve` asks about many radii together; its rows are those of each radius.
    """

    screen: str
    solve: str
    norms: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Verifier:
    """A screen over many samples, then a solver for each one that it leaves undecided.

    Without a solver, the screen estimates a distance: it is asked for no eps and decides nothing.
    """

    screen: str
    solve: str | None
    norms: tuple[str, ...]
    screen_parameters: Parameters
    solve_parameters: Parameters
    source: str
    needs: frozenset[str] = field(default_factory=lambda: frozenset({"piecewise linear"}))
    cross_check: str | None = None  # another verifier, which solves a share of the samples too
    questions: Mapping[str, Question] = field(default_factory=dict)  # beside `feasible`
