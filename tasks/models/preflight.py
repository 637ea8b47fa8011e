"""The preflight job: loads a model and calls it once, before anything is computed with it."""

import torch

from tasks.errors import InputError
from tasks.job import Inputs, Job, Output
from tasks.load import data_for, device_of, model_of


def preflight(job: Job, inputs: Inputs) -> Output:
    """Calls the model on two samples of its data set. No rows.

    Raises:
        InputError: The model cannot be loaded or called, or gives no finite logits (2, classes).
    """
    m = job.measurement
    loaded = model_of(job, inputs)
    images = data_for(m.model, m.dataset, m.split, job.setting).images[:2]
    called = f"model {m.model.arch!r}, called on {len(images)} images {tuple(images.shape)}"
    try:
        with torch.no_grad():
            logits = loaded.model(images.to(device_of(job.setting)))
    except Exception as error:
        raise InputError(f"{called}, raised {type(error).__name__}: {error}") from error
    if not isinstance(logits, torch.Tensor):
        raise InputError(f"{called}, gave a {type(logits).__name__}, not a tensor of logits")
    wanted = (len(images), m.model.classes)
    if tuple(logits.shape) != wanted:
        raise InputError(f"{called}, gave shape {tuple(logits.shape)}, not logits {wanted}")
    if logits.dtype != torch.float32:
        raise InputError(f"{called}, gave {logits.dtype}, not torch.float32")
    if not torch.isfinite(logits).all():
        raise InputError(f"{called}, gave logits that are not finite")
    return Output({})
