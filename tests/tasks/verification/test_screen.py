import pytest
import torch
from safetensors.torch import load
from torch import nn

from robsweep.tasks.ball import inside
from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.properties import untargeted
from robsweep.tasks.verification.screen import Attack, expected_seconds, screen, screen_group
from robsweep.tasks.verification.search.counterexamples import around, search, subject_of
from robsweep.tasks.verification.verdicts import Row
from tests.tasks.digit_jobs import job_of
from tests.tasks.verification.small_nets import dense, smallest_margin

PARAMS = {
    "verifier": "milp",
    "property": "untargeted",
    "norm": "linf",
    "eps": 0.05,
    "parameters": {
        "stages": STAGES,
        "attack_steps": 10,
        "attack_restarts": 2,
        "again_steps": 20,
        "again_restarts": 2,
    },
}


def test_rows_agree_with_brute_force() -> None:
    net = dense(2, 2, 4, 3, 3)
    x = torch.rand(8, 2)
    labels = net(x).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    subject = subject_of(net, (2,))
    decided = set()
    for eps in (0.02, 0.2, 0.5):
        rows = screen_group(subject, x, labels, Robustness(eps), Attack(10, 2)).rows
        assert rows[0].verdict == "misclassified"
        assert rows[0].decided_by == "clean"
        for i, row in enumerate(rows[1:], start=1):
            exact = smallest_margin(net, x[i], int(labels[i]), eps)
            decided.add(row.verdict)
            assert row.verdict in ("verified" if exact > 0 else "falsified", "unknown")
            assert row.upper_bound is not None
            assert row.upper_bound >= exact - 1e-9
            assert row.lower_bound is None or row.lower_bound <= exact + 1e-9
            assert (row.expected_seconds is not None) == (row.verdict == "unknown")
    assert decided >= {"verified", "falsified"}


def test_a_tie_counts_as_misclassified() -> None:
    net = nn.Linear(2, 2, bias=False).requires_grad_(False)
    net.weight[:] = torch.eye(2)
    x = torch.tensor([[0.5, 0.5], [0.6, 0.5]])
    subject = subject_of(net, (2,))
    rows = screen_group(subject, x, torch.tensor([0, 0]), Robustness(0.01), Attack(2, 1)).rows
    assert [row.verdict for row in rows] == ["misclassified", "verified"]
    assert rows[0].upper_bound == 0
    assert rows[1].lower_bound is not None
    assert rows[1].rounding_error is not None
    assert 0 < rows[1].rounding_error < 1e-6
    assert rows[1].lower_bound + rows[1].rounding_error == pytest.approx(0.08, abs=1e-7)


def test_margins_near_zero_are_neither_verified_nor_falsified() -> None:
    net = nn.Linear(1, 2).requires_grad_(False)
    net.weight[:] = torch.tensor([[1.0], [0.0]])
    net.bias[:] = torch.tensor([0.0, 0.25])
    x = torch.tensor([[0.5]])
    unsafe = untargeted(torch.tensor([0]), 2)
    box_end = search(net, around(x, 0.25 - 1e-8), unsafe, x, 5, 1)
    assert 0 <= box_end.margins.item() < 1e-6
    asked = Robustness(0.25 - 1e-8)
    (row,) = screen_group(subject_of(net, (1,)), x, torch.tensor([0]), asked, Attack(5, 1)).rows
    assert row.boundary
    assert row.verdict == "unknown"


def test_the_check_names_what_failed() -> None:
    net = nn.Linear(1, 2).requires_grad_(False)
    net.weight[:] = torch.tensor([[1.0], [0.0]])
    net.bias[:] = torch.tensor([0.0, 0.25])
    posed = Robustness(0.3).of(torch.tensor([[0.5]] * 3), torch.tensor([0, 0, 0]), 2)
    results = posed.checked(subject_of(net, (1,)), torch.tensor([[0.1], [0.45], [0.2]]))
    assert [r.check for r in results] == ["outside the ball", "float64 margin > 0", "ok"]
    assert [r.boundary for r in results] == [False, False, False]


def test_the_job_decides_every_sample_and_keeps_counterexamples(weights: Inputs) -> None:
    job = job_of("screen", PARAMS, 50, 100)
    output = screen(job, weights)
    rows = output.tables["verification"].to_pylist()
    assert [row["sample"] for row in rows] == list(range(50, 100))
    verdicts = {row["verdict"] for row in rows}
    assert verdicts <= {"verified", "falsified", "misclassified", "unknown"}
    assert {"verified", "falsified"} <= verdicts
    ((path, content),) = output.artifacts.items()
    assert path == "counterexamples/screen-0-50-100.safetensors"
    found = load(content)
    falsified = [row["sample"] for row in rows if row["verdict"] == "falsified"]
    assert sorted(map(int, found)) == falsified
    data = load_data("digits", "test", "")
    images = data.images[falsified]
    adversarials = torch.stack([found[str(i)] for i in falsified])
    assert inside(images, adversarials, "linf", 0.05).all()
    model = load_model(job.measurement.model, weights.weights, torch.device("cpu")).model
    assert (model(adversarials).argmax(1) != data.labels[falsified]).all()


def test_rows_do_not_depend_on_the_slice(weights: Inputs) -> None:
    keep = ["sample", "verdict", "decided_by", "lower_bound", "upper_bound", "unstable_relus"]
    whole = screen(job_of("screen", PARAMS, 0, 100), weights).tables["verification"].select(keep)
    for start in (0, 50):
        part = screen(job_of("screen", PARAMS, start, start + 50), weights)
        assert part.tables["verification"].select(keep).equals(whole.slice(start, 50))


def test_other_norms_are_wrong_input(weights: Inputs) -> None:
    with pytest.raises(InputError, match=r"in norm linf, l1 or l2, not .*'l0'"):
        screen(job_of("screen", PARAMS | {"norm": "l0"}, 0, 50), weights)


def test_expected_seconds_grow_with_the_work_that_is_left() -> None:
    rows = [
        Row("unknown", lower_bound=-gap, unstable_relus=count)
        for count, gap in ((10, 0.1), (20, 0.1), (20, 0.2))
    ]
    assert sorted(rows, key=expected_seconds) == rows
    assert expected_seconds(rows[0]) < expected_seconds(rows[2])
