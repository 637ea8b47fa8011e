"""The ensemble job: one weights file out of those of the members."""

import json

import torch

from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.models import weights
from robsweep.tasks.models.load import load
from robsweep.tasks.rows import table


def assemble(job: Job, inputs: Inputs) -> Output:
    """Puts the weights of an ensemble together; its `models` row.

    Params: vote; members, the ids of models, whose weights are `inputs.members` and whose
    architectures `setting.members`.

    Raises:
        InputError: A member cannot be built, or its weights do not fit it.
    """
    m, setting = job.measurement, job.setting
    members = [
        load(ref, content, torch.device("cpu"))
        for ref, content in zip(setting.members, inputs.members, strict=True)
    ]
    content = weights.to_bytes(
        {
            f"members.{i}.{name}": value
            for i, member in enumerate(members)
            for name, value in member.model.state_dict().items()
        }
    )
    spec = {"arch": m.model.arch, "params": dict(m.model.params), "members": m.params["members"]}
    described = {
        "model": m.model.name,
        "arch": m.model.arch,
        "training": None,
        "parameters": sum(member.parameters for member in members),
        "spec_json": json.dumps(spec, sort_keys=True, separators=(",", ":")),
    }
    keys = job.keys(weights.sha256(content))
    rows = table("models", keys, None, described, n=1)
    return Output({"models": rows}, {f"models/{m.measurement_id}.safetensors": content})
