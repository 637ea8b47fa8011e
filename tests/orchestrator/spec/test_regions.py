"""Regions in sweep files: what they are called, and what is wrong with them, line by line."""

import numpy as np
import pytest

from robsweep.orchestrator.cli.listing import listing
from robsweep.orchestrator.errors import SpecError
from robsweep.tasks.catalogue import REGIONS
from tests.orchestrator.spec.test_questions import EPS, SHAPE, written
from tests.sweeps import SMALL, plan_of, spec_of


def asked(given, folder=None):
    """The parameters of the screens of one model that say what is asked; its solves have them."""
    text = SMALL.replace(EPS, given)
    found = {"screen": [], "solve": []}
    for planned in plan_of(text, folder).measurements.values():
        m = planned.measurement
        if m.kind in found and m.seed == 0:
            words = {"property", "norm", "eps", "region"}
            found[m.kind].append({key: m.params[key] for key in m.params if key in words})
    assert found["screen"] == found["solve"]
    return found["screen"]


def test_a_region_is_a_parameter_with_its_defaults():
    (found,) = asked("region: blur, ")
    assert found == {
        "property": "untargeted region=blur(kernel=3)",
        "norm": "linf",
        "eps": None,
        "region": {"name": "blur", "kernel": 3},
    }
    assert asked("region: {name: blur, kernel: 3}, ") == [found]
    (patch,) = asked("region: {name: patch, size: 2, at: [0, 4]}, ")
    assert patch["property"] == "untargeted region=patch(size=2,at=0x4)"
    (cube,) = asked("region: cube, ")
    assert cube["property"] == "untargeted region=cube"


def test_regions_are_an_axis_and_norms_too():
    found = asked("region: [cube, {name: blur, kernel: 5}], ")
    assert [one["region"]["name"] for one in found] == ["cube", "blur"]
    found = asked("norm: [l1, l2], eps: [0.5, 1.5], ")
    assert [(one["norm"], one["eps"]) for one in found] == [
        ("l1", 0.5), ("l1", 1.5), ("l2", 0.5), ("l2", 1.5),
    ]  # fmt: skip
    assert all(one["property"] == "untargeted" for one in found)


def test_a_map_is_known_by_its_content(tmp_path):
    arrays = {"basis": np.ones((2, *SHAPE)), "lower": [-1, 0], "upper": [0, 1]}
    sha256 = written(tmp_path, "map.npz", **arrays)
    (found,) = asked("region: {name: affine, file: map.npz}, ", tmp_path)
    assert found["region"] == {"name": "affine", "file": sha256}
    assert found["property"] == f"untargeted region=affine(file={sha256[:8]})"
    written(tmp_path, "map.npz", **{**arrays, "basis": np.ones((500, 2, *SHAPE))})
    assert asked("region: {name: affine, file: map.npz}, ", tmp_path) != [found]


MISTAKES = {
    "no such region": ("region: blurr, ", "unknown region 'blurr'; did you mean 'blur'?"),
    "a ball": ("region: l2, ", "l2 is a ball: ask for it by `norm: l2` and `eps:`"),
    "no region": ("region: 3, ", "expected a name"),
    "no name": ("region: {kernel: 3}, ", "expected a name"),
    "unknown key": ("region: {name: blur, kernal: 3}, ", "unknown key 'kernal'"),
    "a kernel of nothing": ("region: {name: blur, kernel: 0}, ", "expected at least 1, got 0"),
    "half a kernel": ("region: {name: blur, kernel: 2.5}, ", "expected a whole number"),
    "a kernel larger than the image": (
        "region: {name: blur, kernel: 9}, ", "a kernel of 9x9 is larger than images of 8x8",
    ),
    "a patch larger than the image": ("region: {name: patch, size: 9}, ", "larger than images"),
    "a patch that leaves the pixels": (
        "region: {name: patch, size: 3, at: [6, 0]}, ", "3x3 at [6, 0] leaves the pixels",
    ),
    "a patch at one number": ("region: {name: patch, at: [6]}, ", "is a row and a column"),
    "a patch between pixels": ("region: {name: patch, at: [1.5, 2]}, ", "is a row and a column"),
    "brightness beyond the pixels": (
        "region: {name: brightness_contrast, brightness: 1.5}, ", "from 0 to 1, got 1.5",
    ),
    "nothing moves": ("region: brightness_contrast, ", "both 0"),
    "a map without a file": ("region: affine, ", "needs 'file'"),
    "no such file": ("region: {name: affine, file: absent.npz}, ", "absent.npz: No such file"),
    "a region with eps": (EPS + "region: cube, ", "no ball: leave out `eps:`"),
    "a region with a box": ("box: box.npz, region: cube, ", "leave out `box:`"),
    "a region in another norm": ("norm: l2, region: cube, ", "does not go with norm l2"),
    "a radius in another norm": (EPS + "norm: l1, radius: map.npz, ", "`radius:` does not go with"),
    "norm l2 by a MILP alone": (
        EPS + "norm: l2, solver: highs, stages: [attack, milp], ", "bounds and branching only",
    ),
    "linf beyond the pixels": ("norm: linf, eps: 1.5, ", "pixels are 0 to 1"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_their_line(mistake, tmp_path):
    given, message = MISTAKES[mistake]
    with pytest.raises(SpecError) as caught:
        spec_of(SMALL.replace(EPS, given), tmp_path)
    assert "sweep.yaml:15:" in str(caught.value)
    assert message in str(caught.value)


ONE, TWO = np.ones((2, *SHAPE)), np.array([0.0, 1.0])
FILES = {
    "no basis": ({"lower": TWO, "upper": TWO}, "no array 'basis'"),
    "too few ends": ({"basis": ONE, "lower": TWO[:1], "upper": TWO[:1]}, "basis has shape"),
    "other images": ({"basis": ONE[..., :4], "lower": TWO, "upper": TWO}, "basis has shape"),
    "two lengths": ({"basis": ONE, "lower": TWO, "upper": TWO[:1]}, "upper (1,)"),
    "empty": ({"basis": ONE, "lower": TWO, "upper": -TWO}, "lower[1] is 1: above upper"),
    "not finite": ({"basis": ONE * np.inf, "lower": TWO, "upper": TWO}, "basis[0, 0, 0, 0] is inf"),
    "an offset that leaves the pixels": (
        {"basis": ONE, "lower": TWO, "upper": TWO, "offset": 2 * ONE[0]}, "pixels in [0, 1]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", FILES)
def test_mistakes_in_maps_are_named(mistake, tmp_path):
    arrays, message = FILES[mistake]
    written(tmp_path, "map.npz", **arrays)
    with pytest.raises(SpecError) as caught:
        spec_of(SMALL.replace(EPS, "region: {name: affine, file: map.npz}, "), tmp_path)
    assert "sweep.yaml:15: verification.linf.region: " in str(caught.value)
    assert message in str(caught.value)


def test_the_list_says_of_each_region_what_is_exact():
    lines = listing("regions").splitlines()
    for name, region in REGIONS.items():
        (line,) = (one for one in lines if one.startswith(f"{name} "))
        assert region.exact in line
