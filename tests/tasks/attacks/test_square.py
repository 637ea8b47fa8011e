import inspect
from functools import partial
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.load import LoadedAttack
from robsweep.tasks.attacks.methods.fab import fab_targeted
from robsweep.tasks.attacks.methods.square import (
    _cut,
    _flat,
    _pyramid,
    _pyramids,
    square,
    window_size,
)
from robsweep.tasks.attacks.run import Result, attack_group
from robsweep.tasks.catalogue import ATTACKS, MODELS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.job import ModelRef
from robsweep.tasks.logits import margin, raw_logits
from robsweep.tasks.models.load import load as load_model

NORMS = {"linf": 0.1, "l2": 0.5, "l1": 1.0}


def linear(classes: int = 2, features: int = 72) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes)).requires_grad_(False).eval()


def attacked(model: nn.Module, images: Tensor, norm: str, eps: float, queries: int = 300) -> Result:
    torch.manual_seed(1)
    loaded = LoadedAttack(norm, frozenset(), partial(square, norm=norm, queries=queries))
    labels = model(images).argmax(dim=1)
    (result,) = attack_group(loaded, model, images, labels, eps=[eps])
    assert set(result.check) <= {"ok"}
    return result


@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 6, 12), (72,)])
@pytest.mark.parametrize("norm", NORMS)
def test_adversarials_fill_the_ball_and_stay_in_it(norm: str, shape: tuple[int, ...]) -> None:
    model, eps = linear(), NORMS[norm]
    model[1].bias[0] += 100  # nothing breaks it
    images = torch.rand(8, *shape)
    x = square(model, images, torch.zeros(8, dtype=torch.int64), eps, norm=norm, queries=200)
    assert x.shape == images.shape
    assert x.dtype == torch.float32
    assert ball.in_range(x).all()
    size = ball.distance(images, x, norm)
    assert (size <= eps * (1 + 1e-5)).all()
    assert (size > 0.8 * eps).all()


@pytest.mark.parametrize(("norm", "factor"), [("linf", 1.5), ("l2", 2.5), ("l1", 4.0)])
def test_linear_models_are_broken_not_far_beyond_the_margin(norm: str, factor: float) -> None:
    model = linear()
    images = torch.rand(6, 2, 6, 6) * 0.2 + 0.4
    logits = model(images)
    weight = model[1].weight[0] - model[1].weight[1]
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    exact = (logits[:, 0] - logits[:, 1]).abs() / torch.linalg.vector_norm(weight, ord=dual)
    for image, radius in zip(images.split(1), exact.tolist(), strict=True):  # type: ignore[no-untyped-call]
        assert not attacked(model, image, norm, 0.95 * radius, 50).success[0]
        assert attacked(model, image, norm, factor * radius, 1000).success[0]


@pytest.mark.parametrize("norm", NORMS)
def test_a_broken_sample_costs_nothing_more(norm: str) -> None:
    model = linear(classes=3)
    images = torch.rand(30, 2, 6, 6)
    result = attacked(model, images, norm, NORMS[norm] / 2, 100)
    assert 0 < result.success.sum() < 30
    assert (result.n_forward[~result.success] == 100).all()
    assert result.n_forward[result.success].min() < 50
    assert (result.n_backward == 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_lower_the_margin(norm: str) -> None:
    model = linear(classes=3)
    model[1].bias[0] += 100
    images, labels = torch.rand(10, 2, 6, 6), torch.zeros(10, dtype=torch.int64)
    means = []
    for queries in (1, 30, 500):
        torch.manual_seed(0)
        x = square(model, images, labels, NORMS[norm], norm=norm, queries=queries)
        means.append(margin(model(x), labels))
    assert (means[1] <= means[0]).all()  # the same first query
    assert means[2].mean() < means[1].mean() < means[0].mean()


def test_results_are_functions_of_the_seed() -> None:
    model = linear()
    model[1].bias[0] += 100
    images, labels = torch.rand(4, 2, 6, 6), torch.zeros(4, dtype=torch.int64)

    def with_seed(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return square(model, images, labels, 0.1, queries=20)

    assert torch.equal(with_seed(0), with_seed(0))
    assert not torch.equal(with_seed(0), with_seed(1))


def test_windows_shrink_as_published() -> None:
    after = (0, 10, 11, 51, 201, 1001, 2001, 4001, 6001, 8001)  # of 10,000 queries
    shares = [0.8 / 2**k for k in (0, 0, 1, 2, 3, 4, 5, 6, 7, 8)]
    sizes = [window_size(0.8, n / 10_000, 224, 224) for n in after]
    assert sizes == [(round(224 * p**0.5),) * 2 for p in shares]
    assert window_size(0.8, 0.9, 28, 28) == (2, 2)
    assert window_size(1e-9, 0, 28, 28) == (1, 1)
    assert window_size(0.8, 0, 1, 4) == (1, 3)
    assert window_size(0.8, 0, 4, 1) == (3, 1)
    assert window_size(1.0, 0, 6, 12) == (6, 12)


def test_a_flat_window_is_one_square_at_full_size() -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 3, 7, 7) * 0.2 + 0.4
    step = _flat(x, x, 0.1, 3, 3) - x
    places = set()
    for sample in step:
        rows, columns = (sample[0] != 0).nonzero().unbind(dim=1)
        assert (int(rows.max() - rows.min()), int(columns.max() - columns.min())) == (2, 2)
        assert ((sample != 0) == (sample[:1] != 0)).all()  # the same place in all channels
        for channel in sample:
            inside = channel[channel != 0]
            assert len(inside) == 9
            torch.testing.assert_close(inside, inside.sign()[:1].expand(9) * 0.1)
        places.add((int(rows.min()), int(columns.min())))
    assert len(places) > 15


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 2), (5, 2), (7, 4), (8, 8)])
def test_pyramids_are_those_of_equation_2(rows: int, columns: int) -> None:
    n = floor(rows / 2)
    for r in range(1, rows + 1):
        for s in range(1, columns + 1):
            last = n - max(abs(r - floor(rows / 2) - 1), abs(s - floor(columns / 2) - 1))
            expected = sum(1 / (n + 1 - k) ** 2 for k in range(last + 1))
            assert float(_pyramid(rows, columns)[r - 1, s - 1]) == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_step_keeps_the_norm_where_the_box_is_far(norm: str) -> None:
    torch.manual_seed(0)
    x = torch.full((40, 2, 9, 9), 0.5)
    best, eps = x, 0.3
    for _ in range(5):
        best = _pyramids(x, best, eps, 3, 3, norm)
    size = ball.distance(x, best, norm)
    assert (size <= eps * (1 + 1e-5)).all()
    assert size.median() == pytest.approx(eps, rel=1e-4)


def test_the_l1_cut_is_the_closest_point_of_ball_and_box() -> None:
    torch.manual_seed(0)
    x, step = torch.rand(40, 1, 2, 4), torch.randn(40, 1, 2, 4)
    step[::3] *= 0.05
    x[1::4, 0, 0] = 0
    cut = _cut(x, step, 0.8, "l1").double().flatten(1).numpy()
    for image, wanted, found in zip(x.double(), step.double(), cut, strict=True):
        start, offset = image.flatten().numpy(), wanted.flatten().numpy()
        low, high = 0.0, 10.0
        for _ in range(100):
            shift = (low + high) / 2
            shrunk = np.sign(offset) * np.clip(np.abs(offset) - shift, 0, None)
            expected = np.clip(start + shrunk, 0, 1)
            low, high = (shift, high) if np.abs(expected - start).sum() > 0.8 else (low, shift)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_catalogue_parameters_are_the_defaults() -> None:
    assert ATTACKS["square"].parameters == {
        key: p.default for key, p in inspect.signature(square).parameters.items()
        if p.kind is p.KEYWORD_ONLY and key != "norm"
    }  # fmt: skip


NETS = [
    ("wk17a", "wk17a_linf0.1", "linf", 0.1, 500),
    ("abs_cnn", "abs_vanilla_cnn", "linf", 0.06, 100),
    ("abs_cnn", "abs_vanilla_cnn", "l2", 1.0, 100),
    ("abs_cnn", "abs_vanilla_cnn", "l1", 4.0, 100),
]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["fab-t", "square"])
@pytest.mark.parametrize(("arch", "file", "norm", "eps", "n"), NETS)
def test_no_weaker_than_the_published_attacks(
    arch: str,
    file: str,
    norm: str,
    eps: float,
    n: int,
    attack: str,
    data_dir: Path,
    nets_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pyautoattack = pytest.importorskip("pyautoattack")
    weights = str(nets_dir / f"{file}.safetensors")
    ref = ModelRef("m", arch, MODELS[arch].parameters, (1, 28, 28), 10, weights=weights)
    model = load_model(ref, None, torch.device("cpu")).model
    images, labels = (part[:n] for part in load_data("mnist", "test", str(data_dir)))
    right = margin(raw_logits(model, images), labels) > 0
    images, labels = images[right], labels[right]
    torch.manual_seed(0)
    if attack == "square":
        own = LoadedAttack(norm, frozenset(), partial(square, norm=norm))
        (result,) = attack_group(own, model, images, labels, eps=[eps])
        ours = int(result.success.sum())
    else:
        own = LoadedAttack(norm, frozenset(), partial(fab_targeted, norm=norm))
        (result,) = attack_group(own, model, images, labels, eps=None)
        ours = int((result.distance <= eps).sum())
    published = pyautoattack.AutoAttack(
        model, attacks=[attack], eps=eps, norm=norm.capitalize(), seed=0, version="custom"
    )
    found = published.run_standard_evaluation(images, labels)
    found = found[0] if isinstance(found, tuple) else found
    theirs = int((raw_logits(model, found).argmax(dim=1) != labels).sum())
    capsys.readouterr()
    assert 0 < theirs < len(labels)
    assert ours >= theirs - 0.01 * n
