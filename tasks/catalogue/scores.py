"""Corruptions and calibrations by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry

CORRUPTIONS: dict[str, Entry] = {
    "gaussian_noise": Entry(
        ".shift.corruptions:gaussian_noise", {}, "Hendrycks & Dietterich 2019"
    ),
    "brightness": Entry(".shift.corruptions:brightness", {}, "Hendrycks & Dietterich 2019"),
    "contrast": Entry(".shift.corruptions:contrast", {}, "Hendrycks & Dietterich 2019"),
    "rotation": Entry(".shift.corruptions:rotation", {}, "a random angle, up to 5 .. 30 deg"),
}

CALIBRATIONS: dict[str, Entry] = {
    "temperature": Entry(
        ".calibration.temperature:temperature", {}, "Guo et al. 2017, section 4.2"
    ),
}
