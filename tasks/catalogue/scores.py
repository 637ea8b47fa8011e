"""Calibrations by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry

CALIBRATIONS: dict[str, Entry] = {
    "temperature": Entry(
        ".calibration.temperature:temperature", {}, "Guo et al. 2017, section 4.2"
    ),
}
