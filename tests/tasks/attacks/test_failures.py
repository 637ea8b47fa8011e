"""Attacks that raise, hang or meddle, and what that costs."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.job import check_it_works
from robsweep.tasks.job import Inputs
from robsweep.tasks.jobs import run as run_job
from robsweep.tasks.logits import margin
from tests.tasks.attacks.test_attacks import linear, own, samples
from tests.tasks.attacks.test_how import run
from tests.tasks.digit_jobs import job_of, train_job


def asleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("asks", [True, False], ids=["asking", "silent"])
def test_a_hang_costs_only_its_own_samples(*, asks: bool) -> None:
    model = linear()
    data = samples(model, 4)
    stuck = data[0][2]

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        while any(torch.equal(image, stuck) for image in x):
            if asks:
                model(x)
            else:
                asleep(0.01)
        return 1 - x

    (result,) = run(own(attack), model, data, How(time_limit_seconds=0.4), [1.0])
    assert [check == "ok" for check in result.check] == [True, True, False, True]
    assert "TimeoutError" in result.check[2]
    assert not result.success[2]


def test_a_hang_leaves_time_to_attacks_that_take_as_long_for_one_as_for_many() -> None:
    model = linear()
    data = samples(model, 16)
    stuck = data[0][3]

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        asleep(0.05)
        while any(torch.equal(image, stuck) for image in x):
            model(x)
        return 1 - x

    (result,) = run(own(attack), model, data, How(time_limit_seconds=1.6), [1.0])
    assert [check == "ok" for check in result.check] == [i != 3 for i in range(16)]
    check_it_works([result])


def test_what_always_hangs_has_an_end() -> None:
    model = linear()

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        while True:
            model(x)

    started = time.monotonic()
    (result,) = run(own(attack), model, samples(model, 20), How(time_limit_seconds=0.2), [1.0])
    assert time.monotonic() - started < 2
    assert all("TimeoutError" in check for check in result.check)
    check_it_works([result])  # hours may have been spent: their rows say so


def test_an_attack_that_leaves_the_model_in_training_fools_nobody() -> None:
    model = nn.Sequential(nn.Dropout(0.9), *linear()).eval()
    images, labels = samples(model)

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        model.train()
        return x.clone()

    (result,) = run(own(attack), model, (images, labels), How(), [1.0])
    assert not result.success.any()
    assert not model.training


def broken_for(which: Tensor, how: str) -> Callable[..., Tensor]:
    def one(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        hit = torch.tensor([torch.equal(image, which) for image in x])
        if how == "raises" and hit.any():
            raise ValueError("no")
        result = 1 - x
        result[hit] = torch.nan
        return result

    return one


@pytest.mark.parametrize(
    ("how", "check"), [("raises", "error: ValueError: no"), ("nan", "not finite")]
)
def test_what_fails_costs_only_its_own_samples(how: str, check: str) -> None:
    model = linear()
    images, labels = samples(model, 5)
    (clean,) = run(own(broken_for(images[0] + 9, how)), model, (images, labels), How(), [1.0])
    (result,) = run(own(broken_for(images[3], how)), model, (images, labels), How(), [1.0])
    assert [c for i, c in enumerate(result.check) if i != 3] == ["ok"] * 4
    assert result.check[3] == check
    rest = np.arange(5) != 3
    assert (result.success[rest] == clean.success[rest]).all()


def test_what_fails_on_all_that_is_left_costs_no_more_than_that() -> None:
    model = linear()
    images, labels = samples(model, 5)

    class OddError(Exception):
        pass

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        if any(torch.equal(image, bad) for image in x for bad in images[:2]):
            raise OddError("no")
        return 1 - x

    small, large = run(own(attack), model, (images, labels), How(), [1.0, 1.1])
    for result in (small, large):
        assert result.check == ["error: OddError: no"] * 2 + ["ok"] * 3

    def never(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        raise OddError("never")

    (result,) = run(own(never), model, (images, labels), How(), [1.0])
    assert result.check == ["error: OddError: never"] * 5
    assert isinstance(result.error, OddError)
    assert small.error is large.error is None


def test_a_restart_that_fails_takes_nothing_away() -> None:
    model = linear()
    images, labels = samples(model, 5)
    calls = []

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        calls.append(len(x))
        return x if len(calls) == 1 else x * torch.nan

    (result,) = run(own(attack), model, (images, labels), How(restarts=2), [0.1])
    assert calls == [5, 5]
    assert set(result.check) == {"ok"}


def test_of_restarts_that_find_nothing_the_nearest_to_it_is_kept() -> None:
    """Also where the image itself is nearer: nothing that an attack gives is hidden."""
    model = linear()
    images, labels = samples(model, 6)
    x = images.clone().requires_grad_()
    (up,) = torch.autograd.grad(margin(model(x), labels).sum(), x)
    calls = 0

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise ArithmeticError("its last restart")
        return x + eps * (3, 1, 2)[(calls - 1) % 3] / 3 * up.sign()

    radii = [1e-3, 2e-3]
    small, large = run(own(attack), model, (images, labels), How(restarts=3), radii)
    for eps, result in zip(radii, (small, large), strict=True):
        assert not result.success.any()
        assert set(result.check) == {"ok"}
        expected = (images + eps / 3 * up.sign()).clamp(0, 1)
        torch.testing.assert_close(result.adversarials, expected, rtol=0, atol=1e-6)


def test_what_always_raises_is_not_asked_about_every_sample() -> None:
    model = linear()
    data = samples(model, 250)
    calls = []

    def never(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        calls.append(len(x))
        raise ArithmeticError("never")

    (result,) = run(own(never), model, data, How(restarts=3), [1.0])
    assert len(calls) <= 10
    assert calls.count(1) > 3
    assert result.check == ["error: ArithmeticError: never"] * 250
    assert torch.equal(result.adversarials, data[0])
    with pytest.raises(ArithmeticError):
        check_it_works([result])


def test_nor_at_every_eps_though_all_rows_say_why() -> None:
    model = linear()
    images, labels = samples(model, 100)
    labels[::10] = 1 - labels[::10]  # misclassified
    calls = 0

    def never(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        nonlocal calls
        calls += 1
        raise ArithmeticError("never")

    small, large = run(own(never), model, (images, labels), How(restarts=2), [1.0, 2.0])
    assert calls <= 10
    reasons = ["error: ArithmeticError: never" if i % 10 else "ok" for i in range(100)]
    assert small.check == large.check == reasons
    assert small.hopeless
    assert large.hopeless
    assert isinstance(large.error, ArithmeticError)


def test_nor_in_every_group_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def never(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        nonlocal calls
        calls += 1
        raise ArithmeticError("never")

    monkeypatch.setattr("robsweep.tasks.attacks.job.load", lambda params: own(never))
    params = {"attack": "m:f", "norm": "linf", "eps": [0.1, 0.2], "restarts": 1, "parameters": {}}
    weights = run_job(train_job(epochs=1), Inputs()).artifacts["models/train-0.safetensors"]
    with pytest.raises(ArithmeticError, match="never"):
        run_job(job_of("attack", params, 0, 500), Inputs(weights))
    assert 0 < calls <= 10


@pytest.mark.parametrize("bad", [range(10), range(240, 250), range(0, 250, 2)])
def test_what_works_anywhere_is_asked_about_every_sample(bad: range) -> None:
    model = linear()
    images, labels = samples(model, 250)
    ones = images[[*bad]]

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        if (x[:, None] == ones[None]).flatten(2).all(dim=2).any():
            raise ArithmeticError("no")
        return 1 - x

    (result,) = run(own(attack), model, (images, labels), How(), [1.0])
    assert [check != "ok" for check in result.check] == [i in bad for i in range(250)]
