"""A first sweep file for a data set: commented, and it runs as it is."""

from typing import NamedTuple

from robsweep.orchestrator.spec.spec import DatasetSpec
from robsweep.tasks.catalogue import DATASETS


class _Recipe(NamedTuple):
    epochs: int
    batch_size: int


def starter(name: str, named: str, dataset: DatasetSpec) -> str:
    """The text of a sweep file.

    Args:
        name: Of the sweep.
        named: The data set as a sweep file names it.
    """
    eps = _radii(dataset.shape)
    parts = [_head(name, named, dataset), _models(dataset), _attacks(eps, dataset)]
    parts += [_ood(dataset), _shift(dataset), _calibration(dataset), _verification(eps, dataset)]
    return "\n".join(part for part in parts if part)


def _radii(shape: tuple[int, ...]) -> tuple[str, str, str]:
    """Small, middle and large in linf: the smaller an image, the less each pixel may move."""
    if len(shape) < 3:
        return "0.02", "0.05", "0.1"
    if shape[0] == 3:
        return "2/255", "4/255", "8/255"
    return ("0.1", "0.2", "0.3") if min(shape[1:]) >= 20 else ("0.03", "0.06", "0.1")


def _head(name: str, named: str, dataset: DatasetSpec) -> str:
    test = dataset.splits["test"]
    source = f'"{named}"' if ":" in named else named
    sizes = ", ".join(f"{split} {count}" for split, count in dataset.splits.items())
    known = DATASETS.get(named)
    fetch = f"  # first: robsweep data fetch {named}" if known and known.files else ""
    return f"""\
# robsweep plan FILE    what would run, what is done, what it costs
# robsweep run  FILE    runs what is missing; the same command again resumes
# robsweep list         everything that can be named below, with its parameters
name: {name}  # robsweep show {name}
dataset: {source}{fetch}
samples: {min(500, test)}  # of the test split: what is measured unless an entry says otherwise
# {named}: {sizes}; {"x".join(map(str, dataset.shape))}, {dataset.classes} classes
"""


def _models(dataset: DatasetSpec) -> str:
    image = len(dataset.shape) == 3
    cnn = "  cnn: {arch: cnn_small}\n" if image else ""
    if "train" not in dataset.splits:
        return """\
# This data set has no training images: name models of yours. An untrained one stands in for them.
models:
  mlp: {hidden: [64, 64], train: false}
  # mine: {arch: "my_nets:net", weights: net.pt}  # my_nets.py, beside this file
  # other: {weights: net.onnx}
"""
    size = dataset.splits["train"]
    recipe = _Recipe(max(3, min(60, 45_000 // size)), 32 if size < 5_000 else 128)
    fit = f"epochs: {recipe.epochs}, batch_size: {recipe.batch_size}, lr: 0.002"
    middle = _radii(dataset.shape)[1]
    return f"""\
# Models x trainings x seeds are trained; a list where one value is expected is an axis.
seeds: [0]  # more of them say how much is chance: [0, 1, 2]
models:
  mlp: {{hidden: [64, 64]}}  # or hidden: [[64], [64, 64]], for two models
{cnn}\
  # mine: {{arch: "my_nets:net"}}                    # a function in my_nets.py, beside this file
  # there: {{arch: "my_nets:net", weights: net.pt}}  # trained already

trainings:
  standard: {{{fit}}}
  fgsm: {{training: fgsm, eps: {middle}, {fit}}}  # adversarial
  # certified: {{training: certified, eps: {middle}, {fit}}}
"""


def _attacks(eps: tuple[str, str, str], dataset: DatasetSpec) -> str:
    few = min(100, dataset.splits["test"])
    return f"""\
# Per sample, the worst of all attacks of a norm counts. Pixels are 0 to 1; eps may be 8/255.
attacks:
  apgd: {{attack: apgd_ce, norm: linf, eps: [{", ".join(eps)}], steps: 50}}
  closest: {{attack: fab, norm: linf, steps: 50, samples: {few}}}  # accuracy at every eps
  # square: {{attack: square, norm: linf, eps: [{", ".join(eps)}], queries: 1000}}  # no gradients
  # strong: {{attack: autoattack, norm: linf, eps: {eps[1]}}}
  # l2: {{attack: apgd_ce, norm: l2, eps: [0.5, 1.0]}}
"""


def _ood(dataset: DatasetSpec) -> str:
    """Sets of the same shape; one that would have to be fetched first is only suggested."""
    alike = [
        name
        for name, entry in DATASETS.items()
        if entry.shape == dataset.shape and name != dataset.name and "test" in entry.splits
    ]
    if not alike:
        return ""
    ready = [name for name in alike if not DATASETS[name].files]
    mark = "" if ready else "# "
    sets = ", ".join(ready[:1] or alike[:1])
    fetch = "" if ready else f"  # robsweep data fetch {sets}"
    return f"""\
# Whether a score tells these images from images of another data set.
{mark}ood:
{mark}  energy: {{sets: [{sets}]}}{fetch}
{mark}  max_softmax: {{sets: [{sets}]}}
"""


def _shift(dataset: DatasetSpec) -> str:
    if len(dataset.shape) < 3:
        return ""
    return """\
# Accuracy under distribution shift.
# shift:
#   gaussian_noise: {severity: [1, 3, 5]}
#   rotation: {severity: [1, 3, 5]}
"""


def _calibration(dataset: DatasetSpec) -> str:
    if "validation" not in dataset.splits:
        return ""
    return """\
# Calibration before and after a temperature that is fitted on the validation split.
calibration:
  temperature: {}
"""


def _verification(eps: tuple[str, str, str], dataset: DatasetSpec) -> str:
    few = min(20, dataset.splits["test"])
    return f"""\
# Proofs: per sample, no image of the ball gets another class. verified <= robust <= not broken.
verification:
  linf: {{verifier: milp, eps: {eps[0]}, samples: {few}, time_limit_seconds: 10}}

# What a job of a kind takes; changes no result.
# resources:
#   train: {{num_gpus: 1}}
#   attack: {{num_gpus: 0.25}}
"""
