"""Corruptions in sweep files: grids, and what is refused when planned."""

import pytest

from robsweep.orchestrator.errors import SpecError
from tests.sweeps import SMALL, TINY, plan_of, spec_of


def sources(text):
    planned = plan_of(TINY + text).measurements.values()
    found = [p.measurement.params for p in planned if p.section == "shift"]
    return [(p["source"], p["parameters"]) for p in found]


def test_a_grid_is_one_measurement_per_point():
    text = "shift:\n  turned: {corruption: rotate_by, degrees: [-30, 0, 30], dx: [0, 2]}\n"
    found = sources(text)
    assert [source for source, _ in found] == ["corruption:rotate_by:1"] * 6
    points = {(p["degrees"], p["dx"], p["dy"]) for _, p in found}
    assert points == {(d, x, 0.0) for d in (-30.0, 0.0, 30.0) for x in (0.0, 2.0)}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("turned: {corruption: rotate_by}", "needs 'degrees'"),
        (
            "turned: {corruption: rotate_by, degrees: 10, severity: 2}",
            "rotate_by has no severity: give it `degrees:`, `dx:`, `dy:`",
        ),
        ("saturate: {}", "saturate is for colour images, these have 1 channel"),
        ("cifar_brightness: {}", ": brightness is for these"),
        ("mnist_fog: {}", "unknown corruption 'mnist_fog'"),
        ("fog: {severity: 6}", "severity"),
    ],
)
def test_what_is_refused_has_a_line(entry, message):
    with pytest.raises(SpecError, match=r"sweep.yaml:\d+: ") as refused:
        spec_of(f"{SMALL}shift:\n  {entry}\n")
    assert message in str(refused.value)


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(SpecError, match="fog is for images") as refused:
        spec_of(
            "name: s\ndataset: iris\nmodels: {mlp: {hidden: [4]}}\n"
            "trainings: {standard: {epochs: 1}}\nshift:\n  fog: {}\n"
        )
    assert ":6: " in str(refused.value)
