import pytest
import torch

from robsweep.tasks.ball import box, distance, in_range, inside, pull_inside


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    images = torch.rand(200, 1, 8, 8)
    images[:20] = 0
    images[20:40] = 1
    images[40:60] *= 1e-4
    return images


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [0.1, 8 / 255, 0.3, 1e-6, 0.0, 2.0])
def test_pulled_inside_is_exactly_inside(norm: str, eps: float, images: torch.Tensor) -> None:
    tries = [
        images + eps,
        images - eps,
        images + eps * torch.randn_like(images).sign(),
        images + eps * torch.randn_like(images),
        torch.rand_like(images) * 4 - 2,
    ]
    for adversarials in tries:
        pulled = pull_inside(images, adversarials, norm, eps)
        assert pulled.dtype == torch.float32
        assert inside(images, pulled, norm, eps).all()
        # in exact comparisons, written out
        assert (distance(images, pulled, norm) <= eps).all()
        assert in_range(pulled).all()
        assert torch.equal(pull_inside(images, pulled, norm, eps), pulled)


def test_the_linf_ball_is_used_up_to_the_last_float32(images: torch.Tensor) -> None:
    lower, upper = box(images, 0.1)
    high = pull_inside(images, images + 0.1, "linf", 0.1)
    low = pull_inside(images, images - 0.1, "linf", 0.1)
    assert ((upper - high.double()) <= 1.2e-7).all()
    assert ((low.double() - lower) <= 1.2e-7).all()
    naive = (images + 0.1).clamp(0, 1)
    assert not inside(images, naive, "linf", 0.1).all()  # why this module exists


def test_l2_shrinking_keeps_the_direction_and_nearly_all_of_the_radius() -> None:
    torch.manual_seed(0)
    images = torch.full((50, 1, 8, 8), 0.5)
    perturbation = torch.randn_like(images) * 0.1
    pulled = pull_inside(images, images + perturbation, "l2", 0.3)
    assert (distance(images, pulled, "l2") > 0.3 * (1 - 1e-5)).all()
    cosine = torch.cosine_similarity((pulled - images).flatten(1), perturbation.flatten(1))
    assert (cosine > 0.9999).all()


def test_distances_of_a_hand_made_case() -> None:
    images = torch.zeros(1, 2, 2, 2)
    adversarials = images.clone()
    adversarials[0, :, 0, 0] = torch.tensor([0.5, 0.25])
    adversarials[0, 1, 1, 1] = 0.25
    expected = {"linf": 0.5, "l1": 1.0, "l2": 0.375**0.5, "l0": 2.0}
    for norm, value in expected.items():
        assert distance(images, adversarials, norm).tolist() == [pytest.approx(value, abs=1e-15)]
    assert inside(images, adversarials, "l0", 2).all()
    assert not inside(images, adversarials, "l0", 1).any()
    assert torch.equal(pull_inside(images, adversarials, "l0", 1), adversarials)


def test_what_is_not_finite_is_not_inside() -> None:
    images = torch.full((3, 4), 0.5)
    adversarials = images.clone()
    adversarials[0, 0], adversarials[1, 0] = torch.nan, torch.inf
    for norm in ("linf", "l2", "l1", "l0"):
        assert inside(images, adversarials, norm, 10.0).tolist() == [False, False, True]
