"""The sections `sensitivity` and `landscape` of a sweep file, from planning to their tables."""

import pytest

from robsweep.orchestrator.errors import SpecError
from tests.stores import all_rows
from tests.sweeps import plan_of, sweep

IRIS = """\
name: iris
dataset: iris
models:
  mlp: {hidden: [3], activation: tanh}
trainings:
  standard: {epochs: 1}
sensitivity:
  boxes: {method: [interval, crown], eps: [0.1, 0], samples: 20}
landscape:
  minima: {landscape: basin_hopping, eps: 0.05, chains: 2, steps: 2, l2: 0.001, samples: 20}
"""


def planned(text, kind, **where):
    measurements = plan_of(text, **where).measurements.values()
    return [one for one in measurements if one.measurement.kind == kind]


def test_what_is_planned():
    interval, crown = planned(IRIS, "sensitivity")
    assert [one.measurement.params["method"] for one in (interval, crown)] == ["interval", "crown"]
    assert interval.measurement.params["eps"] == [0.0, 0.1]
    assert (interval.wanted, interval.group) == (((0, 20),), 50)
    (minima,) = planned(IRIS, "landscape")
    assert (minima.wanted, minima.size, minima.group, minima.per_job) == (((0, 2),), 2, 1, 1)
    assert minima.needs == (minima.measurement.model.model_id,)
    assert minima.measurement.params["samples"] == [0, 20]


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ("chains: 2", "chains: 7", set()),
        ("eps: [0.1, 0]", "eps: [0, 1/10]", set()),
        ("eps: [0.1, 0], samples: 20", "eps: [0.1, 0], samples: 30", set()),
        ("steps: 2,", "steps: 2, train_samples: 0, measure: log_volume,", set()),
        ("eps: [0.1, 0]", "eps: 0.1", {"sensitivity"}),
        ("l2: 0.001, samples: 20", "l2: 0.001, samples: 30", {"landscape"}),
        ("steps: 2", "steps: 3", {"landscape"}),
        ("l2: 0.001", "l2: 0.01", {"landscape"}),
        ("l2: 0.001", "l2: 0.001, measure: mean_width", {"landscape"}),
        ("l2: 0.001", "l2: 0.001, seed: 1", {"landscape"}),
    ],
)
def test_what_is_in_the_id(old, new, kinds):
    assert old in IRIS
    before, after = (set(plan_of(text).measurements) for text in (IRIS, IRIS.replace(old, new, 1)))
    assert {key.split("-")[0] for key in before - after} == kinds


def test_only_models_that_are_trained_here_have_a_landscape(tmp_path):
    both = IRIS.replace("trainings:", "  other: {arch: mlp, weights: net.safetensors}\ntrainings:")
    (tmp_path / "net.safetensors").write_bytes(b"any")
    assert [one.model for one in planned(both, "landscape", folder=tmp_path)] == ["mlp"]
    assert len(planned(both, "sensitivity", folder=tmp_path)) == 4


# fmt: off
MISTAKES = {
    "no eps": ("eps: [0.1, 0], ", "", 8, "needs 'eps'"),
    "eps above 1": ("eps: [0.1, 0]", "eps: [0.1, 1.5]", 8, "pixels are 0 to 1"),
    "unknown method": ("[interval, crown]", "[interval, crwn]", 8, "did you mean 'crown'"),
    "a method of one's own": ("[interval, crown]", '"my:own"', 8, "unknown method 'my:own'"),
    "too many samples": ("0], samples: 20", "0], samples: 46", 8, "the test split has 45"),
    "unknown key": ("eps: [0.1, 0]", "eps: [0.1, 0], step: 1", 8, "unknown key 'step'"),
    "no chains": ("chains: 2", "chains: 0", 10, "greater than 0"),
    "no eps of a landscape": ("eps: 0.05, ", "", 10, "needs 'eps'"),
    "eps of a landscape above 1": ("eps: 0.05", "eps: 5", 10, "pixels are 0 to 1"),
    "unknown landscape": ("basin_hopping", "basin_hoping", 10, "did you mean 'basin_hopping'"),
    "no penalty": ("l2: 0.001", "l2: 0", 10, "greater than 0"),
    "too many training samples": ("l2: 0.001", "train_samples: 91", 10, "train split has 90"),
    "no steps": ("steps: 2", "steps: 0", 10, "at least 1"),
    "unknown measure": ("l2: 0.001", "measure: volume", 10, "log_volume"),
    "nobody": ("l2: 0.001", "exclude: mlp", 10, "applies to no model that is trained here"),
}
# fmt: on


@pytest.mark.parametrize(("old", "new", "line", "why"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_with_a_line(old, new, line, why):
    assert old in IRIS
    with pytest.raises(SpecError) as caught:
        plan_of(IRIS.replace(old, new, 1))
    message = str(caught.value)
    assert f"sweep.yaml:{line}" in message
    assert why in message


def test_a_sweep_from_boxes_and_minima_to_their_tables(robsweep, tmp_path):
    code, _, err = robsweep("run", sweep(IRIS))
    assert code == 0, err
    for table in ("sensitivity", "landscape"):
        code, out, _ = robsweep("show", "iris", "--table", table)
        assert code == 0
        assert len(out.splitlines()) == (6 if table == "sensitivity" else 3), out
    assert robsweep("check")[0] == 0
    rows = all_rows(tmp_path / "results", "landscape").to_pylist()
    assert {row["sample"] for row in rows} == {0, 1}
    boxes = all_rows(tmp_path / "results", "sensitivity").to_pylist()
    widths = {}
    for row in boxes:
        widths.setdefault(row["method"], {})[row["sample"], row["eps"]] = row["mean_width"]
    # groups are computed whole: 45 samples, though only 20 are wanted
    assert len(boxes) == 2 * 2 * 45
    assert all(width == 0 for (_, eps), width in widths["crown"].items() if eps == 0)
    for key, width in widths["interval"].items():
        assert widths["crown"][key] <= width + 1e-9
    # more chains: those that are there stay
    code, _, err = robsweep("run", sweep(IRIS.replace("chains: 2", "chains: 3")))
    assert code == 0, err
    again = all_rows(tmp_path / "results", "landscape").to_pylist()
    assert [row for row in again if row["sample"] < 2] == rows
    assert {row["sample"] for row in again} == {0, 1, 2}
    jobs = all_rows(tmp_path / "results", "jobs").to_pylist()
    assert sum(row["kind"] == "landscape" for row in jobs) == 3


def test_a_model_that_cannot_be_bounded_is_named_before_anything_runs(robsweep, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\n"
        "class Wavy(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x).sin()\n\n\n"
        "def net(shape, classes):\n"
        "    return Wavy(4, 3)\n"
    )
    text = IRIS.replace(
        "mlp: {hidden: [3], activation: tanh}", 'net: {arch: "mine:net", train: false}'
    )
    text = text.split("landscape:\n")[0]
    code, _, err = robsweep("run", sweep(text))
    assert code == 2
    assert "is to be bounded and cannot be" in err
    assert "leave it out of `sensitivity:`" in err
    assert not (tmp_path / "results").exists()


def test_attacks_and_solvers_take_tables_of_features(robsweep):
    relu = IRIS.replace("activation: tanh", "activation: relu").split("sensitivity:", maxsplit=1)[0]
    text = relu + (
        "attacks:\n  pgd: {attack: LinfPGD, eps: [0.05], steps: 3}\n"
        "verification:\n  linf: {verifier: milp, eps: 0.02, samples: 5}\n"
    )
    code, out, err = robsweep("run", sweep(text))
    assert code == 0, err
    assert "n=45" in out
