"""The score job."""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, model_of
from robsweep.tasks.ood.evasion import Evasion, evaded
from robsweep.tasks.ood.scoring import Stored, of_stored, on_images
from robsweep.tasks.ood.stored import fitted, part, stored_of
from robsweep.tasks.rows import table


def score(job: Job, inputs: Inputs) -> Output:
    """One `ood_scores` row per sample of the measurement's data set.

    Where the rows that a scorer reads are given as `inputs.rows`, no model is loaded. The fit is
    `inputs.fit`.

    Params: scorer, ood_set (None: ID data), group_size, seed, parameters; where
    given, members (`mean`: of the scores of an ensemble's members), fit (whose id), tune (that it
    is a search), and evasion: images are pushed towards low scores, and the lowest one counts.

    Raises:
        InputError: The scorer does not fit the model, or gives another shape.
        FloatingPointError: Some scores are not finite.
    """
    name = job.measurement.params["scorer"]
    computed = _from_rows if inputs.rows is not None else _from_images
    weights_sha256, parts = computed(job, inputs)
    scores = torch.cat([_checked(name, one, size) for one, size in parts])
    if bad := int((~torch.isfinite(scores)).sum()):
        raise FloatingPointError(
            f"scorer {name!r} gave scores that are not finite for {bad} of {len(scores)} samples"
        )
    told: tuple[str, ...] = ()
    if len(scores) > 1 and bool((scores == scores[0]).all()):
        where = job.measurement.params["ood_set"] or job.measurement.dataset
        told = (
            f"scorer {name!r} gave the same score, {float(scores[0]):g}, "
            f"for all {len(scores)} samples {job.start}:{job.stop} of {where}",
        )
    ood_set = job.measurement.params["ood_set"]
    evasion = job.measurement.params.get("evasion") or {}
    ball = {key: evasion.get(key) for key in ("norm", "eps")}
    columns = {"scorer": name, "ood_set": ood_set, "score": scores.numpy(), **ball}
    rows = table("ood_scores", job.keys(weights_sha256), range(job.start, job.stop), columns)
    return Output({"ood_scores": rows}, warnings=told)


class _Piece(NamedTuple):
    scores: Tensor
    samples: int


def _from_rows(job: Job, inputs: Inputs) -> tuple[str, list[_Piece]]:
    m = job.measurement
    name = m.params["scorer"]
    rows = part(inputs.rows, job.start, job.stop, f"scorer {name!r}")
    whole, fit = stored_of(rows, scorer_named(name).head), fitted(inputs.fit)
    by_member = m.params.get("members") == "mean"
    pieces = []
    for group in groups(job.start, job.stop, m.params["group_size"], job.stop):
        which = slice(group.start - job.start, group.stop - job.start)
        some = Stored(*(None if one is None else one[which] for one in whole))  # type: ignore[arg-type]
        scores = of_stored(name, m.params["parameters"], some, fit, by_member=by_member)
        pieces.append(_Piece(scores, len(group)))
    return rows["weights_sha256"][0].as_py(), pieces


def _from_images(job: Job, inputs: Inputs) -> tuple[str, list[_Piece]]:
    m = job.measurement
    name = m.params["scorer"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    data = data_for(m.model, m.dataset, m.split, job.setting, range(job.start, job.stop))
    fit = fitted(inputs.fit)
    parameters = m.params["parameters"]
    if "tune" in m.params:
        assert fit is not None
        parameters = {key: float(fit[key]) for key in parameters}
    scorer = on_images(
        name, parameters, m.model.shape, None if "tune" in m.params else fit,
        by_member=m.params.get("members") == "mean",
    )  # fmt: skip
    evasion = Evasion(**m.params["evasion"]) if "evasion" in m.params else None
    pieces = []
    for group in groups(job.start, job.stop, m.params["group_size"], len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // m.params["group_size"])
        images = data.part(group, device).images
        if evasion is not None:
            images = evaded(scorer, loaded.model, images, evasion)
        pieces.append(_Piece(scorer(loaded.model, images), len(images)))
    return loaded.weights_sha256, pieces


def _checked(name: str, scores: Tensor, samples: int) -> Tensor:
    if tuple(scores.shape) != (samples,):
        raise InputError(f"scorer {name!r} gave shape {tuple(scores.shape)} for {samples} images")
    return scores.detach().double().cpu()
