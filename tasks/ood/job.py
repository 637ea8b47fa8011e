"""The score job."""

import torch

from robsweep.tasks.catalogue import SCORERS
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, model_of
from robsweep.tasks.own_functions import function_of
from robsweep.tasks.rows import table


def score(job: Job, inputs: Inputs) -> Output:
    """One `ood_scores` row per sample of the measurement's data set.

    Params: scorer, ood_set (None: ID data), group_size, seed, parameters.
    """
    m = job.measurement
    name, ood_set = m.params["scorer"], m.params["ood_set"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    data = data_for(m.model, m.dataset, m.split, job.setting, range(job.start, job.stop))
    scorer = function_of(SCORERS[name].path if name in SCORERS else name, "scorer")
    parts = []
    for group in groups(job.start, job.stop, m.params["group_size"], len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // m.params["group_size"])
        images = data.part(group, device).images
        scores = scorer(loaded.model, images, **m.params["parameters"])
        if tuple(scores.shape) != (len(images),):
            raise InputError(
                f"scorer {name!r} gave shape {tuple(scores.shape)} for {len(images)} images"
            )
        if not torch.isfinite(scores).all():
            raise FloatingPointError(f"scorer {name!r} gave scores that are not finite")
        parts.append(scores.detach().double().cpu())
    columns = {"scorer": name, "ood_set": ood_set, "score": torch.cat(parts).numpy()}
    keys = job.keys(loaded.weights_sha256)
    return Output({"ood_scores": table("ood_scores", keys, range(job.start, job.stop), columns)})
