"""What nearly every job begins with: its device, its model, its data."""

from collections.abc import Sequence

import torch

from robsweep.tasks.catalogue import DRAWN_SETS
from robsweep.tasks.data.load import Labelled, corrupted, kept, parts
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Job, Live, ModelRef, Setting
from robsweep.tasks.models.load import LoadedModel
from robsweep.tasks.models.load import load as load_model


def device_of(setting: Setting) -> torch.device:
    if setting.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(setting.device)


def model_of(job: Job, inputs: Inputs, *, many_passes: bool = False) -> LoadedModel:
    if (live := job.setting.live) is not None:
        parameters = sum(parameter.numel() for parameter in live.model.parameters())
        return LoadedModel(live.model, live.weights_sha256, parameters)
    ref, device = job.measurement.model, device_of(job.setting)
    return load_model(ref, inputs.weights, device, many_passes=many_passes)


def data_for(
    ref: ModelRef,
    dataset: str,
    split: str,
    setting: Setting,
    samples: Sequence[int] | None = None,
) -> Labelled:
    """A split that a model is run on.

    Args:
        samples: Which are needed, where images are made one by one; None: all.

    Raises:
        InputError: The data cannot be loaded, or the model takes inputs of another shape.
    """
    base, corruption = parts(dataset)
    if setting.images is not None:
        return kept(setting.images)
    if setting.live is not None and base not in DRAWN_SETS:
        data = _in_memory(setting.live, split)
        if corruption is not None:
            data = corrupted(data, split, corruption, samples)
    else:
        data = load_data(
            dataset,
            split,
            setting.data_dir,
            setting.data_files,
            samples=samples,
            shape=tuple(ref.shape),
        )
    shape = tuple(data.images.shape[1:])
    if shape != tuple(ref.shape):
        raise InputError(
            f"model {ref.arch!r} takes inputs of shape {tuple(ref.shape)}, "
            f"data set {dataset!r} has {shape}"
        )
    return data


def _in_memory(live: Live, split: str) -> Labelled:
    if split not in live.splits:
        raise InputError(f"there are no {split} images: give them, or leave out what needs them")
    return Labelled(*live.splits[split])


def labelled_data_for(
    ref: ModelRef,
    dataset: str,
    split: str,
    setting: Setting,
    samples: Sequence[int] | None = None,
) -> Labelled:
    """A split whose labels are the model's classes.

    Raises:
        InputError: As `data_for`, or a label beyond the model's classes.
    """
    data = data_for(ref, dataset, split, setting, samples)
    largest = int(data.labels.max())
    if largest >= ref.classes:
        raise InputError(
            f"data set {dataset!r} has label {largest}, model {ref.arch!r} only "
            f"{ref.classes} classes (0..{ref.classes - 1})"
        )
    return data
