"""The preflight job: loads a model and calls it once, before anything is computed with it."""

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robsweep.tasks.attacks.load import GIVEN
from robsweep.tasks.catalogue import RECIPE
from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.catalogue.words import base_of
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, model_of
from robsweep.tasks.models.questions import ASKED, ask
from robsweep.tasks.models.weights import MoreOutputsError
from robsweep.tasks.preflight.apart import check_apart
from robsweep.tasks.preflight.network import check_network
from robsweep.tasks.preflight.scorers import check_scorer
from robsweep.tasks.rows import table


def preflight(job: Job, inputs: Inputs) -> Output:
    """Calls the model on two samples of its data set; an imported one gets its `models` row.

    Params: functions, a list of (family, "package.module:function", parameters): a user's own;
    engines, the parameters of those solves that are to verify the model: without any, it is not
    read as a network; exact, whether a number is asked of it that only a MILP gives; boxes, the
    sections that are to bound its outputs, likewise; estimates, the verifiers that only estimate a
    distance; scorers, a list of (name, parameters, whether of each member) that take more than
    logits; gradients, whether an attack is to follow them; apart_from, the (data set, split)s whose
    images this one must not hold.

    Raises:
        InputError: The model cannot be loaded or called, gives no finite logits (2, classes), or
            is to be verified and cannot be; a solver is not there or refuses its parameters; an
            OOD set has images of the data that it is to be told from.
    """
    m = job.measurement
    for family, path, parameters in m.params.get("functions", ()):
        _check_function(family, path, parameters)
    engines = m.params.get("engines", ())
    for engine in engines:
        _check_engine(engine)
    try:
        loaded = model_of(job, inputs)
    except MoreOutputsError as error:
        raise InputError(f"{error}{_classes(job, error.outputs)}") from error
    some = data_for(m.model, m.dataset, m.split, job.setting, range(ASKED)).images[:ASKED]
    images = some[:2]
    called = f"model {m.model.arch!r}, called on {len(images)} images {tuple(images.shape)}"
    try:
        with torch.no_grad():
            logits = loaded.model(images.to(device_of(job.setting)))
    except Exception as error:
        raise InputError(
            f"{called}, raised {type(error).__name__}: {error}; "
            f"it must take float32 batches (N, {', '.join(map(str, m.model.shape))})"
        ) from error
    if not isinstance(logits, torch.Tensor):
        raise InputError(f"{called}, gave a {type(logits).__name__}, not a tensor of logits")
    wanted = (len(images), m.model.classes)
    if tuple(logits.shape) != wanted:
        shapes = f"gave shape {tuple(logits.shape)}, not logits {wanted}"
        hint = _classes(job, logits.shape[1]) if logits.ndim == 2 else ""
        raise InputError(f"{called}, {shapes}{hint}")
    if logits.dtype != torch.float32:
        raise InputError(f"{called}, gave {logits.dtype}, not torch.float32")
    if not torch.isfinite(logits).all():
        raise InputError(f"{called}, gave logits that are not finite")
    try:
        found = ask(loaded.model, some.to(device_of(job.setting)))
    except Exception as error:
        raise InputError(
            f"model {m.model.arch!r}, asked about batches of up to {2 * ASKED} images, raised "
            f"{type(error).__name__}: {error}; it must take batches of any size"
        ) from error
    if found.refusals:
        raise InputError(f"{called}, {found.refusals[0]}")
    if m.params.get("gradients"):
        _check_gradients(loaded.model, images.to(device_of(job.setting)), called)
    for name, parameters, members in m.params.get("scorers", ()):
        check_scorer(loaded.model, m.model, images.to(device_of(job.setting)), name, parameters,
                     by_member=bool(members))  # fmt: skip
    check_network(loaded.model, m.model, m.params)
    if m.params.get("apart_from"):
        check_apart(job)
    if not m.model.model_id.startswith("import-"):
        return Output({}, warnings=found.warnings)
    described = {
        "model": m.model.name,
        "arch": m.model.arch,
        "training": None,
        "parameters": loaded.parameters,
        "spec_json": json.dumps({"arch": m.model.arch, "params": dict(m.model.params)}),
        "warnings": found.text,
    }
    keys = job.keys(loaded.weights_sha256)
    rows = table("models", keys, None, described, n=1)
    return Output({"models": rows}, warnings=(*loaded.notes, *found.warnings))


def _classes(job: Job, outputs: int) -> str:
    """What to do about a network of more classes than a user's data have."""
    m = job.measurement
    file = job.setting.data_files.get(base_of(m.dataset))
    if file is None or outputs <= m.model.classes:
        return ""
    return (
        f": the largest label in {Path(file).name} is {m.model.classes - 1}; if there are more "
        f"classes, say so: `dataset: {{npz: {Path(file).name}, classes: {outputs}}}`, "
        f"`--classes {outputs}` for eval"
    )


def _check_gradients(model: nn.Module, images: torch.Tensor, called: str) -> None:
    """Whether a direction in the logits has a gradient in the images that is not zero.

    Three directions and random images beside the real ones: a ReLU network may well be flat at one.
    """
    seed_everything(0, "preflight", 0)
    x = torch.cat([images, torch.rand_like(images)]).requires_grad_(True)
    total = torch.zeros_like(x)
    try:
        for _ in range(3):
            logits = model(x)
            (gradient,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), x)
            total += gradient.abs()
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
    else:
        if not torch.isfinite(total).all():
            why = "gradients are not finite"
        # one without parameters has yet to be given what it is made of
        elif not total.any() and any(True for _ in model.parameters()):
            why = "all gradients are zero"
        else:
            return
    raise InputError(
        f"{called}, cannot be attacked by its gradients ({why}): give such attacks "
        "`gradients: finite_difference` or `gradients: nes`, leave this model out of them "
        "(`exclude:`), or use attacks that need none"
    )


_POSITIONAL = {
    "training": 1,
    "attack": 3,
    "scorer": 2,
    "corruption": 2,
    "method": 2,
    "landscape": 2,
}


def _check_engine(parameters: dict[str, Any]) -> None:
    from robsweep.tasks.verification.optimise.solver import solver_named
    from robsweep.tasks.verification.optimise.tightening import effort_of

    solver_named(parameters["solver"])
    effort_of(parameters)


def _check_function(family: str, path: str, parameters: dict[str, Any]) -> None:
    """Whether a user's function can be called with these parameters."""
    signature = inspect.signature(resolve(path, family))
    if family == "training":  # the rest is the recipe's, which the loop follows
        parameters = {name: value for name, value in parameters.items() if name not in RECIPE}
    if family == "attack":  # what the job gives those that ask for it
        parameters = dict.fromkeys(GIVEN & signature.parameters.keys()) | parameters
    most = _POSITIONAL[family] + (family == "attack")  # fixed-eps attacks take eps too
    for count in range(most, _POSITIONAL[family] - 1, -1):
        try:
            signature.bind(*[None] * count, **parameters)
        except TypeError as error:
            problem = error
        else:
            return
    raise InputError(f"{family} {path!r} cannot be called with {parameters}: {problem}")
