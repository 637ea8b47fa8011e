"""Whether a sweep file's entries are about samples and models that there are."""

from robsweep.orchestrator.spec.selection import both, selected, without_axes
from robsweep.orchestrator.spec.spec import SECTIONS, DatasetSpec, SweepSpec
from robsweep.orchestrator.spec.versions import all_versions
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean


def check_sizes(document: Document, spec: SweepSpec) -> None:
    named: list[tuple[Key, tuple[int, int] | None, DatasetSpec]] = [
        (("samples",), spec.samples, one) for one in (spec.dataset, *spec.datasets.values())
    ]
    for section in ("attacks", "ood", "shift", "verification", "sensitivity", "landscape"):
        for name, entry in getattr(spec, section).items():
            key: Key = (section, without_axes(name), "samples")
            named.append((key, entry.samples, spec.dataset_of(entry)))
    for name, entry in spec.ood.items():
        for ood_set in entry.data_sets:
            place: Key = ("ood", without_axes(name), "ood_samples")
            named.append((place, entry.ood_samples, spec.ood_sets[ood_set]))
    for place, samples, dataset in named:
        size = dataset.splits.get(dataset.split, 0)
        if samples is not None and samples[1] > size:
            of = "" if dataset == spec.dataset else f" of {dataset.name}"
            raise document.error(
                place,
                f"asks for {samples[1]} samples, the {dataset.split} split{of} has {size}",
            )


def check_selections(document: Document, spec: SweepSpec) -> None:
    if not spec.models:
        raise document.error(("models",), "needs at least one model")
    plain = {name: model for name, model in spec.models.items() if not model.members}
    if not spec.trainings and not all(model.imported for model in plain.values()):
        raise document.error(
            ("models",), "models without `weights:` need `trainings:` to train them"
        )
    if not any(
        model.imported or any(selected(t, name, training) for training, t in spec.trainings.items())
        for name, model in plain.items()
    ):
        raise document.error(("trainings",), "`only:` and `exclude:` leave no model to train")
    known = {name for full in (*spec.models, *spec.trainings) for name in both(full)}
    for section in SECTIONS:
        for name, entry in getattr(spec, section).items():
            if "only" in entry.model_fields_set and not entry.only:
                raise document.error(
                    (section, without_axes(name), "only"),
                    "an empty list: name models or trainings, or leave it out to mean all",
                )
            for key in ("only", "exclude"):
                for word in getattr(entry, key):
                    if not set(word.split("/")) <= known:
                        raise document.error(
                            (section, without_axes(name), key),
                            f"no model or training is named {word!r}{did_you_mean(word, known)}",
                        )


def check_applies(document: Document, spec: SweepSpec) -> None:
    """Whether each evaluation is of some model at all."""
    versions = [(model, version.training) for model, version in all_versions(spec)]
    trained = {training for _, training in versions}
    trained |= {m.training for _, version in all_versions(spec) for m in version.members}
    for name, entry in spec.trainings.items():
        if (entry.only or entry.exclude) and name not in trained:
            raise document.error(
                ("trainings", without_axes(name)),
                "`only:` and `exclude:` leave no model that this training applies to",
            )
    for section in SECTIONS:
        if section in {"models", "trainings", "landscape"}:  # checked elsewhere
            continue
        for name, entry in getattr(spec, section).items():
            if not any(selected(entry, *version) for version in versions):
                key = "exclude" if entry.exclude else "only"
                raise document.error(
                    (section, without_axes(name), key),
                    "`only:` and `exclude:` leave no model that this entry applies to",
                )


def check_landscapes(document: Document, spec: SweepSpec) -> None:
    train = spec.dataset.splits.get("train", 0)
    versions = list(all_versions(spec))
    for name, entry in spec.landscape.items():
        key: Key = ("landscape", without_axes(name))
        if entry.train_samples > train:
            raise document.error(
                (*key, "train_samples"),
                f"asks for {entry.train_samples} samples, the train split has {train}",
            )
        if not any(v.training and selected(entry, model, v.training) for model, v in versions):
            raise document.error(
                key,
                "applies to no model that is trained here: its chains start from trained weights",
            )
