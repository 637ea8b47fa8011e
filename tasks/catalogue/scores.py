"""OOD scores by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry

SCORERS: dict[str, Entry] = {
    "max_softmax": Entry(".ood.logit_scores:max_softmax", {}, "Hendrycks & Gimpel 2017"),
    "max_logit": Entry(".ood.logit_scores:max_logit", {}, "Hendrycks et al. 2022"),
    "energy": Entry(
        ".ood.logit_scores:energy", {"temperature": 1.0}, "Liu et al. 2020, equation 4"
    ),
    "entropy": Entry(".ood.logit_scores:entropy", {}, "entropy of the softmax"),
}
