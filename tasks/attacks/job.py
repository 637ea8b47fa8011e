"""The attack job."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from robsweep.tasks.attacks.detector import Detector, calibrated
from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.load import load
from robsweep.tasks.attacks.run import Result, attack_group
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, labelled_data_for, model_of
from robsweep.tasks.logits import confidence
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.models.weights import to_bytes
from robsweep.tasks.ood.scoring import on_images
from robsweep.tasks.ood.stored import fitted
from robsweep.tasks.rows import Keys, table

_FITTED = 1000  # validation images that a detector's threshold is fitted on


def attack(job: Job, inputs: Inputs) -> Output:
    """An `attacks` and a `predictions` row per sample and eps, sorted so; the adversarials.

    Params: attack, norm, eps (list, or None for a min-norm attack), restarts, seed, group_size,
    parameters; where given, target, gradients with gradient_samples and gradient_step, eot, source
    (a model's id) and detector with detector_parameters, as `How` has them.
    """
    m = job.measurement
    size = m.params["group_size"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    attacked_model = model_of(job, inputs, many_passes=True).model
    samples = range(job.start, job.stop)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting, samples)
    seed_everything(m.params["seed"], m.kind, -1)  # a detector's threshold may be drawn too
    how = _how(job, inputs, loaded.model)
    attack_function = load(m.params)
    if how.detector is not None and "detector" in attack_function.wants:
        function = partial(attack_function.function, detector=how.detector)
        attack_function = attack_function._replace(function=function)

    def attacked(samples: range) -> list[Result]:
        seed_everything(m.params["seed"], m.kind, samples.start // size)
        images, labels = data.part(samples, device)
        limit = how.time_limit_seconds
        together = -(-len(samples) // size)  # groups, which have a limit each
        results = attack_group(
            attack_function,
            attacked_model,
            images,
            labels,
            eps=m.params["eps"],
            how=how if limit is None else replace(how, time_limit_seconds=limit * together),
            first=samples.start,
            group_size=size,
            deployed=loaded.model,
        )
        if samples.start == pieces[0].start and results[-1].hopeless:
            check_it_works([results[-1]])  # else each group would show it once more
        return results

    pieces = groups(job.start, job.stop, size, len(data.labels))
    by_group = in_batches(attacked, pieces, device)
    check_it_works([group[-1] for group in by_group])
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


def check_it_works(groups: list[Result]) -> None:
    """Raises what the attack raised if it did so on all samples, as then it is no sample's fault.

    Not where it ran out of time, or had one sample only: then their checks say so.
    """
    errors = [group.error for group in groups if group.error is not None]
    failed = sum(check.startswith("error") for group in groups for check in group.check)
    late = any(isinstance(error, TimeoutError) for error in errors)
    if len(errors) == len(groups) and failed > 1 and not late:
        raise errors[0]


def in_batches(
    attacked: Callable[[range], list[Result]], pieces: list[range], device: torch.device
) -> list[list[Result]]:
    """Attacks groups one by one; on a GPU as many at once as its memory holds.

    There, rows may differ in last bits with what shares a batch, so groups are no promise anyway.
    """
    if device.type == "cpu":
        return [attacked(piece) for piece in pieces]
    try:
        return [attacked(range(pieces[0].start, pieces[-1].stop))]
    except torch.OutOfMemoryError:
        if len(pieces) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(pieces) // 2
    return [
        *in_batches(attacked, pieces[:half], device),
        *in_batches(attacked, pieces[half:], device),
    ]


def _how(job: Job, inputs: Inputs, model: nn.Module) -> How:
    params, setting = job.measurement.params, job.setting
    source = None
    if "source" in params:
        (ref,), (weights,) = setting.members, inputs.members
        source = load_model(ref, weights, device_of(setting), many_passes=True).model
    return How(
        restarts=params["restarts"],
        seed=params["seed"],
        target=params.get("target"),
        gradients=params.get("gradients"),
        gradient_samples=params.get("gradient_samples", 0),
        gradient_step=params.get("gradient_step", 1e-3),
        eot=params.get("eot", 1),
        source=source,
        detector=_detector(job, inputs, model) if "detector" in params else None,
        time_limit_seconds=setting.time_limit_seconds,
    )


def _detector(job: Job, inputs: Inputs, model: nn.Module) -> Detector:
    """The detector as it would be deployed: its threshold is fitted on validation images."""
    m = job.measurement
    scorer = on_images(
        m.params["detector"], m.params["detector_parameters"], m.model.shape, fitted(inputs.fit)
    )
    validation = data_for(m.model, m.dataset, "validation", job.setting)
    images = validation.part(slice(_FITTED), device_of(job.setting)).images
    return calibrated(scorer, model, images, m.params["group_size"])


def _eps_name(eps: float | None) -> str:
    return "min_norm" if eps is None else repr(eps)


def _joined(parts: tuple[Result, ...]) -> Result:
    return Result(
        parts[0].eps,
        torch.cat([part.adversarials for part in parts]),
        torch.cat([part.logits for part in parts]),
        np.concatenate([part.success for part in parts]),
        np.concatenate([part.inferred_from_eps for part in parts]),
        np.concatenate([part.broken_again for part in parts]),
        np.concatenate([part.distance for part in parts]),
        np.concatenate([part.n_forward for part in parts]),
        np.concatenate([part.n_backward for part in parts]),
        np.concatenate([part.bad_gradients for part in parts]),
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
        "broken_again": _nan_to_null([result.broken_again for result in results]).cast(pa.bool_()),
        "distance": _nan_to_null([result.distance for result in results]),
        "adversarial_predicted": _by_sample(
            [result.logits.argmax(dim=1).numpy() for result in results]
        ),
        "source_model_id": params.get("source"),
        "n_forward": _by_sample([result.n_forward for result in results]),
        "n_backward": _by_sample([result.n_backward for result in results]),
        "bad_gradients": _by_sample([result.bad_gradients for result in results]),
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
