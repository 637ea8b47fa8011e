"""Measurements of the section `ood`: scores, and the rows and fits that they are made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Attacked, Planned, PlannedModel, Use
from robsweep.orchestrator.plan.sections.adversarials import adversarial_sets
from robsweep.orchestrator.plan.sections.predictions import CLEAN
from robsweep.orchestrator.ranges import aligned, subtract, union
from robsweep.orchestrator.spec.selection import selected
from robsweep.orchestrator.spec.spec import DatasetSpec, OodSpec, SweepSpec
from robsweep.tasks.catalogue import FITS, KINDS, SCORERS
from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.catalogue.words import base_of

_ROWS_GROUPS = 40  # groups in a job that only reads rows


@dataclass(frozen=True)
class _Part:
    """A data set that is scored, and which samples of it."""

    dataset: DatasetSpec
    samples: tuple[int, int] | None
    use: Use
    outside: bool
    group: int | None = None  # what it is there in whole; None: as one likes
    needs: tuple[str, ...] = ()  # what makes it

    @property
    def ood_set(self) -> str | None:
        return self.dataset.word if self.outside else None

    @property
    def source(self) -> str:
        return f"ood:{self.dataset.word}" if self.outside else "clean"


def ood(make: Make, model: PlannedModel, attacked: Sequence[Attacked]) -> Iterator[Planned]:
    """Predictions on each OOD set; per entry, scores of the sweep's own data and of each set.

    Args:
        attacked: What this sweep attacks the model with.

    Raises:
        InputError: A scorer cannot be had of this model, or has no data to be fitted on.
    """
    spec = make.spec
    chosen = {
        name: entry
        for name, entry in spec.ood.items()
        if selected(entry, model.name, model.training)
    }
    parts = {name: list(_parts(make, model, name, chosen[name], attacked)) for name in chosen}
    for part in (part for some in parts.values() for part in some if part.outside):
        word = part.use.label or part.dataset.word
        yield replace(_outside(make, model, part), uses=(part.use._replace(entry=word),))
    for name, entry in chosen.items():
        yield from _scores(make, model, name, entry, parts[name])


def _parts(
    make: Make, model: PlannedModel, name: str, entry: OodSpec, attacked: Sequence[Attacked]
) -> Iterator[_Part]:
    """The ID data of an entry, then its OOD sets."""
    spec = make.spec
    own = use_of(spec, name, entry, None)
    yield _Part(spec.dataset_of(entry), entry.samples or spec.samples, own, outside=False)
    for word in entry.data_sets:
        use = use_of(spec, name, entry, word)
        # a corruption of the ID data counts as ID in the full spectrum: as many as there are clean
        samples = entry.ood_samples or ((entry.samples or spec.samples) if use.shifted else None)
        yield _Part(spec.ood_sets[word], samples, use, outside=True)
    for made in adversarial_sets(make, model, name, entry, attacked):
        use = use_of(spec, name, entry, made.word)._replace(label=made.label)
        yield _Part(made.dataset, made.samples, use, True, made.group, made.needs)


def fitted(
    make: Make,
    model: PlannedModel,
    scorer: str,
    parameters: Mapping[str, Any],
    group_size: int | None = None,
) -> list[Planned]:
    """What a scorer of the catalogue is fitted on, and at last its fit; nothing if it needs none.

    Raises:
        InputError: The data set has not the split that it is fitted on.
    """
    name = scorer_named(scorer).fit
    if name is None:
        return []
    entry, spec = FITS[name], make.spec
    if entry.reads == "logits":
        _check_split(spec.dataset, "validation", scorer)
        read = make.planned(
            "predict", model, "calibration", "validation", "clean", CLEAN, split="validation"
        )
        end = spec.dataset.splits["validation"]
        return [read, _fit(make, model, name, read, {}, end, "validation", {})]
    place = {key: parameters[key] for key in ("layer", "pool")}
    own = {key: parameters[key] for key in entry.parameters}
    if entry.reads == "head":
        return [_fit(make, model, name, None, own, 0, "train", place)]
    _check_split(spec.dataset, "train", scorer)
    end = min(parameters["fit_samples"], spec.dataset.splits["train"])
    params = _features(place, group_size, "clean")
    read = make.planned(
        "features", model, "ood", "train", "features", params, split="train", samples=(0, end)
    )
    place = {**place, "group_size": params["group_size"]}
    return [read, _fit(make, model, name, read, own, end, "train", place)]


def _fit(
    make: Make,
    model: PlannedModel,
    name: str,
    read: Planned | None,
    parameters: Mapping[str, Any],
    end: int,
    split: str,
    place: Mapping[str, Any],
) -> Planned:
    params = {"fit": name, "parameters": parameters, "samples": [0, end], **place}
    needs = model.needs if read is None else (read.measurement.measurement_id,)
    if read is not None and FITS[name].head != "none":
        needs = (*model.needs, *needs)
    return make.planned("fit", model, "ood", name, name, params, split=split, needs=needs)


def _search(make: Make, model: PlannedModel, entry: OodSpec) -> Planned:
    """The search that ODIN's parameters come from."""
    tune = entry.tune
    assert tune is not None
    _check_split(make.spec.dataset, "validation", entry.name)
    dataset = make.spec.tuning_sets[tune.set]
    params = {
        "fit": "odin",
        "parameters": {"temperatures": list(tune.temperatures), "eps": list(tune.eps)},
        "set": dataset.name,
        "set_split": tune.split,
        "samples": tune.samples,
        "group_size": entry.group_size or KINDS["score"].group_size,
        "seed": entry.seed,
    }
    return make.planned(
        "fit", model, "ood", "odin", "odin", params, split="validation", needs=model.needs
    )


def _scores(
    make: Make, model: PlannedModel, name: str, entry: OodSpec, parts: Sequence[_Part]
) -> Iterator[Planned]:
    spec, scorer = make.spec, scorer_named(entry.name)
    if model.ref.arch != "ensemble" and (entry.members or scorer.reads == "members"):
        what = "`members: mean`" if entry.members else entry.name
        raise InputError(
            f"ood.{name}: {what} is of ensembles, {model.name} is none: "
            "name those that are, with `only:`"
        )
    if entry.tune is None:
        behind = fitted(make, model, entry.name, entry.parameters, entry.group_size)
    else:
        behind = [_search(make, model, entry)]
    yield from behind
    fit = behind[-1].measurement.measurement_id if behind else None
    tuned_on = None if entry.tune is None else spec.tuning_sets[entry.tune.set].name
    for part in parts:
        params = _params(entry, part, fit, tuned_on)
        plain = make.planned(
            "score", model, "ood", name, entry.name, params,
            samples=part.samples, code=make.code(entry.name), dataset=part.dataset,
            needs=(*model.needs, *part.needs, *(() if fit is None else (fit,))), uses=(part.use,),
        )  # fmt: skip
        rows = _rows(make, model, entry, part)
        if rows is not None and rows.measurement.kind == "features":
            yield rows
        yield plain if rows is None else _from(plain, rows, fit)
        for eps in entry.evasion.eps if entry.evasion and part.outside else ():
            evasion = {**entry.evasion.model_dump(), "eps": eps} if entry.evasion else {}
            yield make.planned(
                "score", model, "ood", name, entry.name, {**params, "evasion": evasion},
                samples=part.samples, code=make.code(entry.name), dataset=part.dataset,
                needs=plain.needs, uses=plain.uses,
            )  # fmt: skip


def _params(
    entry: OodSpec, part: _Part, fit: str | None, tuned_on: str | None
) -> dict[str, object]:
    """What is not set is not named: ids of before stay."""
    params: dict[str, object] = {
        "scorer": entry.name,
        "ood_set": part.ood_set,
        "group_size": part.group or entry.group_size or KINDS["score"].group_size,
        "seed": entry.seed,
        "parameters": entry.parameters,
    }
    if entry.members:
        params["members"] = entry.members
    if fit is not None:
        params["fit"] = fit
    if entry.tune is not None:
        params["tune"] = {"set": tuned_on, "split": entry.tune.split}
    return params


def _rows(make: Make, model: PlannedModel, entry: OodSpec, part: _Part) -> Planned | None:
    """What a score is computed from, if it is from rows."""
    scorer = scorer_named(entry.name)
    if entry.name not in SCORERS or scorer.reads == "model":
        return None
    if scorer.reads == "features" or entry.members or scorer.reads == "members":
        place: dict[str, Any] = {"members": True}
        if scorer.reads == "features":
            place = {key: entry.parameters[key] for key in ("layer", "pool")}
        return make.planned(
            "features", model, "ood", "features", "features",
            _features(place, part.group or entry.group_size, part.source),
            samples=part.samples, dataset=part.dataset, needs=(*model.needs, *part.needs),
        )  # fmt: skip
    if part.outside:
        read = _outside(make, model, part)
    else:
        read = make.planned(
            "predict", model, "clean", "clean", "clean", CLEAN,
            dataset=part.dataset, samples=make.spec.samples,
        )  # fmt: skip
    asked = union([part.samples or (0, read.size)])
    groups = part.group or entry.group_size or KINDS["score"].group_size, read.group
    have = aligned(read.wanted, read.group, read.size)
    there = not subtract(aligned(asked, read.group, read.size), have)
    # samples that nothing else asks for, or in other groups, are run through the model
    return read if there and len({*groups}) == 1 else None


def _from(plain: Planned, rows: Planned, fit: str | None) -> Planned:
    """A score that is made of rows alone."""
    per_job = plain.per_job
    if rows.measurement.kind == "predict" and plain.resources.samples_per_job is None:
        per_job = plain.group * _ROWS_GROUPS
    key = rows.measurement.measurement_id
    needs = (key,) if fit is None else (key, fit)
    return replace(plain, per_job=per_job, needs=needs, from_rows=True)


def _features(place: Mapping[str, Any], group_size: int | None, source: str) -> dict[str, Any]:
    size = group_size or KINDS["features"].group_size
    return {"source": source, "group_size": size, "seed": 0, **place}


def _outside(make: Make, model: PlannedModel, part: _Part) -> Planned:
    """Predictions on what is asked for of an OOD set."""
    word = part.dataset.word
    source = {**CLEAN, "source": f"ood:{word}"}
    if part.group is not None:
        source["group_size"] = part.group
    return make.planned(
        "predict", model, "ood", word, "ood", source,
        dataset=part.dataset, samples=part.samples, needs=(*model.needs, *part.needs),
    )  # fmt: skip


def use_of(spec: SweepSpec, name: str, entry: OodSpec, ood_set: str | None) -> Use:
    """What an entry of `ood:` asks a set for; None: its ID data.

    A set is of a group where the entry asks for all sets of that group.
    """
    own = spec.dataset_of(entry).name
    if ood_set is None:
        return Use("ood", name, own)
    groups = [
        group
        for group, sets in spec.ood_groups.items()
        if ood_set in sets and {*sets} <= {*entry.sets}
    ]
    other = spec.ood_sets.get(ood_set)
    shifted = other is not None and base_of(other.name) == base_of(own)
    return Use("ood", name, own, tuple(groups), shifted)


def _check_split(dataset: DatasetSpec, split: str, scorer: str) -> None:
    if split not in dataset.splits:
        raise InputError(f"{scorer} is fitted on a {split} split, which {dataset.name} has not")
