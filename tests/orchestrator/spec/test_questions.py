"""Properties and regions in sweep files: what they are called, and what is wrong with them."""

import hashlib

import numpy as np
import pytest

from robsweep.orchestrator.errors import SpecError
from tests.sweeps import SMALL, plan_of, spec_of

EPS = "eps: 0.02, "
SHAPE = (1, 8, 8)
ASKED = ("property", "eps", "margin", "targets", "radius", "box", "question")


def written(folder, name, **arrays):
    np.savez(folder / name, **arrays)
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


def questions(text, folder=None):
    """The parameters of the screens and solves of one model that plain robustness has not."""
    found = []
    for planned in plan_of(text, folder).measurements.values():
        p = planned.measurement.params
        if planned.measurement.kind in {"screen", "solve"} and planned.measurement.seed == 0:
            found.append({key: p[key] for key in p if key in ASKED})
    assert found[::2] == found[1::2]  # screen and solve ask the same
    return found[::2]


@pytest.mark.parametrize(
    ("given", "params"),
    [
        (EPS, {"property": "untargeted", "eps": 0.02}),
        (EPS + "margin: 1/10, ", {"property": "untargeted margin=0.1", "eps": 0.02, "margin": 0.1}),
        (
            EPS + "property: targeted, targets: 3, ",
            {"property": "targeted 3", "eps": 0.02, "targets": [3]},
        ),
        (
            EPS + "property: targeted, targets: [5, 3, 5], ",
            {"property": "targeted 3,5", "eps": 0.02, "targets": [3, 5]},
        ),
        (EPS + "question: feasible, ", {"property": "untargeted", "eps": 0.02}),
        (
            EPS + "question: worst, ",
            {"property": "untargeted worst", "eps": 0.02, "question": "worst"},
        ),
        (
            "question: closest, ",
            {"property": "untargeted closest", "eps": None, "question": "closest"},
        ),
        (
            "curve: [0.01, 8/255], ",
            {"property": "untargeted", "eps": [0.01, 8 / 255], "question": "curve"},
        ),
    ],
)
def test_what_is_not_the_default_is_a_parameter(given, params):
    assert questions(SMALL.replace(EPS, given)) == [params]


def test_files_are_named_by_their_content(tmp_path):
    radius = written(tmp_path, "map.npz", radius=np.full(SHAPE, 2.0))
    box = written(tmp_path, "box.npz", lower=np.zeros(SHAPE), upper=np.ones(SHAPE))
    text = SMALL.replace(EPS, EPS + "radius: map.npz, ")
    assert questions(text, tmp_path) == [
        {"property": f"untargeted radius={radius[:8]}", "eps": 0.02, "radius": radius}
    ]
    text = SMALL.replace(EPS, "box: box.npz, property: targeted, targets: [1], ")
    first = questions(text, tmp_path)
    assert first == [
        {"property": f"targeted 1 box={box[:8]}", "eps": None, "targets": [1], "box": box}
    ]
    plan = plan_of(text, tmp_path)
    files = {p.setting.region_file for p in plan.measurements.values()
             if p.measurement.kind in {"screen", "solve"}}  # fmt: skip
    assert files == {str((tmp_path / "box.npz").resolve())}
    (tmp_path / "box.npz").rename(tmp_path / "moved.npz")
    moved = text.replace("box.npz", "moved.npz")
    assert set(plan_of(moved, tmp_path).measurements) == set(plan.measurements)
    written(tmp_path, "box.npz", lower=np.full(SHAPE, 0.5), upper=np.ones(SHAPE))
    assert not set(plan_of(text, tmp_path).measurements) & {
        key for key in plan.measurements if key.startswith(("screen", "solve"))
    }


def test_a_list_of_lists_of_targets_and_lists_of_margins_are_axes():
    text = SMALL.replace(EPS, EPS + "property: targeted, targets: [[3], [5, 1]], ")
    assert [q["property"] for q in questions(text)] == ["targeted 3", "targeted 1,5"]
    text = SMALL.replace(EPS, EPS + "margin: [0, 0.5], ")
    assert [q["property"] for q in questions(text)] == ["untargeted", "untargeted margin=0.5"]


MISTAKES = {
    "eps above the range": ("eps: 8, ", "eps 8 in norm linf: pixels are 0 to 1"),
    "negative margin": (EPS + "margin: -0.1, ", "0 or more, got -0.1"),
    "margin that is none": (EPS + "margin: .nan, ", "finite"),
    "no such property": (EPS + "property: smooth, ", "'untargeted' or 'targeted', got 'smooth'"),
    "targeted at nobody": (EPS + "property: targeted, ", "needs `targets:`"),
    "targeted at an empty list": (EPS + "property: targeted, targets: [], ", "needs `targets:`"),
    "targets of untargeted": (EPS + "targets: [3], ", "belongs to `property: targeted`"),
    "margin of targeted": (
        EPS + "property: targeted, targets: 3, margin: 1, ", "belongs to property untargeted",
    ),
    "a target that is no class": (
        EPS + "property: targeted, targets: [3, 10], ", "digits has classes 0 to 9, no class 10",
    ),
    "a negative target": (EPS + "property: targeted, targets: -1, ", "classes counted from 0"),
    "a target by name": (EPS + "property: targeted, targets: cat, ", "got 'cat'"),
    "a target in parts": (EPS + "property: targeted, targets: 1.5, ", "got 1.5"),
    "a box with eps": (EPS + "box: box.npz, ", "leave out `eps:`"),
    "a box with a radius": ("radius: map.npz, box: box.npz, ", "leave out `eps:` and `radius:`"),
    "a radius without eps": ("radius: map.npz, ", "needs 'eps'"),
    "a radius as a number": (EPS + "radius: 0.1, ", "valid string, got 0.1"),
    "no file": ("box: absent.npz, ", "absent.npz: No such file"),
    "a policy that is none": (EPS + "rerun: sometimes, ", "'never', 'ambiguous', 'refine' or"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_their_line(mistake, tmp_path):
    given, message = MISTAKES[mistake]
    written(tmp_path, "map.npz", radius=np.ones(SHAPE))
    written(tmp_path, "box.npz", lower=np.zeros(SHAPE), upper=np.ones(SHAPE))
    with pytest.raises(SpecError) as caught:
        spec_of(SMALL.replace(EPS, given), tmp_path)
    assert "sweep.yaml:15:" in str(caught.value)
    assert message in str(caught.value)


def changed(value, shape=SHAPE, fill=0.5):
    array = np.full(shape, fill)
    array[(0,) * (len(shape) - 1) + (3,)] = value
    return array


HALF, MANY = np.full(SHAPE, 0.5), (500, *SHAPE)
FILES = {
    "negative radius": ("radius", {"radius": changed(-1)}, "radius[0, 0, 3] is -1: expected 0 or"),
    "radius NaN": ("radius", {"radius": changed(np.nan)}, "radius[0, 0, 3] is nan"),
    "radius infinite": ("radius", {"radius": changed(np.inf)}, "radius[0, 0, 3] is inf"),
    "radius of one shape": ("radius", {"radius": np.ones((8, 8))}, "(8, 8), an image of digits"),
    "no radius": ("radius", {"radii": HALF}, "no array 'radius', only radii"),
    "radius of words": ("radius", {"radius": np.array(["a"])}, "expected numbers"),
    "no upper": ("box", {"lower": HALF}, "no array 'upper', only lower"),
    "box NaN": ("box", {"lower": HALF, "upper": changed(np.nan)}, "upper[0, 0, 3] is nan"),
    "box outside": ("box", {"lower": changed(-0.1), "upper": HALF}, "pixels in [0, 1]"),
    "box above": ("box", {"lower": HALF, "upper": changed(1.1)}, "upper[0, 0, 3] is 1.1"),
    "empty box": ("box", {"lower": changed(0.7), "upper": HALF}, "[0, 0, 3] is 0.7: above upper"),
    "box of one shape": ("box", {"lower": HALF[0], "upper": HALF[0]}, "expected (1, 8, 8) for"),
    "too few boxes": (
        "box", {"lower": np.zeros((9, *SHAPE)), "upper": np.ones((9, *SHAPE))}, "(500, 1, 8, 8)",
    ),
    "two shapes": ("box", {"lower": np.zeros(MANY), "upper": HALF}, "upper (1, 8, 8)"),
    "between two floats": (
        "box", {"lower": changed(0.1), "upper": changed(0.1)}, "no float32 number lies between",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", FILES)
def test_mistakes_in_files_are_named(mistake, tmp_path):
    what, arrays, message = FILES[mistake]
    written(tmp_path, "file.npz", **arrays)
    eps = EPS if what == "radius" else ""
    with pytest.raises(SpecError) as caught:
        spec_of(SMALL.replace(EPS, f"{eps}{what}: file.npz, "), tmp_path)
    assert f"sweep.yaml:15: verification.linf.{what}: " in str(caught.value)
    assert "file.npz: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_npz(content, tmp_path):
    (tmp_path / "file.npz").write_bytes(content)
    with pytest.raises(SpecError, match=r"file\.npz: not a readable \.npz"):
        spec_of(SMALL.replace(EPS, "box: file.npz, "), tmp_path)


def test_boxes_of_each_sample_and_of_float32_points_are_fine(tmp_path):
    image = np.random.default_rng(0).random(MANY).astype(np.float32)
    written(tmp_path, "file.npz", lower=image, upper=image)
    assert questions(SMALL.replace(EPS, "box: file.npz, "), tmp_path)
