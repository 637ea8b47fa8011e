"""Gradients from queries alone, and the mean over a model's random answers."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.attacks import score_based
from robsweep.tasks.attacks.averaged import Averaged
from robsweep.tasks.attacks.count import Counted, Tally, on
from robsweep.tasks.attacks.load import LoadedAttack, load
from robsweep.tasks.attacks.run import attack_group
from robsweep.tasks.attacks.score_based import ScoreBased
from robsweep.tasks.errors import InputError
from robsweep.tasks.logits import margin
from tests.tasks.attacks.test_attacks import params

SHAPE = (2, 3, 3)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(18, 3)).eval().requires_grad_(False)


def curved() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(18, 20), nn.Tanh(), nn.Linear(20, 3)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def images(n: int = 4) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(n, *SHAPE)


def gradient(model: nn.Module, x: Tensor) -> Tensor:
    """Of the margin of class 0."""
    x = x.clone().requires_grad_(True)
    loss = margin(model(x), torch.zeros(len(x), dtype=torch.int64)).sum()
    return torch.autograd.grad(loss, x)[0]


def test_finite_differences_of_a_linear_model_are_exact_also_at_the_border() -> None:
    x = images()
    x[0], x[1, 0], x[2, 1, 0] = 0, 1, 2  # 2: an attack's iterate, before it is clipped
    model = linear()
    for step in (1e-2, 0.3, 5.0):
        found = gradient(ScoreBased(model, "finite_difference", 0, step), x)
        torch.testing.assert_close(found, gradient(model, x), atol=1e-4, rtol=0)


def test_finite_differences_ask_only_inside_the_range() -> None:
    class Strict(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert (x >= 0).all()
            assert (x <= 1).all()
            return x.flatten(1)[:, :3]

    x = images().round()
    found = gradient(ScoreBased(Strict(), "finite_difference", 0, 0.3), x)
    torch.testing.assert_close(found, gradient(Strict(), x))


def test_some_coordinates_are_those_of_the_whole_gradient() -> None:
    x, model = images(), linear()
    torch.manual_seed(2)
    some = ScoreBased(model, "finite_difference", 5, 0.1)
    found = [gradient(some, x) for _ in range(2)]
    for part in found:
        moved = part != 0
        assert (moved.flatten(1).sum(dim=1) == 5).all()
        torch.testing.assert_close(part[moved], gradient(model, x)[moved], atol=1e-4, rtol=0)
    assert not torch.equal(found[0] != 0, found[1] != 0)
    torch.manual_seed(2)
    assert torch.equal(gradient(some, x), found[0])


def test_nes_points_the_way_of_the_gradient_the_better_the_more_it_asks() -> None:
    x, model = images(), curved()
    exact = gradient(model, x).flatten(1)
    cosines = []
    for samples in (10, 100, 4000):
        found = gradient(ScoreBased(model, "nes", samples, 0.01), x).flatten(1)
        cosines.append(torch.cosine_similarity(found, exact).mean().item())
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] > 0.98
    torch.testing.assert_close(found.norm(dim=1), exact.norm(dim=1), rtol=0.1, atol=0)


@pytest.mark.parametrize(("how", "samples"), [("finite_difference", 0), ("nes", 40)])
def test_queries_are_bounded_and_the_same_however_they_are_cut(
    how: score_based.Estimator, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(nn.Module):
        largest = 0

        def forward(self, x: Tensor) -> Tensor:
            self.largest = max(self.largest, x.numel())
            return inner(x)

    inner, x, model = curved(), images(), Watched()
    torch.manual_seed(3)
    whole = gradient(ScoreBased(model, how, samples, 0.1), x)
    assert model.largest == 2 * (samples or 18) * x.numel()
    monkeypatch.setattr(score_based, "_ELEMENTS", 7 * x.numel())
    model.largest = 0
    torch.manual_seed(3)
    torch.testing.assert_close(gradient(ScoreBased(model, how, samples, 0.1), x), whole)
    assert model.largest == 6 * x.numel()


def test_queries_are_tallied_for_the_samples_they_are_of() -> None:
    tally = Tally(6)
    counted = Counted(linear(), tally, torch.tensor([0, 2, 3, 5]))
    part = on(ScoreBased(counted, "nes", 10, 0.1), torch.tensor([1, 3]))
    gradient(part, images(2))
    assert tally.n_forward.tolist() == [0, 0, 21, 0, 0, 21]
    assert tally.n_backward.tolist() == [0, 0, 1, 0, 0, 1]  # estimates


class Rounded(nn.Module):
    """Linear in rounded pixels: its true gradient is 0 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x.round() + 0 * x)
        return logits


def test_pgd_breaks_a_model_without_gradient_by_wide_differences() -> None:
    model = Rounded().eval()
    x = images(12)
    labels = model(x).argmax(dim=1)
    attack = load(params("LinfPGD", [0.4], steps=5, rel_step_size=0.4, random_start=False))
    (blind,) = attack_group(attack, model, x, labels, eps=[0.4])

    def seeing(inner: nn.Module, *given: Tensor | float) -> Tensor:
        return attack.function(ScoreBased(inner, "finite_difference", 0, 0.5), *given)

    wide = LoadedAttack("linf", frozenset(), seeing)
    (result,) = attack_group(wide, model, x, labels, eps=[0.4])
    assert not blind.success.any()
    assert result.success.mean() > 0.8
    assert set(result.check) == {"ok"}
    assert (result.n_forward == 5 * (1 + 2 * 18)).all()
    assert (result.n_backward == 5).all()
    assert (result.bad_gradients == 0).all()


def test_what_cannot_estimate_is_refused() -> None:
    with pytest.raises(InputError, match="finite_difference or nes, not 'spsa'"):
        ScoreBased(linear(), "spsa", 1, 0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="samples of at least 1"):
        ScoreBased(linear(), "nes", 0, 0.1)
    with pytest.raises(InputError, match="step above 0"):
        ScoreBased(linear(), "finite_difference", 0, 0.0)


def test_the_average_of_random_answers_has_less_noise_by_the_root_of_their_number() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] + torch.randn(len(x), 3)

    torch.manual_seed(0)
    x = images(500)
    deviations = [(Averaged(Noisy(), eot)(x) - x.flatten(1)[:, :3]).std() for eot in (1, 16)]
    assert deviations[0].item() == pytest.approx(1, rel=0.1)
    assert deviations[1].item() == pytest.approx(1 / 4, rel=0.1)


def test_averaged_passes_are_tallied_and_differentiable() -> None:
    tally = Tally(4)
    averaged = Averaged(Counted(linear(), tally, torch.arange(4)), 5)
    x = images(2)
    found = gradient(on(averaged, torch.tensor([0, 3])), x)
    torch.testing.assert_close(found, gradient(linear(), x))
    assert tally.n_forward.tolist() == tally.n_backward.tolist() == [5, 0, 0, 5]
