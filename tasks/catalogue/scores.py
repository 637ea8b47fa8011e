"""OOD scores and corruptions by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry

SCORERS: dict[str, Entry] = {
    "max_softmax": Entry(".ood.logit_scores:max_softmax", {}, "Hendrycks & Gimpel 2017"),
    "max_logit": Entry(".ood.logit_scores:max_logit", {}, "Hendrycks et al. 2022"),
    "energy": Entry(
        ".ood.logit_scores:energy", {"temperature": 1.0}, "Liu et al. 2020, equation 4"
    ),
    "entropy": Entry(".ood.logit_scores:entropy", {}, "entropy of the softmax"),
}

CORRUPTIONS: dict[str, Entry] = {
    "gaussian_noise": Entry(
        ".shift.corruptions:gaussian_noise", {}, "Hendrycks & Dietterich 2019"
    ),
    "brightness": Entry(".shift.corruptions:brightness", {}, "Hendrycks & Dietterich 2019"),
    "contrast": Entry(".shift.corruptions:contrast", {}, "Hendrycks & Dietterich 2019"),
    "rotation": Entry(".shift.corruptions:rotation", {}, "a random angle, up to 5 .. 30 deg"),
}
