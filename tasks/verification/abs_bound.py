"""An estimate of how far away the nearest adversarial is, for analysis by synthesis."""

import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, ModelRef, Output
from robsweep.tasks.load import device_of, labelled_data_for, model_of
from robsweep.tasks.logits import margin
from robsweep.tasks.models.architectures.abs import ABS, BinaryABS
from robsweep.tasks.models.architectures.abs_inference import PIXELS
from robsweep.tasks.verification.verdicts import Row, as_table


class Estimate(NamedTuple):
    """Of N samples."""

    right: Tensor  # (N,) bool
    distance: Tensor  # (N,), l2 in units of pixels; 0 where the model is wrong


def screen(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample: `misclassified`, or `unknown` with a `distance_lower`.

    Never `verified`: the distances that the estimate rests on are found by descent.
    Params: verifier, property, norm, eps (None), group_size, seed, parameters (steps).
    """
    m = job.measurement
    size = m.params["group_size"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    model = estimable(loaded.model, m.model)
    samples = range(job.start, job.stop)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting, samples)
    rows: list[Row] = []
    for group in groups(job.start, job.stop, size, len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // size)
        started = time.perf_counter()
        images, labels = (part[group.start : group.stop].to(device) for part in data)
        found = distance_estimate(model, images, labels, steps=m.params["parameters"]["steps"])
        seconds = (time.perf_counter() - started) / len(labels)
        rows += [
            Row(
                "unknown" if right else "misclassified",
                "estimate",
                seconds=seconds,
                distance_lower=distance,
            )
            for right, distance in zip(found.right.tolist(), found.distance.tolist(), strict=True)
        ]
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)})


def distance_estimate(model: ABS, images: Tensor, labels: Tensor, *, steps: int) -> Estimate:
    """The l2 distance within which, by what descent has found, no image is classified otherwise.

    An image within e of x lies within r_y + e of the explanation by its label, and at least
    d_c - e from all that another class can decode. So its loss for the label is at most
    L_y + 2 e r_y + e^2, and that for the other class at least (d_c - e)^2, which is more for
    e < (d_c^2 - L_y) / (2 (d_c + r_y)). It is no proof, as d_c may be smaller than was found.

    Args:
        images: (N, 1, 28, 28).
        labels: (N,).
        steps: Of descent for d_c, from the nearest of the model's own latents.

    Source: Schott et al. 2019, section 4, equation 9.
    """
    with torch.no_grad():
        explained = model.explain(images)
        nearest = model.explain(images, beta=0.0, steps=steps)
        rows = torch.arange(len(labels), device=labels.device)
        pixels = images.flatten(1).double()
        own = explained.pixels[rows, labels].double()
        residual = (pixels - own).square().sum(1).sqrt()
        loss = explained.loss[rows, labels].double() * PIXELS
        others = (pixels[:, None] - nearest.pixels.double()).square().sum(2).sqrt()
        reach = (others.square() - loss[:, None]) / (2 * (others + residual[:, None]))
        reach[rows, labels] = torch.inf
        right = margin(explained.loss.neg(), labels) > 0
        distance = torch.where(right, reach.amin(1).clamp(min=0), 0.0)
    return Estimate(right, distance)


def estimable(model: nn.Module, ref: ModelRef) -> ABS:
    """The model, if the formula holds for it.

    Raises:
        InputError: It is no analysis by synthesis of the pixels as they are.
    """
    if not isinstance(model, ABS) or isinstance(model, BinaryABS):
        raise InputError(
            f"verifier 'abs_bound' is for models 'abs', not for {ref.name or ref.arch!r} "
            f"({ref.arch}): leave it out by `only:` or `exclude:`"
        )
    return model
