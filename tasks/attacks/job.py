"""The attack job."""

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from tasks.attacks.load import load
from tasks.attacks.run import Result, attack_group
from tasks.data.load import Labelled
from tasks.groups import groups, seed_everything
from tasks.job import Inputs, Job, Output
from tasks.load import device_of, labelled_data_for, model_of
from tasks.models.logits import confidence
from tasks.models.weights import to_bytes
from tasks.rows import Keys, table


def attack(job: Job, inputs: Inputs) -> Output:
    """An `attacks` and a `predictions` row per sample and eps, sorted so; the adversarials.

    Params: attack, norm, eps (list, or None for a min-norm attack), restarts, seed, group_size,
    parameters.
    """
    m = job.measurement
    size = m.params["group_size"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting)
    attack_function = load(m.params)
    by_group = []
    for group in groups(job.start, job.stop, size, len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // size)
        results = attack_group(
            attack_function,
            loaded.model,
            data.images[group.start : group.stop].to(device),
            data.labels[group.start : group.stop].to(device),
            eps=m.params["eps"],
            restarts=m.params["restarts"],
        )
        by_group.append(results)
    results = [_joined(parts) for parts in zip(*by_group, strict=True)]
    keys = job.keys(loaded.weights_sha256)
    part = Labelled(*(tensor[job.start : job.stop] for tensor in data))
    tables = {
        "attacks": _attack_rows(job, keys, results),
        "predictions": _prediction_rows(job, keys, results, part, loaded.model),
    }
    if not job.setting.keep_adversarials:
        return Output(tables)
    file = f"adversarials/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    tensors = {_eps_name(result.eps): result.adversarials for result in results}
    return Output(tables, {file: to_bytes(tensors)})


def _eps_name(eps: float | None) -> str:
    return "min_norm" if eps is None else repr(eps)


def _joined(parts: tuple[Result, ...]) -> Result:
    return Result(
        parts[0].eps,
        torch.cat([part.adversarials for part in parts]),
        torch.cat([part.logits for part in parts]),
        np.concatenate([part.success for part in parts]),
        np.concatenate([part.inferred_from_eps for part in parts]),
        np.concatenate([part.distance for part in parts]),
        np.concatenate([part.n_forward for part in parts]),
        np.concatenate([part.n_backward for part in parts]),
        np.concatenate([part.seconds for part in parts]),
        [check for part in parts for check in part.check],
    )


def _attack_rows(job: Job, keys: Keys, results: list[Result]) -> pa.Table:
    params = job.measurement.params
    columns = {
        "attack": params["attack"],
        "norm": params["norm"],
        "eps": [result.eps for result in results] * (job.stop - job.start),
        "success": _by_sample([result.success for result in results]),
        "inferred_from_eps": _nan_to_null([result.inferred_from_eps for result in results]),
        "distance": _nan_to_null([result.distance for result in results]),
        "adversarial_predicted": _by_sample(
            [result.logits.argmax(dim=1).numpy() for result in results]
        ),
        "n_forward": _by_sample([result.n_forward for result in results]),
        "n_backward": _by_sample([result.n_backward for result in results]),
        "seconds": _by_sample([result.seconds for result in results]),
        "restarts": params["restarts"],
        "check": [check for row in zip(*(r.check for r in results), strict=True) for check in row],
    }
    return table("attacks", keys, _samples(job, results), columns)


def _prediction_rows(
    job: Job, keys: Keys, results: list[Result], data: Labelled, model: nn.Module
) -> pa.Table:
    logits = torch.stack([result.logits for result in results], dim=1).flatten(0, 1)
    names = [
        f"attack:{job.measurement.measurement_id}:{_eps_name(result.eps)}" for result in results
    ]
    columns = {
        "source": names * len(data.labels),
        "label": data.labels.numpy().repeat(len(results)),
        "logits": logits.numpy(),
        "predicted": logits.argmax(dim=1).numpy(),
        "confidence": confidence(logits, model).numpy(),
    }
    classes = job.measurement.model.classes
    return table("predictions", keys, _samples(job, results), columns, classes=classes)


def _samples(job: Job, results: list[Result]) -> list[int]:
    return [sample for sample in range(job.start, job.stop) for _ in results]


def _by_sample(columns: list[np.ndarray]) -> np.ndarray:
    """One array per eps -> one array sorted by sample, then eps."""
    return np.stack(columns, axis=1).reshape(-1)


def _nan_to_null(columns: list[np.ndarray]) -> pa.Array:
    return pa.array(_by_sample(columns), from_pandas=True)
