"""Regions of the catalogue against the functions behind them."""

import inspect

import pytest
import torch

from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.catalogue.regions import REGIONS, misfit
from robsweep.tasks.catalogue.values import NORMS
from robsweep.tasks.catalogue.verifiers import VERIFIERS
from robsweep.tasks.verification.regions.asked import region


@pytest.mark.parametrize("name", REGIONS)
def test_parameters_and_defaults_are_the_functions(name: str) -> None:
    parameters = inspect.signature(resolve(REGIONS[name].path, "region")).parameters
    if name == "linf":
        assert [*parameters] == ["images", "eps"]
        return
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["image"]
    keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    if "file" in REGIONS[name].parameters:
        assert keywords.keys() == {"basis", "lower", "upper", "offset"}  # its arrays
        return
    expected = {
        key: inspect.Parameter.empty if isinstance(default, type) else default
        for key, default in REGIONS[name].parameters.items()
    }
    assert keywords == expected


def test_balls_are_the_norms_of_the_verifier() -> None:
    balls = {name for name, one in REGIONS.items() if one.ball}
    assert balls == {*VERIFIERS["milp"].norms}
    assert balls <= {*NORMS}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5)])
@pytest.mark.parametrize("name", [name for name, one in REGIONS.items() if name != "linf"])
def test_every_region_holds_its_image(name: str, shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    given = {"basis": torch.rand(2, *shape), "lower": -torch.ones(2), "upper": torch.ones(2)}
    parameters = {
        "affine": given,
        "l1": {"eps": 0.5},
        "l2": {"eps": 0.5},
        "brightness_contrast": {"brightness": 0.1},
    }.get(name, {})
    area = region(name, **parameters).of(image, 0)
    own = area.own
    assert own is not None
    assert area.holds_own().all()
    assert torch.equal(area.images(own[None])[0], image)
    assert area.contains(own, image)
    share = torch.rand(len(area.box.lower), *area.box.lower.shape[1:]).double()
    points = area.box.lower + share * (area.box.upper - area.box.lower)
    images = area.images(points.float())
    assert images.shape[1:] == shape
    assert ((images >= 0) & (images <= 1)).all()
    for point, one in zip(points.float()[:3], images[:3], strict=True):
        assert area.contains(point, one)


def test_what_images_do_not_have() -> None:
    assert misfit("blur", {"kernel": 5}, (1, 5, 6)) is None
    assert misfit("blur", {"kernel": 6}, (1, 5, 6)) is not None
    assert misfit("blur", {"kernel": 3}, (4,)) is not None
    assert misfit("patch", {"size": 2, "at": [3, 4]}, (1, 5, 6)) is None
    assert misfit("patch", {"size": 2, "at": [4, 3]}, (1, 5, 6)) is not None
    assert misfit("cube", {}, (4,)) is None
