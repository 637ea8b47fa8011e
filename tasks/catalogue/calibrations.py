"""Calibrations by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry

_GUO, _KULL = "Guo et al. 2017, section 4.2", "Kull et al. 2019, section 4"

CALIBRATIONS: dict[str, Entry] = {
    "temperature": Entry(".calibration.temperature:temperature", {}, _GUO),
    "vector": Entry(".calibration.affine:vector", {}, _GUO),
    "matrix": Entry(".calibration.affine:matrix", {"penalty": 0.01}, _KULL),
    "dirichlet": Entry(".calibration.affine:dirichlet", {"penalty": 0.01}, _KULL),
    "isotonic": Entry(".calibration.isotonic:isotonic", {}, "Zadrozny & Elkan 2002"),
}
