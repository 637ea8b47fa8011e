"""Every property and region: the screen and the solve against dense sampling and brute force."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from robsweep.tasks.ball import box
from robsweep.tasks.catalogue import VERIFIERS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Setting
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness, by_the_image, robustness_of
from robsweep.tasks.verification.reading.properties import margin
from robsweep.tasks.verification.screen import Attack, screen, screen_group
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from tests.tasks.digit_jobs import NO_FILES, job_of
from tests.tasks.verification.small_nets import dense, smallest_margin

pytest.importorskip("ortools")

SHAPE = (2,)


def boxes(x: Tensor) -> Bounds:
    """One per sample; most do not hold the sample's image."""
    low = (x.flip(0) - 0.1).clamp(0, 1)
    return Bounds(low.double(), (low + 0.15).clamp(max=1).double())


QUESTIONS = {
    "margin": lambda x: Robustness(0.03, margin=0.005),
    "one target": lambda x: Robustness(0.15, targets=(1,)),
    "two targets": lambda x: Robustness(0.1, targets=(0, 2)),
    "radius": lambda x: Robustness(0.2, radius=torch.tensor([0.0, 1.5]).double()),
    "one box": lambda x: Robustness(None, box=Bounds(*box(x[1:2], 0.02))),
    "a box each": lambda x: Robustness(None, box=boxes(x)),
    "targets in a box": lambda x: Robustness(None, targets=(1, 2), box=boxes(x)),
}


def grid(bounds: Bounds, i: int) -> Tensor:
    axes = [torch.linspace(low, high, 81, dtype=torch.float64) for low, high in
            zip(bounds.lower[i].tolist(), bounds.upper[i].tolist(), strict=True)]  # fmt: skip
    return torch.cartesian_prod(*axes)


@pytest.mark.parametrize("name", QUESTIONS)
def test_verdicts_agree_with_a_dense_grid(name: str) -> None:
    net = dense(0, 2, 4, 3, 3)
    x = torch.rand(12, 2)
    labels = net(x).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    asked = QUESTIONS[name](x)
    subject = subject_of(net, SHAPE)
    posed = asked.of(x, labels, 3)
    rows = screen_group(subject, x, labels, asked, Attack(20, 3)).rows
    decided = set()
    for i, row in enumerate(rows):
        points = grid(posed.box, i)
        sampled = margin(posed.unsafe.rows([i] * len(points)), subject.exact(points)).min().item()
        if row.verdict == "misclassified":
            assert i == 0
            assert posed.holds_image[0]
            continue
        assert not (i == 0 and posed.holds_image[0])
        question = Question(subject, x[i : i + 1], labels[i : i + 1], asked.part(i, i + 1))
        solved, found = solve_one(question, Method(), 60.0)
        for one in (row, solved):
            decided.add(one.verdict)
            if one.verdict == "verified":
                assert sampled > 0
            if one.lower_bound is not None:
                assert one.lower_bound <= sampled + 1e-9
        assert solved.verdict in ("verified", "falsified")
        assert row.verdict in (solved.verdict, "unknown")
        if sampled <= 0:
            assert solved.verdict == "falsified"
        if found is not None:
            here = posed.rows([i])
            assert (found >= here.box.lower[0]).all()
            assert (found <= here.box.upper[0]).all()
            assert margin(here.unsafe, subject.exact(found[None].double())) <= 0
    assert decided >= {"verified", "falsified"}


def test_a_margin_moves_the_border() -> None:
    net = dense(4, 2, 4, 3, 3)
    x, eps = torch.rand(1, 2), 0.05
    label = net(x).argmax(1)
    exact = smallest_margin(net, x[0], int(label), eps)
    assert exact > 0
    for least, verdict in ((exact * 0.9, "verified"), (exact * 1.1, "falsified")):
        asked = Robustness(eps, margin=least)
        row, _ = solve_one(Question(subject_of(net, SHAPE), x, label, asked), Method(), 60.0)
        assert row.verdict == verdict


def one_layer() -> nn.Linear:
    """The logits are the two pixels and 0."""
    net = nn.Linear(2, 3, bias=False).requires_grad_(False)
    net.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    return net


@pytest.mark.parametrize(
    ("asked", "label", "verdict", "decided_by"),
    [
        (Robustness(0.01), 1, "misclassified", "clean"),
        (Robustness(0.01, margin=0.3), 1, "misclassified", "clean"),
        (Robustness(0.01, margin=0.3), 0, "falsified", "clean"),  # right, but by 0.2 only
        (Robustness(0.01, margin=0.1), 0, "verified", "interval"),
        (Robustness(0.01, targets=(2,)), 1, "misclassified", "clean"),  # though 2 is far away
        (Robustness(0.01, targets=(1, 2)), 0, "verified", "interval"),
        (Robustness(0.01, targets=(0,)), 0, "verified", "no target"),
        (Robustness(0.9, targets=(0, 2)), 0, "falsified", "attack"),  # only 2 is left
    ],
)
def test_what_the_image_alone_decides(
    asked: Robustness, label: int, verdict: str, decided_by: str
) -> None:
    x, labels = torch.tensor([[0.6, 0.4]]), torch.tensor([label])
    subject = subject_of(one_layer(), SHAPE)
    found = screen_group(subject, x, labels, asked, Attack(10, 2))
    (row,) = found.rows
    assert (row.verdict, row.decided_by) == (verdict, decided_by)
    assert row.upper_bound is None or row.upper_bound == row.upper_bound + 0
    if decided_by == "clean":
        solved, _ = solve_one(Question(subject, x, labels, asked), Method(), 60.0)
        assert (solved.verdict, solved.decided_by) == (verdict, decided_by)
    if (verdict, decided_by) == ("falsified", "clean"):
        assert torch.equal(found.counterexamples[0], x[0])
        assert row.counterexample_check == "ok"


def test_an_image_outside_of_its_box_decides_nothing() -> None:
    x, labels = torch.tensor([[0.4, 0.6]]), torch.tensor([0])  # misclassified
    far = Robustness(None, box=Bounds(*torch.tensor([[[0.7, 0.1]], [[0.9, 0.3]]]).double()))
    posed = far.of(x, labels, 3)
    assert not posed.holds_image.any()
    torch.testing.assert_close(posed.region.start, torch.tensor([[0.8, 0.2]]))
    subject = subject_of(one_layer(), SHAPE)
    assert by_the_image(subject, posed).rows == {}
    (row,) = screen_group(subject, x, labels, far, Attack(5, 1)).rows
    assert row.verdict == "verified"
    assert row.upper_bound is not None
    assert row.lower_bound == pytest.approx(0.4, abs=1e-6)
    assert row.upper_bound == pytest.approx(0.4, abs=1e-6)
    holding = Robustness(None, box=Bounds(*torch.tensor([[[0.3, 0.1]], [[0.9, 0.7]]]).double()))
    (row,) = screen_group(subject, x, labels, holding, Attack(5, 1)).rows
    assert row.verdict == "misclassified"


def test_the_region_is_the_float32_inside_of_the_box() -> None:
    torch.manual_seed(0)
    x, radius = torch.rand(20, 3, 3), torch.rand(3, 3).double() * 2
    radius[0] = 0
    posed = Robustness(0.1, radius=radius).of(x, torch.zeros(20, dtype=torch.int64), 2)
    lower, upper = box(x, 1.0)
    assert posed.holds_image.all()
    assert (posed.box.lower >= lower).all()
    assert (posed.box.upper <= upper).all()
    assert torch.equal(posed.box.lower[:, 0], x[:, 0].double())
    for end in (posed.region.low, posed.region.high):
        assert end.dtype == torch.float32
        assert (end.double() >= posed.box.lower).all()
        assert (end.double() <= posed.box.upper).all()
    assert (posed.region.low.double() - posed.box.lower).abs().max() < 1e-7
    pulled = posed.pull_inside(torch.rand(20, 3, 3) * 3 - 1)
    assert (pulled.double() >= posed.box.lower).all()
    assert (pulled.double() <= posed.box.upper).all()


def params(**more: object) -> dict[str, object]:
    own = {**VERIFIERS["milp"].screen_parameters, "attack_steps": 10}
    return {
        "verifier": "milp", "property": "untargeted", "norm": "linf", "eps": 0.05,
        "parameters": own, **more,
    }  # fmt: skip


def written(path: Path, **arrays: np.ndarray) -> tuple[str, Setting]:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return digest, Setting(data_dir="/nowhere", region_file=str(path))


def test_a_job_reads_its_box_and_keeps_the_clean_counterexamples(
    weights: Inputs, tmp_path: Path
) -> None:
    data = load_data("digits", "test", "")
    images = data.images.numpy()
    low, high = (np.clip(images + change, 0, 1) for change in (-0.05, 0.05))
    digest, setting = written(tmp_path / "box.npz", lower=low, upper=high)
    asked = params(property=f"untargeted box={digest[:8]}", eps=None, box=digest)
    output = screen(job_of("screen", asked, 50, 100, setting=setting), weights)
    rows = output.tables["verification"].to_pylist()
    assert {row["eps"] for row in rows} == {None}
    assert {row["property"] for row in rows} == {f"untargeted box={digest[:8]}"}
    plain = screen(job_of("screen", params(), 50, 100), weights).tables["verification"]
    both = zip(rows, plain.to_pylist(), strict=True)
    assert all("unknown" in (a["verdict"], b["verdict"]) or a["verdict"] == b["verdict"]
               for a, b in both)  # fmt: skip

    wide = params(property="untargeted margin=50.0", margin=50.0)
    output = screen(job_of("screen", wide, 50, 100), weights)
    rows = output.tables["verification"].to_pylist()
    assert {(row["verdict"], row["decided_by"]) for row in rows} >= {("falsified", "clean")}
    (content,) = output.artifacts.values()
    for name, image in load(content).items():
        assert torch.equal(image, data.images[int(name)])


def test_a_radius_of_ones_is_the_ball(weights: Inputs, tmp_path: Path) -> None:
    digest, setting = written(tmp_path / "ones.npz", radius=np.ones((1, 8, 8)))
    asked = params(property=f"untargeted radius={digest[:8]}", radius=digest)
    keep = ["sample", "verdict", "lower_bound", "eps"]
    found = screen(job_of("screen", asked, 0, 50, setting=setting), weights)
    plain = screen(job_of("screen", params(), 0, 50), weights)
    a, b = (one.tables["verification"].select(keep) for one in (found, plain))
    assert a.equals(b)


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'smooth' in 'linf'"):
        robustness_of(job_of("screen", params(property="smooth")).measurement, NO_FILES)
    file = tmp_path / "ones.npz"
    digest, setting = written(file, radius=np.ones((1, 8, 8)))
    changed = params(property="untargeted radius=0", radius="0" * 64)
    with pytest.raises(InputError, match="has changed since the sweep was planned"):
        robustness_of(job_of("screen", changed).measurement, setting)
    file.unlink()
    gone = job_of("screen", params(property="untargeted radius=0", radius=digest)).measurement
    with pytest.raises(InputError, match=r"no file .*ones\.npz"):
        robustness_of(gone, setting)
