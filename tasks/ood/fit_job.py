"""The fit job: what a scorer needs to know of the training or validation split."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robsweep.tasks.catalogue import FITS
from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, model_of
from robsweep.tasks.models.weights import sha256, to_bytes
from robsweep.tasks.ood.features import features_of
from robsweep.tasks.ood.fits import Given, Head
from robsweep.tasks.ood.odin import search
from robsweep.tasks.ood.stored import part, stored_of
from robsweep.tasks.rows import table


def fit(job: Job, inputs: Inputs) -> Output:
    """One `fits` row, and its tensors.

    Params: fit, parameters; samples ([start, stop], of the split) and for those on features layer
    and pool; for a search set, split, group_size and seed.

    Raises:
        InputError: There is too little to fit it on, or the model has no such head.
    """
    m = job.measurement
    name = m.params["fit"]
    fitted = _searched if FITS[name].reads == "search" else _fitted
    weights_sha256, samples, tensors, facts = fitted(job, inputs)
    content = to_bytes(tensors)
    columns = {
        "fit": name,
        "fitted_on": m.split,
        "samples": samples,
        "facts_json": json.dumps(facts, sort_keys=True),
        "artifact_sha256": sha256(content),
    }
    rows = table("fits", job.keys(weights_sha256), None, columns, n=1)
    return Output({"fits": rows}, {f"fits/{m.measurement_id}.safetensors": content})


_Fit = tuple[str, int, Mapping[str, Tensor], dict[str, Any]]


def _fitted(job: Job, inputs: Inputs) -> _Fit:
    m = job.measurement
    name, entry = m.params["fit"], FITS[m.params["fit"]]
    head, digest = _head(job, inputs, entry.head)
    function = resolve(entry.path, "fit")
    nothing = torch.zeros(0, 0, dtype=torch.float64)
    if entry.reads == "head":
        given = Given(nothing, nothing, torch.zeros(0, dtype=torch.int64), head)
        return digest, 0, function(given), {}
    start, stop = m.params["samples"]
    rows = part(inputs.rows, start, stop, f"fit {name!r}")
    stored = stored_of(rows, entry.head)
    features = nothing if stored.features is None else stored.features.double()
    labels = torch.from_numpy(rows["label"].to_numpy().copy())
    given = Given(features, stored.logits.double(), labels, head)
    try:
        tensors = function(given, **m.params["parameters"])
    except InputError as error:
        raise InputError(
            f"fit {name!r} of model {m.model.name or m.model.arch!r} on the first {stop - start} "
            f"samples of {m.dataset}'s {m.split} split: {error}"
        ) from error
    constant = int((features == features[:1]).all(dim=0).sum())
    facts = {"features": features.shape[1], "constant_features": constant}
    return rows["weights_sha256"][0].as_py(), stop - start, tensors, facts


def _head(job: Job, inputs: Inputs, head: str) -> tuple[Head | None, str]:
    """The model's last layer, on the CPU, where a fit needs it."""
    if head == "none":
        return None, ""
    m = job.measurement
    loaded = model_of(job, inputs)
    found = features_of(loaded.model, m.model.shape, layer=m.params["layer"], pool=m.params["pool"])
    return head_for(found.head, found.maps, head, m.model.name or m.model.arch), (
        loaded.weights_sha256
    )


def head_for(found: Head, maps: tuple[int, ...] | None, wanted: str, model: str) -> Head:
    """The head, on the CPU.

    Raises:
        InputError: It is not the one that is wanted.
    """
    if wanted == "exact" and not found.exact:
        if maps is not None:
            size = "x".join(map(str, maps))
            raise InputError(
                f"model {model!r}: the last layer takes whole maps of {size}, which `pool: mean` "
                f"averages: give `pool: none` ({torch.Size(maps).numel()} numbers a sample)"
            )
        raise InputError(
            f"model {model!r}: its vote, or the pooling of its members' features, leaves no linear "
            "layer between features and logits: take `pool: none` and `vote: mean_logits`"
        )
    return Head(found.weight.cpu(), found.bias.cpu(), found.exact)


def _searched(job: Job, inputs: Inputs) -> _Fit:
    """A grid of temperatures and steps, on the validation images and those of another set."""
    m = job.measurement
    params, device = m.params, device_of(job.setting)
    loaded = model_of(job, inputs)
    seed_everything(params["seed"], m.kind, 0)
    batches = []
    for dataset, split in ((m.dataset, m.split), (params["set"], params["set_split"])):
        data = data_for(m.model, dataset, split, job.setting, range(params["samples"]))
        images = data.part(range(min(params["samples"], len(data.labels))), device).images
        batches.append(images.split(params["group_size"]))  # type: ignore[no-untyped-call]
    tried = search(loaded.model, *batches, **params["parameters"])
    best = tried[0]
    tensors = {
        "temperature": torch.tensor([best.temperature], dtype=torch.float64),
        "eps": torch.tensor([best.eps], dtype=torch.float64),
    }
    facts = {
        "temperature": best.temperature,
        "eps": best.eps,
        "fpr95": best.fpr95,
        "auroc": best.auroc,
        "tried": len(tried),
        "set": f"{params['set']}:{params['set_split']}",
    }
    return loaded.weights_sha256, sum(len(one) for one in batches[0]), tensors, facts
