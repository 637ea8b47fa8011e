"""A user's own code that does everything to what it is given and to the process it runs in.

Written as a module of its own beside a sweep: only what each function returns should count.
"""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def spoil(*tensors):
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor.mul_(0.5).add_(0.1)
            tensor.data.mul_(0.5)
            tensor.numpy()[...] *= 0.5
        else:
            tensor.zero_()


def set_modes():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.set_default_device("meta")
    torch.backends.cudnn.deterministic = True
    torch.autograd.set_detect_anomaly(True)
    torch.nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 0)
    torch.manual_seed(1)
    np.random.seed(1)
    np.seterr(all="raise")
    random.seed(1)


def spoil_model(model):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda m, i, o: o * 0)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.requires_grad_(tensor.is_floating_point())
        if tensor.is_floating_point():
            tensor.data.fill_(0.5)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.bias = nn.Parameter(torch.ones(len(module.bias)))


def attack(model, images, labels, eps, *, sizes=(1,)):
    adversarial = (images + eps * torch.sign(torch.randn_like(images))).clamp(0, 1)
    model(images)
    spoil(images, labels)
    spoil_model(model)
    if isinstance(sizes, list):
        sizes.append(2)
    set_modes()
    return adversarial


def raising(model, images, labels, eps):
    if len(labels) > 40:
        spoil(images, labels)
        spoil_model(model)
        set_modes()
        raise ArithmeticError("no luck")
    return (images + eps).clamp(0, 1)


def nearest(model, images, labels):
    result = 1 - images
    spoil(images, labels)
    spoil_model(model)
    return result


def score(model, images):
    result = -model(images).amax(dim=1).detach()
    spoil(images)
    spoil_model(model)
    set_modes()
    return result


def darken(images, severity, *, factor=0.1):
    images *= 1 - factor * severity
    result = images.clone()
    images.zero_()
    set_modes()
    return result


class Normalised(nn.Module):
    """Normalises in place, and changes a mode on its way."""

    def __init__(self, pixels, classes, steps=()):
        super().__init__()
        if isinstance(steps, list):
            steps.append(1)
        self.fc = nn.Linear(pixels, classes)

    def forward(self, x):
        x.sub_(0.5).div_(0.25)
        torch.set_num_threads(2)
        return self.fc(x.flatten(1))


class Honest(Normalised):
    """The same function, written as it should be."""

    def forward(self, x):
        return self.fc(((x - 0.5) / 0.25).flatten(1))


def normalised(shape, classes, *, steps=()):
    torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)
    return Normalised(shape[0] * shape[1] * shape[2], classes, steps)


def honest(shape, classes):
    return Honest(shape[0] * shape[1] * shape[2], classes)


def training(setup, *, outliers=None):
    spoil(setup.train.images, setup.train.labels)

    def loss(model, batch):
        logits = model(batch.images)
        value = F.cross_entropy(logits, batch.labels.clone())
        spoil(batch.labels)
        torch.set_num_threads(2)
        np.random.seed(1)
        return type("Loss", (), {"value": value, "logits": logits, "terms": {}})

    return loss


def explore(objective, start):
    visit = type("Visit", (), {"step": 0, "weights": start.copy(), "accepted": True})
    spoil(objective.images)
    objective.labels.zero_()
    objective.logits(start)
    objective.labels.zero_()
    return [visit]


def fit(logits, labels):
    result = type(
        "Fit", (), {"temperature": 1.0, "nll_before": 1.0, "nll_after": 1.0, "at_bound": False}
    )
    logits[:] = 0
    labels[:] = 0
    set_modes()
    return result
