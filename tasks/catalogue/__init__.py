"""Everything that can be named in a sweep, by dotted path. Torch-free; one line adds an entry.

`parameters` maps each parameter to its default. A type in place of a default means "required".
A list or tuple default means the parameter itself is a list; elsewhere a list is an axis. A mapping
as default means a mapping of plain values, whose names the entry's own function knows.
"""

from robsweep.tasks.catalogue.attacks import ATTACKS
from robsweep.tasks.catalogue.calibrations import CALIBRATIONS
from robsweep.tasks.catalogue.corruptions import CORRUPTIONS
from robsweep.tasks.catalogue.datasets import DATASETS, DRAWN_SETS
from robsweep.tasks.catalogue.kinds import KINDS
from robsweep.tasks.catalogue.models import MODELS
from robsweep.tasks.catalogue.nets import NETS
from robsweep.tasks.catalogue.regions import REGIONS
from robsweep.tasks.catalogue.scorers import FITS, SCORERS
from robsweep.tasks.catalogue.trainings import RECIPE, RECIPE_LATER, TRAININGS
from robsweep.tasks.catalogue.verifiers import LANDSCAPES, SENSITIVITIES, VERIFIERS

__all__ = [
    "ATTACKS",
    "CALIBRATIONS",
    "CORRUPTIONS",
    "DATASETS",
    "DRAWN_SETS",
    "FITS",
    "KINDS",
    "LANDSCAPES",
    "MODELS",
    "NETS",
    "RECIPE",
    "RECIPE_LATER",
    "REGIONS",
    "SCORERS",
    "SENSITIVITIES",
    "TRAININGS",
    "VERIFIERS",
]
