"""The order of a plan: models first, then model by model, section by section."""

from tests.sweeps import SMALL, plan_of

ALL = SMALL.replace(
    "calibration:", "shift:\n  dark: {corruption: contrast, severity: 1}\ncalibration:"
)
ALL += "sensitivity:\n  boxes: {method: interval, eps: 0.01}\n"
ALL += "landscape:\n  minima: {landscape: basin_hopping, eps: 0.1, samples: 10}\n"
SECTIONS = ["clean", "attacks", "ood", "shift", "calibration", "verification", "sensitivity",
            "landscape"]  # fmt: skip


def test_models_come_first_then_sections_model_by_model():
    rows = [(p.measurement.seed, p.section) for p in plan_of(ALL).measurements.values()]
    expected = [(0, "models"), (1, "models")]
    expected += [(seed, section) for seed in (0, 1) for section in SECTIONS]
    assert [*dict.fromkeys(rows)] == expected


def test_a_measurement_stands_behind_all_that_it_needs():
    before = set()
    for key, planned in plan_of(ALL).measurements.items():
        assert {*planned.needs} <= before
        before.add(key)
