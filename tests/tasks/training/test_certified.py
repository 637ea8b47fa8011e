"""Trainings on output boxes: closed forms on linear models, and what they are for on the digits."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.mlp import mlp
from robsweep.tasks.sensitivity.measure import log_volume, mean_width, output_box
from robsweep.tasks.training.fit import Batch, LossFunction, Setup, cross_entropy
from robsweep.tasks.training.losses.adversarial import ascend
from robsweep.tasks.training.losses.boxes import Method
from robsweep.tasks.training.losses.certified import certified
from robsweep.tasks.training.losses.ramp import ramp
from robsweep.tasks.training.losses.sensitivity import Measure, sensitivity, size_of
from robsweep.tasks.verification.bounds.margins import by_crown
from robsweep.tasks.verification.reading.properties import untargeted
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.trainings import trained_with
from tests.tasks.verification.small_nets import ball, points_in

METHODS = ("interval", "crown")


def setup_of(model: nn.Module, data: Labelled, epochs: int = 4) -> Setup:
    return Setup(model, data, epochs, lambda _name, _split: data)


def made(classes: int = 3) -> tuple[nn.Module, Labelled]:
    torch.manual_seed(0)
    data = Labelled(torch.rand(8, 5) * 0.6 + 0.2, torch.arange(8) % classes)
    return nn.Linear(5, classes), data


def batch_of(data: Labelled, progress: float) -> Batch:
    return Batch(*data, data.labels, 1 + int(4 * progress), progress)


def test_a_ramp_is_linear_and_ends() -> None:
    model, data = made()
    share = ramp(setup_of(model, data), 2)
    seen = [share(batch_of(data, progress)) for progress in (0.0, 0.25, 0.5, 0.75)]
    assert seen == [0, 0.5, 1, 1]
    assert ramp(setup_of(model, data), 0)(batch_of(data, 0.0)) == 1
    with pytest.raises(InputError, match=r"ramp_epochs is 5, the training has 4"):
        ramp(setup_of(model, data), 5)


@pytest.mark.parametrize("method", METHODS)
def test_worst_logits_of_a_linear_model_are_known(method: Method) -> None:
    model, data = made()
    eps, kappa = 0.1, 0.3
    loss = certified(setup_of(model, data), eps=eps, method=method, kappa=kappa, ramp_epochs=2)
    clean = cross_entropy(model, batch_of(data, 0.0)).value
    torch.testing.assert_close(loss(model, batch_of(data, 0.0)).value, clean)
    for progress, radius, share in ((0.25, eps / 2, 1 - 0.7 / 2), (0.5, eps, 0.3), (0.9, eps, 0.3)):
        found = loss(model, batch_of(data, progress))
        difference = model.weight[data.labels][:, None] - model.weight
        shift = radius * difference.abs().sum(2)
        worst = F.cross_entropy(model(data.images) + shift, data.labels)
        torch.testing.assert_close(found.terms["worst_case"], worst)
        torch.testing.assert_close(found.value, share * clean + (1 - share) * worst)
        assert found.logits is not None
        torch.testing.assert_close(found.logits, model(data.images))


@pytest.mark.parametrize("method", METHODS)
def test_no_point_of_the_ball_is_worse_than_the_worst_logits(method: Method) -> None:
    torch.manual_seed(0)
    model, data = mlp((5,), 3, hidden=(8, 8)), made()[1]
    loss = certified(setup_of(model, data), eps=0.05, method=method, ramp_epochs=4)
    worst = loss(model, batch_of(data, 0.8)).terms["worst_case"]
    for points in points_in(data.images, 0.04, 50):
        assert F.cross_entropy(model(points.float()), data.labels) <= worst + 1e-6


def test_crown_is_tighter_and_passes_over_to_intervals() -> None:
    torch.manual_seed(0)
    model, data = mlp((5,), 3, hidden=(8, 8)), made()[1]
    plain, tight = (
        certified(setup_of(model, data), eps=0.2, method=method, ramp_epochs=4)
        for method in METHODS
    )

    def worst(loss: LossFunction, progress: float) -> float:
        return loss(model, batch_of(data, progress)).terms["worst_case"].item()

    gaps = [worst(plain, progress) / worst(tight, progress) for progress in (0.3, 0.9, 1.0)]
    assert gaps[0] > 1
    assert gaps[1] > gaps[2] == 1
    with pytest.raises(InputError, match="give ramp_epochs above 0"):
        certified(setup_of(model, data), eps=0.2, method="crown", ramp_epochs=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [3, 10])
def test_sensitivity_of_a_linear_model_is_known(method: Method, classes: int) -> None:
    model, data = made(classes)
    widths = 2 * 0.1 * model.weight.abs().sum(1)
    clean = cross_entropy(model, batch_of(data, 0.0)).value
    known: dict[Measure, torch.Tensor] = {
        "mean_width": widths.mean(),
        "volume": widths.prod() ** (1 / classes),
        "log_volume": (widths + 1).log().mean(),
    }
    for measure, size in known.items():
        loss = sensitivity(
            setup_of(model, data), eps=0.1, weight=2.0, method=method, measure=measure,
            ramp_epochs=0,
        )  # fmt: skip
        found = loss(model, batch_of(data, 0.0))
        torch.testing.assert_close(found.terms["sensitivity"], size, rtol=0.02, atol=1e-6)
        torch.testing.assert_close(found.value, clean + 2 * found.terms["sensitivity"])


@pytest.mark.parametrize("measure", ["mean_width", "volume", "log_volume"])
def test_a_side_without_width_leaves_sizes_and_gradients_finite(measure: Measure) -> None:
    widths = torch.tensor([[0.0, 0.5], [0.0, 0.0]], requires_grad=True)
    size = size_of(widths, measure)
    size.sum().backward()
    assert size.isfinite().all()
    assert size[0] > size[1]
    assert widths.grad is not None
    assert widths.grad.isfinite().all()
    assert (widths.grad[0] > 0).all()


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    return trained_mlp(cross_entropy)


def trained_mlp(loss: LossFunction | None = None, **parameters: float | str) -> nn.Module:
    torch.manual_seed(0)
    data, model = load("digits", "train", ""), mlp((1, 8, 8), 10, hidden=(32,))
    if loss is None:
        kind = certified if "kappa" in parameters else sensitivity
        loss = kind(setup_of(model, data, 8), ramp_epochs=3, **parameters)  # type: ignore[operator]
    trained_with(model, data, loss, epochs=8, batch_size=64, lr=1e-2)
    return model


def share_right(model: nn.Module, data: Labelled) -> float:
    return float((model(data.images).argmax(dim=1) == data.labels).float().mean())


def attacked(model: nn.Module, data: Labelled, eps: float) -> float:
    torch.manual_seed(1)
    found = ascend(model, *data, eps=eps, steps=20, step_size=eps / 6)
    return share_right(model, data._replace(images=found))


@pytest.mark.parametrize("method", METHODS)
def test_certified_training_makes_verifiable(method: Method, plain: nn.Module) -> None:
    model = trained_mlp(eps=0.1, method=method, kappa=0.5)
    data = Labelled(*(part[:100] for part in load("digits", "test", "")))
    verified = []
    for one in (plain, model):
        network = read(one, (1, 8, 8))
        lowest = by_crown(
            network, ball(data.images, 0.1), untargeted(data.labels, 10)
        ).margins.lower
        verified.append(float((lowest.amin(1) > 0).float().mean()))
    assert verified[1] > verified[0] + 0.2
    whole = load("digits", "test", "")
    assert share_right(model, whole) > share_right(plain, whole) - 0.1


@pytest.mark.parametrize(
    ("measure", "weight"), [("mean_width", 0.1), ("volume", 0.1), ("log_volume", 0.3)]
)
def test_sensitivity_training_lowers_it_and_makes_more_robust(
    measure: Measure, weight: float, plain: nn.Module
) -> None:
    model = trained_mlp(eps=0.1, weight=weight, measure=measure)
    data = load("digits", "test", "")
    sizes = [output_box(one, data.images[:50], 0.1, "interval") for one in (plain, model)]
    assert mean_width(sizes[1]).mean() < mean_width(sizes[0]).mean() / 2
    assert log_volume(sizes[1]).mean() < log_volume(sizes[0]).mean() - 10 * math.log(2)
    assert attacked(model, data, 0.1) > attacked(plain, data, 0.1) + 0.1
    assert share_right(model, data) > share_right(plain, data) - 0.05
