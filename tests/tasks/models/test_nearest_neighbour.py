from dataclasses import replace

import torch

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.job import Inputs, ModelRef
from robsweep.tasks.jobs import run
from robsweep.tasks.models.architectures.nearest_neighbour import nearest_neighbour
from robsweep.tasks.models.load import build, load
from robsweep.tasks.models.weights import to_bytes
from tests.tasks.digit_jobs import train_job


def data(n: int = 40, shape: tuple[int, ...] = (1, 3, 4)) -> Labelled:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, *shape, generator=generator)
    labels = torch.randint(3, (n,), generator=generator)
    return Labelled(images, labels)


def fitted(train: Labelled, classes: int = 4, samples: int = 0) -> torch.nn.Module:
    model = nearest_neighbour(tuple(train.images.shape[1:]), classes, samples=samples)
    model.finish(train)  # type: ignore[operator]
    return model


def brute_force(images: torch.Tensor, train: Labelled, classes: int) -> torch.Tensor:
    """Logits in plain loops; no image of a class: the number of pixels."""
    rows = []
    for image in images:
        row = [float(image.numel())] * classes
        for other, label in zip(train.images, train.labels.tolist(), strict=True):
            row[label] = min(row[label], float((image - other).square().sum()))
        rows.append([-value for value in row])
    return torch.tensor(rows)


def test_logits_are_minus_the_squared_distances(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    train, images = data(), torch.rand(7, 1, 3, 4)
    expected = brute_force(images, train, 4)
    assert torch.allclose(fitted(train)(images), expected, atol=1e-6)
    monkeypatch.setattr("robsweep.tasks.models.architectures.nearest_neighbour._CHUNK", 3)
    assert torch.allclose(fitted(train)(images), expected, atol=1e-6)
    few = Labelled(train.images[:5], train.labels[:5])
    assert torch.allclose(fitted(train, samples=5)(images), brute_force(images, few, 4), atol=1e-6)


def test_gradients_point_away_from_the_nearest_images() -> None:
    train = data()
    images = torch.rand(3, 1, 3, 4, requires_grad=True)
    logits = fitted(train, classes=3)(images)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), images)
    own = train.images[train.labels == 1]
    for i in range(3):
        nearest = own[(own - images[i]).flatten(1).norm(dim=1).argmin()]
        assert torch.allclose(gradient[i], -2 * (images[i] - nearest), atol=1e-6)


def test_training_images_are_their_own_nearest() -> None:
    train = data()
    logits = fitted(train)(train.images)
    assert (logits.argmax(dim=1) == train.labels).all()
    assert (logits.amax(dim=1) == 0).all()


def test_before_it_has_seen_anything_all_classes_are_alike() -> None:
    assert (nearest_neighbour((1, 3, 4), 4)(torch.rand(2, 1, 3, 4)) == -12).all()


def test_its_images_are_stored_like_weights() -> None:
    train, images = data(), torch.rand(2, 1, 3, 4)
    model = fitted(train)
    ref = ModelRef("m", "nearest_neighbour", {"samples": 0}, (1, 3, 4), 4)
    again = load(ref, to_bytes(model.state_dict()), torch.device("cpu")).model
    assert torch.equal(again(images), model(images))


def test_a_training_gives_it_the_training_split() -> None:
    ref = ModelRef("m", "nearest_neighbour", {"samples": 300}, (1, 8, 8), 10)
    output = run(
        replace(train_job(), measurement=replace(train_job().measurement, model=ref)), Inputs()
    )
    content = output.artifacts["models/train-0.safetensors"]
    model = load(ref, content, torch.device("cpu")).model
    images, labels = load_data("digits", "train", "")
    assert (model(images[:300]).argmax(dim=1) == labels[:300]).all()
    test = load_data("digits", "test", "")
    assert float((model(test.images).argmax(dim=1) == test.labels).float().mean()) > 0.85
    assert set(output.tables) == {"models"}


def test_several_of_them_are_stored_together() -> None:
    train, images = data(), torch.rand(2, 1, 3, 4)
    both = [{"arch": "nearest_neighbour", "params": {"samples": samples}} for samples in (9, 0)]
    ref = ModelRef("m", "ensemble", {"members": both}, (1, 3, 4), 4)
    model = build(ref)
    model.finish(train)  # type: ignore[operator]
    again = load(ref, to_bytes(model.state_dict()), torch.device("cpu")).model
    expected = (fitted(train, samples=9)(images) + fitted(train)(images)) / 2
    assert torch.allclose(again(images), expected, atol=1e-6)
