"""OOD scorers and their fits by name. Torch-free."""

from collections.abc import Mapping
from typing import Any

from robsweep.tasks.catalogue.entries import Entry, Fit, Scorer

# Of all that reads features: the layer, "" for the input of the last linear one; whether spatial
# maps are averaged over positions; and how many of the first training samples a fit sees.
_FEATURES = {"layer": "", "pool": "mean"}
_FITTED = {**_FEATURES, "fit_samples": 10_000}


def _logits(path: str, source: str, **parameters: Any) -> Scorer:
    return Scorer(f".ood.logit_scores:{path}", parameters, source)


def _features(
    path: str,
    source: str,
    fit: str,
    own: Mapping[str, Any] | None = None,
) -> Scorer:
    """A scorer of features; `own` are its function's parameters, beside those of its fit."""
    common = _FEATURES if FITS[fit].reads == "head" else _FITTED
    of_fit = {**common, **FITS[fit].parameters}
    return Scorer(
        f".ood.{path}",
        {**(own or {}), **of_fit},
        source,
        reads="features",
        fit=fit,
        fitted=(*of_fit,),
        head=FITS[fit].head,
    )


FITS: dict[str, Fit] = {
    "posteriors": Fit(".ood.fits:posteriors", {}, "Hendrycks et al. 2022, section 3", "logits"),
    "head": Fit(".ood.fits:head", {}, "the last linear layer", "head", "exact"),
    "gaussian": Fit(".ood.fits:gaussian", {}, "Lee et al. 2018; Ren et al. 2021"),
    "bank": Fit(".ood.fits:bank", {}, "Sun et al. 2022, section 3"),
    "subspace": Fit(
        ".ood.fits:subspace", {"dim": 0}, "Wang et al. 2022, section 4", head="any"
    ),
    "clip": Fit(
        ".ood.fits:clip", {"percentile": 90.0}, "Sun et al. 2021, section 3", head="exact"
    ),
    "patterns": Fit(".ood.fits:patterns", {}, "Zhang et al. 2023, section 3"),
    "centre": Fit(".ood.fits:centre", {}, "Liu & Qin 2024, section 3", head="exact"),
    "odin": Fit(".ood.odin:search", {}, "Liang et al. 2018, section 4", "search"),
}

SCORERS: dict[str, Entry] = {
    "max_softmax": _logits("max_softmax", "Hendrycks & Gimpel 2017"),
    "max_logit": _logits("max_logit", "Hendrycks et al. 2022"),
    "energy": _logits("energy", "Liu et al. 2020, equation 4", temperature=1.0),
    "entropy": _logits("entropy", "entropy of the softmax"),
    "cross_entropy_uniform": _logits(
        "cross_entropy_uniform", "Hendrycks et al. 2019, section 3"
    ),
    "gen": _logits("gen", "Liu et al. 2023, equation 2", gamma=0.1, top=100),
    "kl_matching": Scorer(
        ".ood.logit_scores:kl_matching", {}, "Hendrycks et al. 2022, section 3", fit="posteriors"
    ),
    "mahalanobis": _features(
        "distance_scores:mahalanobis", "Lee et al. 2018, section 2.1", "gaussian"
    ),
    "relative_mahalanobis": _features(
        "distance_scores:relative_mahalanobis", "Ren et al. 2021, section 3", "gaussian"
    ),
    "knn": _features("distance_scores:knn", "Sun et al. 2022, section 3", "bank", {"k": 50}),
    "she": _features("distance_scores:she", "Zhang et al. 2023, section 3", "patterns"),
    "nnguide": _features(
        "distance_scores:nnguide", "Park et al. 2023, section 3", "bank", {"k": 10}
    ),
    "vim": _features(
        "subspace_scores:vim", "Wang et al. 2022, section 4", "subspace",
    ),
    "residual": _features(
        "subspace_scores:residual", "Wang et al. 2022, section 3.2", "subspace",
    ),
    "react": _features(
        "head_scores:react", "Sun et al. 2021, section 3", "clip",
    ),
    "ash": _features(
        "head_scores:ash", "Djurisic et al. 2023, ASH-S", "head", {"prune": 90.0}
    ),
    "scale": _features(
        "head_scores:scale", "Xu et al. 2024, section 4", "head", {"prune": 85.0}
    ),
    "fdbd": _features("head_scores:fdbd", "Liu & Qin 2024, section 3", "centre"),
    "nci": _features(
        "head_scores:nci", "Liu & Qin 2025, section 3", "centre", {"alpha": 0.001}
    ),
    "gradnorm": _features(
        "head_scores:gradnorm", "Huang et al. 2021, section 3", "head", {"temperature": 1.0},
    ),
    "odin": Scorer(
        ".ood.odin:odin", {"temperature": 1000.0, "eps": 0.0014}, "Liang et al. 2018", reads="model"
    ),
    "mutual_information": Scorer(
        ".ood.member_scores:mutual_information", {}, "Smith & Gal 2018, section 2",
        reads="members",
    ),
    "abs_likelihood": Scorer(
        ".ood.likelihood:abs_likelihood", {}, "Schott et al. 2019, section 4", reads="model"
    ),
}  # fmt: skip


def scorer_named(name: str) -> Scorer:
    """The catalogue's entry; a user's own function, which is run on model and images."""
    entry = SCORERS.get(name)
    return entry if isinstance(entry, Scorer) else Scorer(name, {}, "the user's", reads="model")


def own_parameters(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the scorer's function takes."""
    fitted = scorer_named(name).fitted
    return {key: value for key, value in parameters.items() if key not in fitted}
