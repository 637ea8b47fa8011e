"""The train job."""

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

from robsweep.tasks.catalogue import TRAININGS
from robsweep.tasks.catalogue.code.resolve import is_ours, resolve
from robsweep.tasks.data.load import Labelled, empty_like, splits
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import data_for, device_of, labelled_data_for
from robsweep.tasks.models import weights
from robsweep.tasks.models.load import build, known
from robsweep.tasks.models.questions import ASKED, ask_trained
from robsweep.tasks.own_functions import copied
from robsweep.tasks.rows import table
from robsweep.tasks.training.checkpoints import Checkpoints
from robsweep.tasks.training.fit import Epoch, LossFunction, Setup, fit
from robsweep.tasks.training.recipe import split


@runtime_checkable
class Finished(Protocol):
    """A model that has more to fit than its loss."""

    def finish(self, train: Labelled) -> None:
        """Called once, after the last epoch, in eval mode."""


def train(job: Job, inputs: Inputs) -> Output:
    """Trains a model: its `models` row, a `training` row per epoch, its weights.

    Params: training, parameters, and start: the id of the model whose weights it starts from;
    without, they are drawn. The seed of all that is drawn is the measurement's.

    Raises:
        FloatingPointError: The loss or the trained weights are not finite.
    """
    m = job.measurement
    ref, name = m.model, m.params["training"]
    data = labelled_data_for(ref, m.dataset, "train", job.setting)
    validation = empty_like(data)
    if "validation" in splits(m.dataset, job.setting.data_files):
        validation = labelled_data_for(ref, m.dataset, "validation", job.setting)
    seed_everything(m.seed or 0, m.kind, 0)
    model = build(ref)
    if inputs.weights is not None:
        weights.put(model, inputs.weights, f"of {m.params['start']}")
    model = model.to(device_of(job.setting))
    recipe, own = split(dict(m.params["parameters"]))
    data = Labelled(*(part[: recipe.train_samples or None] for part in data))

    def outliers(dataset: str, part: str) -> Labelled:
        if part == "test":
            raise InputError(
                f"outliers from the test split of {dataset!r}, where OOD detection is measured: a "
                "model must not be trained on what it is measured on; use another split"
            )
        return data_for(ref, dataset, part, job.setting)

    path = TRAININGS[name].path if name in TRAININGS else name
    if not is_ours(path):  # its own copies: what is cached is for all jobs
        setup = Setup(model, copied(data), recipe.epochs, lambda *names: copied(outliers(*names)))
        loss: LossFunction = resolve(path, "training")(setup, **copied(own))
    else:
        loss = resolve(path, "training")(Setup(model, data, recipe.epochs, outliers), **own)
    history: list[Epoch] = []
    finished = isinstance(model, Finished)
    if not finished or any(True for _ in model.parameters()):  # else `finish` is all there is
        history = fit(
            model,
            data,
            validation,
            loss,
            recipe,
            seed=m.seed or 0,
            classes=ref.classes,
            checkpoints=_checkpoints(job),
        )
    if isinstance(model, Finished):
        model.finish(data if known(ref.arch, ref.params) else copied(data))
    broken = [key for key, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise FloatingPointError(f"trained weights are not finite: {', '.join(broken)}")
    content = weights.to_bytes(model.state_dict())
    # asked again: before, its weights were fresh
    asked = validation if len(validation.images) else data
    model.eval().requires_grad_(False)
    found = ask_trained(model, asked.images[:ASKED].to(device_of(job.setting)))
    keys = job.keys(weights.sha256(content))
    described = {
        "model": ref.name,
        "arch": ref.arch,
        "training": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "spec_json": _spec_json(job),
        "warnings": found.text,
    }
    columns = {
        "epoch": [epoch.epoch for epoch in history],
        "loss": [epoch.loss for epoch in history],
        "train_accuracy": [epoch.train_accuracy for epoch in history],
        "val_accuracy": [epoch.val_accuracy for epoch in history],
        "seconds": [epoch.seconds for epoch in history],
        "loss_terms": [_terms(epoch) for epoch in history],
    }
    tables = {"models": table("models", keys, None, described, n=1)}
    if history:
        tables["training"] = table("training", keys, None, columns, n=len(history))
    said = (*found.refusals, *found.warnings)
    return Output(tables, {f"models/{m.measurement_id}.safetensors": content}, said)


def _checkpoints(job: Job) -> Checkpoints:
    setting = job.setting
    if setting.checkpoint_dir is None:
        return Checkpoints()
    path = Path(setting.checkpoint_dir) / f"{job.measurement.measurement_id}.pt"
    return Checkpoints(path, setting.checkpoint_seconds)


def _terms(epoch: Epoch) -> list[dict[str, object]]:
    return [{"name": name, "value": value} for name, value in epoch.loss_terms.items()]


def _spec_json(job: Job) -> str:
    m = job.measurement
    spec = {
        "arch": m.model.arch,
        "params": dict(m.model.params),
        "shape": list(m.model.shape),
        "classes": m.model.classes,
        "training": m.params["training"],
        "parameters": dict(m.params["parameters"]),
        "dataset": m.dataset,
        "seed": m.seed,
    }
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))
