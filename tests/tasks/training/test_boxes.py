"""Differentiable bounds against the verifier's own, samples, and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.ball import box
from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.cnn import cnn
from robsweep.tasks.training.losses.boxes import BoundedModel, Method, margins, output_box
from robsweep.tasks.verification.bounds.backward import unit_bounds
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.bounds.margins import last_affine
from robsweep.tasks.verification.bounds.margins import margins as proved_margins
from robsweep.tasks.verification.reading.properties import untargeted
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.small_nets import convolutional, dense, points_in

METHODS = ("interval", "crown")
NETS = ("dense", "functional", "pooled", "averaged", "residual", "rearranged", "curved")


def net(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    return (dense(0, 6, 12, 9, 4), (6,)) if name == "dense" else convolutional(name)


@pytest.mark.parametrize("name", NETS)
def test_bounds_are_the_verifiers(name: str) -> None:
    model, shape = net(name)
    images, eps = torch.rand(5, *shape), 0.04
    bounded = BoundedModel(model, shape)(images, eps)
    network = read(model, shape)
    values = interval(network, Bounds(*box(images, eps)))
    count, classes = values[-1].lower.shape
    labels = torch.arange(count) % classes
    owner = torch.arange(count).repeat_interleave(classes)
    whole = unit_bounds(network, values, owner, torch.arange(classes).repeat(count))
    for found, proved in (
        (output_box(bounded, "interval"), values[-1]),
        (output_box(bounded, "crown"), whole),
    ):
        for ours, theirs in zip(found, proved, strict=True):
            expected = theirs.reshape(count, classes).float()
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    own = torch.nn.functional.one_hot(labels, classes).bool()
    for method, back_to in (("interval", last_affine(network)), ("crown", 0)):
        ours = margins(bounded, labels, method)
        unsafe = untargeted(labels, classes)
        theirs = proved_margins(network, values, unsafe, back_to=back_to).lower
        assert (ours[own] == 0).all()
        torch.testing.assert_close(ours[~own], theirs[~own].float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_sampled_logits_and_margins_lie_within_and_widths_grow(name: str, method: Method) -> None:
    model, shape = net(name)
    images, bounds_of = torch.rand(4, *shape), BoundedModel(model, shape)
    torch.testing.assert_close(bounds_of(images, 0.1).logits, model(images))
    point = output_box(bounds_of(images, 0.0), method)
    torch.testing.assert_close(point.lower, model(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(point.upper, point.lower, rtol=0, atol=1e-5)
    before = 0.0
    for eps in (0.01, 0.03, 0.09):
        bounded = bounds_of(images, eps)
        found = output_box(bounded, method)
        labels = torch.tensor([0, 1, 2, 0])
        least = margins(bounded, labels, method)
        for points in points_in(images, eps, 50):
            logits = model(points.float())
            assert (found.lower - 1e-5 <= logits).all()
            assert (logits <= found.upper + 1e-5).all()
            assert (least - 1e-5 <= logits.gather(1, labels[:, None]) - logits).all()
        width = float((found.upper - found.lower).mean())
        assert width > before
        before = width


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_finite_differences(method: Method) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 3),
    ).double()  # fmt: skip
    images, labels = torch.rand(4, 1, 3, 3).double(), torch.tensor([0, 1, 2, 0])
    bounds_of = BoundedModel(model, (1, 3, 3))

    def value() -> Tensor:
        bounded = bounds_of(images, 0.05)
        lower, upper = output_box(bounded, method)
        worst = nn.functional.cross_entropy(-margins(bounded, labels, method), labels)
        return worst + (upper - lower).square().mean()

    value().backward()
    step = 1e-6
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        flat = parameter.data.view(-1)
        for i in range(0, len(flat), 4):
            kept = flat[i].item()
            flat[i] = kept + step
            above = value().item()
            flat[i] = kept - step
            slope = (above - value().item()) / (2 * step)
            flat[i] = kept
            found = parameter.grad.view(-1)[i].item()
            assert found == pytest.approx(slope, rel=1e-4, abs=1e-6), (name, i)


def test_bounds_follow_the_weights() -> None:
    model, images = nn.Linear(3, 2), torch.rand(2, 3)
    bounds_of = BoundedModel(model, (3,))
    before = output_box(bounds_of(images, 0.01), "interval")
    with torch.no_grad():
        model.weight.mul_(3)
    after = output_box(bounds_of(images, 0.01), "interval")
    wider = 3 * (before.upper - before.lower)
    torch.testing.assert_close(after.upper - after.lower, wider, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_batch_norm_works_on_its_batch_in_training_and_as_learnt_afterwards(method: Method) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    images, bounds_of = torch.rand(16, 5), BoundedModel(model, (5,))
    bounded = bounds_of(images, 0.0)
    assert model[1].num_batches_tracked == 1  # one forward pass
    torch.testing.assert_close(bounded.logits, model(images))
    torch.testing.assert_close(output_box(bounded, method).lower, model(images))
    model.eval()
    bounded = bounds_of(images, 0.0)
    torch.testing.assert_close(output_box(bounded, method).lower, model(images))
    assert model[1].num_batches_tracked == 3


def test_dropout_is_in_the_logits_and_not_in_the_bounds() -> None:
    torch.manual_seed(0)
    model = cnn((1, 28, 28), 10)
    images, bounds_of = torch.rand(3, 1, 28, 28), BoundedModel(model, (1, 28, 28))
    trained = bounds_of(images, 0.0)
    learnt = model.eval()(images)
    assert not torch.allclose(trained.logits, learnt, atol=1e-3)
    torch.testing.assert_close(output_box(trained, "interval").upper, learnt, rtol=0, atol=1e-5)


def test_half_precision_does_not_reach_the_bounds() -> None:
    model, shape = convolutional("residual")
    images, bounds_of = torch.rand(2, *shape), BoundedModel(model, shape)
    plain = margins(bounds_of(images, 0.05), torch.tensor([0, 1]), "crown")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = margins(bounds_of(images, 0.05), torch.tensor([0, 1]), "crown")
    assert torch.equal(plain, mixed)


def test_a_layer_that_is_not_known_is_named() -> None:
    with pytest.raises(InputError, match=r"layer Softmax \(1\)"):
        BoundedModel(nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)), (3,))
