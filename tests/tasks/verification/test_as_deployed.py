"""Networks that are robust over the reals and not in float32: never verified.

Those that a solver is asked about take a second or two, for its process to begin.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.cascade import Cascade
from robsweep.tasks.verification.instance import Outcome, verify
from robsweep.tasks.verification.optimise.solver import Deadline
from robsweep.tasks.verification.problem import Method, Problem
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.properties import untargeted
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import Checked, subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from robsweep.tasks.verification.verdicts import DISAGREE, OVER_REALS, Row
from tests.tasks.verification.reading.onnx_files import declared, dense_file
from tests.tasks.verification.small_nets import dense, smallest_margin

for library in ("onnx", "vnnlib", "ortools"):
    pytest.importorskip(library)


def _chain(*layers: tuple[list[list[float]], list[float]]) -> nn.Sequential:
    """Dense layers of these weights and biases, with ReLUs between them."""
    parts: list[nn.Module] = []
    for weight, bias in layers:
        one = nn.Linear(len(weight[0]), len(weight))
        one.weight.data, one.bias.data = torch.tensor(weight), torch.tensor(bias)
        parts += [one, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval().requires_grad_(False)


BIG = 2.0**25
# y = x for x in [0.5, 1], over the reals; each is 0 in float32
CANCELS = _chain(([[1.0], [0.0]], [BIG, BIG]), ([[1.0, -1.0]], [0.0]), ([[1.0]], [0.0]))
VANISHES = _chain(([[1e-30]], [0.0]), ([[1e-30]], [0.0]), ([[1e38]], [0.0]), ([[1e22]], [0.0]))


def _asked(net: nn.Sequential, tmp_path: Path, most: float) -> Outcome:
    onnx = dense_file(tmp_path / "net.onnx", net)
    text = declared(1, 1) + "(assert (>= X_0 0.5))(assert (<= X_0 1))"
    (tmp_path / "p.vnnlib").write_text(f"{text}(assert (<= Y_0 {most}))")
    return verify(onnx, str(tmp_path / "p.vnnlib"), 30.0)


@pytest.mark.parametrize("net", [CANCELS, VANISHES], ids=["cancels", "vanishes"])
def test_what_is_lost_in_float32_is_not_unsat(net: nn.Sequential, tmp_path: Path) -> None:
    assert net(torch.tensor([[0.75]])).item() == 0
    assert net.double()(torch.tensor([[0.75]]).double()).item() == pytest.approx(0.75, rel=1e-6)
    net.float()
    found = _asked(net, tmp_path, 0.25)
    assert (found.answer, found.why) == ("unknown", DISAGREE)


def test_the_same_network_without_the_loss_is_unsat(tmp_path: Path) -> None:
    """2^12 in place of 2^25: what rounding may add is below 0.01."""
    kept = _chain(([[1.0], [0.0]], [4096.0] * 2), ([[1.0, -1.0]], [0.0]), ([[1.0]], [0.0]))
    assert _asked(kept, tmp_path, 0.25).answer == "unsat"
    close = _asked(kept, tmp_path, 0.4999)
    assert close.answer == "unknown"
    assert close.why is not None
    assert close.why.startswith("proved over the reals, but rounding in float32 (up to ")


def _rows(net: nn.Module, x: Tensor, label: int, eps: float) -> list[Row]:
    """Of the screen, and of a solve."""
    subject, labels = subject_of(net, tuple(x.shape[1:])), torch.tensor([label])
    asked = Robustness(eps)
    screened = screen_group(subject, x, labels, asked, Attack(5, 1, 5, 1)).rows[0]
    solved, _ = solve_one(Question(subject, x, labels, asked), Method(), 30.0)
    return [screened, solved]


def test_logits_that_tie_in_float32_are_not_verified() -> None:
    """Float32's numbers near 1000 are 6e-5 apart: one unit is less than rounding may add."""
    net = nn.Linear(1, 2).eval().requires_grad_(False)
    net.weight[:], net.bias[:] = 0.0, torch.tensor([1000.0, 999.9999])
    gap = (net.bias[0] - net.bias[1]).double().item()
    assert 5e-5 < gap < 2e-4
    for row in _rows(net, torch.tensor([[0.5]]), 0, 0.1):
        assert (row.verdict, row.arithmetic, row.boundary) == ("unknown", "reals", True)
        assert row.solver_status == OVER_REALS
        assert row.lower_bound is not None
        assert row.rounding_error is not None
        assert row.lower_bound <= 0 < row.lower_bound + row.rounding_error <= gap * 1.01


def test_a_proof_says_what_it_is_about_and_takes_rounding_off() -> None:
    net = dense(2, 2, 4, 3, 3)
    x = torch.rand(1, 2)
    label = int(net(x).argmax())
    exact = smallest_margin(net, x[0], label, 0.02)
    assert exact > 1e-3
    for row in _rows(net, x, label, 0.02):
        assert (row.verdict, row.arithmetic) == ("verified", "float32")
        assert row.lower_bound is not None
        assert row.rounding_error is not None
        assert 0 < row.rounding_error < 1e-4
        assert row.lower_bound + row.rounding_error <= exact + 1e-9


@pytest.mark.parametrize("stages", [("crown", "branching"), ("crown", "milp")])
@pytest.mark.parametrize("seed", range(3))
def test_searches_prove_margins_above_rounding_and_none_below(
    seed: int, stages: tuple[str, ...]
) -> None:
    """Logits near 64, where rounding may add 1e-4, with two smallest margins."""
    net = dense(seed, 2, 4, 3, 2)
    x, eps = torch.rand(1, 2), 0.3
    label = int(net(x).argmax())
    sign = torch.tensor([1.0, -1.0]).double() * (1 - 2 * label)
    exact = smallest_margin(net, x[0], label, eps)
    for gap, verdict in ((3e-3, "verified"), (3e-5, "unknown")):
        last = nn.Linear(3, 2)
        moved = nn.Sequential(*net[:-1], last).eval().requires_grad_(False)
        last.weight[:], last.bias[:] = 4 * net[-1].weight, 4 * net[-1].bias + 64
        last.bias[label] += gap - 4 * exact
        real = 4 * exact + float(sign @ (last.bias.double() - 4 * net[-1].bias.double()))
        assert abs(real - gap) < 2e-5
        question = Question(subject_of(moved, (2,)), x, torch.tensor([label]), Robustness(eps))
        row, _ = solve_one(question, Method(frozenset(stages)), 30.0)
        # branching alone may end with linear programs that it does not solve
        allowed = {verdict} if "milp" in stages else {verdict, "unknown"}
        assert row.verdict in allowed, (real, row)
        if verdict == "unknown" and "milp" in stages:
            assert row.arithmetic == "reals" or row.solver_status == DISAGREE


def test_what_overflows_is_proved_over_the_reals_only() -> None:
    net = _chain(([[1e30], [1e30]], [0.0, 0.0]), ([[1e30, 0.0], [0.0, 1e29]], [0.0, 0.0]))
    wide = _chain(
        ([[1e30], [1e30]], [0.0, 0.0]),
        ([[1e30, 0.0], [0.0, 1e29]], [0.0, 0.0]),
        ([[1e-30, 0.0], [0.0, 1e-30]], [0.0, 0.0]),
    )
    assert not net(torch.tensor([[0.5]])).isfinite().all()
    subject = subject_of(wide, (1,))
    assert subject.network.steps is not None
    row = screen_group(
        subject, torch.tensor([[0.5]]), torch.tensor([0]), Robustness(0.1), Attack(1, 1)
    ).rows[0]
    assert row.verdict != "verified"


def test_half_precision_is_never_verified() -> None:
    net = dense(2, 2, 4, 3, 3)
    x = torch.rand(1, 2)
    label = int(net(x).argmax())
    subject = subject_of(net, (2,))
    subject = subject._replace(network=subject.network.over_reals())
    asked = Robustness(0.02)
    rows = screen_group(subject, x, torch.tensor([label]), asked, Attack(5, 1)).rows
    rows.append(solve_one(Question(subject, x, torch.tensor([label]), asked), Method(), 30.0)[0])
    for row in rows:
        assert (row.verdict, row.arithmetic) == ("unknown", "reals")
        assert row.rounding_error == torch.inf


def test_a_point_at_which_the_precisions_disagree_forbids_a_proof() -> None:
    """Also where it was found beside the stages, and all of them prove the opposite."""
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    network = subject_of(_chain(([[1.0], [-1.0]], [1.0, 0.0])), (1,)).network
    problem = Problem(network, Bounds(x, x), untargeted(torch.tensor([0]), 2))

    def confirm(point: Tensor) -> tuple[Tensor, Checked]:
        return point[0], Checked("outside the ball", 2.0, boundary=False)

    verdicts = []
    for disagree in (False, True):
        method = Method(frozenset({"crown"}))
        cascade = Cascade(problem, method, Deadline(0.0, None), confirm)
        cascade.bound()
        cascade.disagree = disagree
        row = cascade.finished()
        verdicts.append((row.verdict, row.solver_status, row.boundary))
    assert verdicts == [("verified", None, False), ("unknown", DISAGREE, True)]
