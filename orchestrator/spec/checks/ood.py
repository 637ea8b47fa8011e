"""Whether the scorers of a sweep file fit their data and what they are tuned on."""

from robsweep.orchestrator.spec.selection import without_axes
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.yaml_file import Document, Key
from robsweep.tasks.catalogue import FITS
from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.catalogue.words import base_of

_SPLITS = {"features": "train", "logits": "validation"}  # that a fit on these needs


def check(document: Document, spec: SweepSpec) -> None:
    """Refuses what could only fail, or would be tested on what it was tuned on.

    Raises:
        SpecError: With file, line, what is wrong and how to fix it.
    """
    for name, entry in spec.ood.items():
        key: Key = ("ood", without_axes(name))
        fit = scorer_named(entry.name).fit
        split = "validation" if entry.tune else _SPLITS.get(FITS[fit].reads) if fit else None
        if split is not None and split not in spec.dataset.splits:
            raise document.error(
                key, f"{entry.name} is fitted on a {split} split, which {spec.dataset.name} has not"
            )
        if fit is not None and FITS[fit].reads == "features":
            samples, classes = entry.parameters["fit_samples"], spec.dataset.classes
            if samples < classes:
                raise document.error(
                    key,
                    f"fit_samples: {samples} are fewer than the {classes} classes of "
                    f"{spec.dataset.name}: {entry.name} is fitted on samples of all of them",
                )
        if entry.tune is None:
            continue
        tuned = spec.tuning_sets[entry.tune.set]
        if entry.tune.split not in tuned.splits:
            raise document.error(
                (*key, "tune"),
                f"{tuned.name} has no {entry.tune.split} split; it has {', '.join(tuned.splits)}",
            )
        if tuned.shape != spec.dataset.shape:
            raise document.error(
                (*key, "tune"),
                f"{tuned.name} has shape {tuned.shape}, {spec.dataset.name} has "
                f"{spec.dataset.shape}",
            )
        if base_of(tuned.name) == base_of(spec.dataset_of(entry).name):
            raise document.error((*key, "tune"), f"{tuned.name} is the data set itself")
        for word in entry.data_sets:
            tested = spec.ood_sets[word]
            if base_of(tested.name) == base_of(tuned.name) and tested.split == entry.tune.split:
                raise document.error(
                    (*key, "tune"),
                    f"{word} is tested on the very {tested.split} split that "
                    f"{entry.name} is tuned on: tune on another split, or on another set",
                )
