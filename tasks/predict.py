"""The predict job: logits of clean, corrupted or out-of-distribution images."""

import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, labelled_data_for, model_of
from robsweep.tasks.logits import confidence, logits_of
from robsweep.tasks.rows import table
from robsweep.tasks.shift.corrupt import called, corrupt, per_sample


def predict(job: Job, inputs: Inputs) -> Output:
    """One `predictions` row per sample; samples of an OOD set have no label.

    Params: source (`clean`, `ood:<set>`, `corruption:<name>:<severity>`), group_size, seed, and
    for corruptions parameters.
    """
    m = job.measurement
    source: str = m.params["source"]
    family, _, rest = source.partition(":")
    loaded, device = model_of(job, inputs), device_of(job.setting)
    here = range(job.start, job.stop)
    if family == "ood":
        data = data_for(m.model, m.dataset, m.split, job.setting, here)
    elif family in ("clean", "corruption"):
        data = labelled_data_for(m.model, m.dataset, m.split, job.setting, here)
    else:
        raise InputError(f"unknown source {source!r} of predictions")

    parts = []
    for group in groups(job.start, job.stop, m.params["group_size"], len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // m.params["group_size"])
        images = data.part(group, device).images
        if family == "corruption":
            name, _, severity = rest.rpartition(":")
            parameters = m.params.get("parameters", {})
            if per_sample(name):
                seed = m.params["seed"]
                images = corrupt(name, images, int(severity), parameters, seed, group)
            else:
                images = called(name, images, int(severity), parameters)
        parts.append(logits_of(loaded.model, images).cpu())
    logits = torch.cat(parts)
    labels = None if family == "ood" else data.labels[job.start : job.stop].numpy()
    columns = {
        "source": source,
        "label": labels,
        "logits": logits.numpy(),
        "predicted": logits.argmax(dim=1).numpy(),
        "confidence": confidence(logits, loaded.model).numpy(),
    }
    samples = range(job.start, job.stop)
    keys = job.keys(loaded.weights_sha256)
    return Output(
        {"predictions": table("predictions", keys, samples, columns, classes=m.model.classes)}
    )
