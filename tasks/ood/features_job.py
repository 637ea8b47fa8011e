"""The features job: what a model makes of images before its last layer, kept for all scores."""

from typing import Any

import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, labelled_data_for, model_of
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.ood.features import Passed, features_of
from robsweep.tasks.ood.scoring import NO_MEMBERS
from robsweep.tasks.rows import table


def features(job: Job, inputs: Inputs) -> Output:
    """One `features` row per sample; samples of an OOD set have no label.

    Params: source (`clean`, `ood:<set>`), group_size, seed, and layer and pool as `features_of`
    takes them; or members, where an ensemble's members' logits are all that is wanted.

    Raises:
        InputError: The model has no such features.
        FloatingPointError: Some are not finite.
    """
    m = job.measurement
    family, here = m.params["source"].partition(":")[0], range(job.start, job.stop)
    loaded, device = model_of(job, inputs), device_of(job.setting)
    if family == "ood":
        data = data_for(m.model, m.dataset, m.split, job.setting, here)
    else:
        data = labelled_data_for(m.model, m.dataset, m.split, job.setting, here)
    run = _members if m.params.get("members") else _whole
    parts = []
    for group in groups(job.start, job.stop, m.params["group_size"], len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // m.params["group_size"])
        with torch.no_grad():
            one = run(loaded.model, data.part(group, device).images, m.params, m.model.shape)
        parts.append(Passed(*(None if t is None else t.float().cpu() for t in one)))  # type: ignore[arg-type]
    found = torch.cat([one.features for one in parts])
    logits = torch.cat([one.logits for one in parts])
    for what, values in (("features", found), ("logits", logits)):
        if bad := int((~torch.isfinite(values)).any(dim=1).sum()):
            raise FloatingPointError(
                f"the model's {what} are not finite for {bad} of {len(values)} samples"
            )
    columns: dict[str, Any] = {
        "source": m.params["source"],
        "label": None if family == "ood" else data.labels[job.start : job.stop].numpy(),
        "features": None if m.params.get("members") else found.numpy(),
        "logits": logits.numpy(),
    }
    if parts[0].members is not None:
        members = torch.cat([one.members for one in parts if one.members is not None])
        columns |= {"member_logits": members.flatten(1).numpy(), "members": members.shape[1]}
    keys = job.keys(loaded.weights_sha256)
    rows = table("features", keys, range(job.start, job.stop), columns)
    return Output({"features": rows})


def _whole(
    model: torch.nn.Module, images: torch.Tensor, params: Any, shape: tuple[int, ...]
) -> Passed:
    return features_of(model, shape, layer=params["layer"], pool=params["pool"])(images)


def _members(
    model: torch.nn.Module, images: torch.Tensor, params: Any, shape: tuple[int, ...]
) -> Passed:
    if not isinstance(model, Ensemble):
        raise InputError(NO_MEMBERS)
    each = [member(images) for member in model.members]
    return Passed(images.new_zeros(len(images), 0), model.voted(each), torch.stack(each, dim=1))
