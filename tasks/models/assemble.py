"""The ensemble job: one weights file out of those of the members."""

import json

import torch

from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.models import weights
from robsweep.tasks.models.load import load
from robsweep.tasks.models.questions import ASKED, ask_trained
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
    whole = load(m.model, content, torch.device("cpu"))
    data = load_data(m.dataset, m.split, setting.data_dir, setting.data_files, samples=range(ASKED))
    found = ask_trained(whole.model, data.images[:ASKED])
    spec = {"arch": m.model.arch, "params": dict(m.model.params), "members": m.params["members"]}
    described = {
        "model": m.model.name,
        "arch": m.model.arch,
        "training": None,
        "parameters": sum(member.parameters for member in members),
        "spec_json": json.dumps(spec, sort_keys=True, separators=(",", ":")),
        "warnings": found.text,
    }
    keys = job.keys(weights.sha256(content))
    rows = table("models", keys, None, described, n=1)
    said = (*found.refusals, *found.warnings)
    file = f"models/{m.measurement_id}.safetensors"
    return Output({"models": rows}, {file: content}, said)
