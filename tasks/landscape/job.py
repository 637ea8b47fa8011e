"""The landscape job: minima of the loss, how sensitive each is, and how robust."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue import LANDSCAPES
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.landscape.objective import Objective, Visit, put
from robsweep.tasks.load import device_of, labelled_data_for, model_of
from robsweep.tasks.logits import logits_of
from robsweep.tasks.models.load import build
from robsweep.tasks.own_functions import function_of
from robsweep.tasks.rows import table
from robsweep.tasks.sensitivity.measure import log_volume, mean_width, network_box
from robsweep.tasks.training.losses.adversarial import ascend
from robsweep.tasks.verification.reading.torch.module import read

# Two minima are one if no logit on the data differs by more than this share of the largest.
_SAME_LOGITS = 1e-3
_BATCH = 100  # images that are attacked, or whose output boxes are computed, at once


class Minimum(NamedTuple):
    """A local minimisation that converged, where none of its chain had ended before."""

    visit: Visit
    loss: float  # of the objective, penalty included
    gradient_norm: float  # Euclidean
    logits: Tensor


def landscape(job: Job, inputs: Inputs) -> Output:
    """One `landscape` row per distinct converged minimum of each chain; `sample` is the chain.

    Chain 0 starts at the trained weights, the others at fresh ones. Two minima are the same if
    they are the same function on the data, whatever the order of the hidden units.

    Params: landscape and its parameters; train_samples (0: all), l2: the objective;
    gradient_tolerance; samples of the test split, eps, method, measure, attack_steps: what is
    measured at each minimum; seed.

    Raises:
        RuntimeError: A chain without a single minimum that converged.
    """
    m = job.measurement
    p = m.params
    loaded, device = model_of(job, inputs), device_of(job.setting)
    train = labelled_data_for(m.model, m.dataset, "train", job.setting)
    data = _on(Labelled(*(part[: p["train_samples"] or None] for part in train)), device)
    test = labelled_data_for(m.model, m.dataset, m.split, job.setting)
    test = _on(Labelled(*(part[slice(*p["samples"])] for part in test)), device)
    path = LANDSCAPES[p["landscape"]].path if p["landscape"] in LANDSCAPES else p["landscape"]
    explore = function_of(path, "landscape")
    chains, rows = [], []
    for chain in range(job.start, job.stop):
        # chains of models that were trained from other seeds are other chains
        seed_everything(p["seed"], f"{m.kind} of {m.seed}", chain)
        model = loaded.model if chain == 0 else build(m.model).to(device)
        objective = Objective(model, data, p["l2"])
        visits = explore(objective, objective.start(), **p["parameters"])
        for minimum in distinct(objective, visits, p["gradient_tolerance"]):
            chains.append(chain)
            rows.append(_row(minimum, model, test, p))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    keys = job.keys(loaded.weights_sha256)
    return Output({"landscape": table("landscape", keys, chains, columns)})


def distinct(objective: Objective, visits: Sequence[Visit], tolerance: float) -> Iterator[Minimum]:
    """The minima among visits whose gradient norm is at most the tolerance, each one once.

    Raises:
        RuntimeError: There is none.
    """
    norms: list[float] = []
    found: list[Minimum] = []
    for visit in visits:
        loss, gradient = objective(visit.weights)
        norms.append(float(np.linalg.norm(gradient)))
        if not norms[-1] <= tolerance:
            continue
        minimum = Minimum(visit, loss, norms[-1], objective.logits(visit.weights))
        if not any(_same(minimum.logits, other.logits) for other in found):
            found.append(minimum)
            yield minimum
    if not found:
        raise RuntimeError(
            f"none of {len(norms)} local minimisations came to gradient norm {tolerance:g}, the "
            f"closest to {min(norms, default=np.nan):.2g}: take a smooth activation, a larger l2, "
            "more max_iterations or a larger gradient_tolerance"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    largest = torch.maximum(one.abs().max(), other.abs().max())
    return bool((one - other).abs().max() <= _SAME_LOGITS * largest)


def _row(
    minimum: Minimum, start: nn.Module, test: Labelled, p: Mapping[str, Any]
) -> dict[str, Any]:
    """What is measured at a minimum, on a float32 model as anywhere else.

    Args:
        start: The chain's model at its start, whose buffers the objective had too.
    """
    model = copy.deepcopy(start).eval().requires_grad_(False)
    put(model, minimum.visit.weights)
    right, unbroken = _survivors(model, test, p)
    return {
        "step": minimum.visit.step,
        "loss": minimum.loss,
        "sensitivity": _sensitivity(model, test.images, p),
        "accuracy": float(right.double().mean()),
        "robust_accuracy": float((right & unbroken).double().mean()),
        "gradient_norm": minimum.gradient_norm,
        "accepted": minimum.visit.accepted,
    }


def _survivors(model: nn.Module, test: Labelled, p: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Whether each sample is classified as its label, as it is and under PGD, (N,) each."""
    seed_everything(p["seed"], "landscape attack", 0)  # the same starts for every minimum
    eps, steps = p["eps"], p["attack_steps"]
    step_size = 2.5 * eps / steps  # any point of the ball can be reached from any other
    right, unbroken = [], []
    for start in range(0, len(test.labels), _BATCH):
        images, labels = (part[start : start + _BATCH] for part in test)
        found = ascend(model, images, labels, eps=eps, steps=steps, step_size=step_size)
        right.append(logits_of(model, images).argmax(dim=1) == labels)
        unbroken.append(logits_of(model, found.detach()).argmax(dim=1) == labels)
    return torch.cat(right), torch.cat(unbroken)


def _sensitivity(model: nn.Module, images: Tensor, p: Mapping[str, Any]) -> float:
    """Mean size of the output boxes."""
    network = read(model, tuple(images.shape[1:]))
    size = {"log_volume": log_volume, "mean_width": mean_width}[p["measure"]]
    parts = images.split(_BATCH)  # type: ignore[no-untyped-call]
    sizes = [size(network_box(network, part, p["eps"], p["method"])) for part in parts]
    return float(torch.cat(sizes).mean())


def _on(data: Labelled, device: torch.device) -> Labelled:
    return data.part(slice(None), device)
