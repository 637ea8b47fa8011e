"""The engine's verdict on one image, from all of its stages: tests go through here."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one


def verdict_of(net: nn.Module, image: Tensor, label: int, eps: float) -> str:
    """What all stages together say of a float32 image (...), which none alone may contradict.

    A counterexample must be in the ball and of another class, or tie, in float64. The MILP alone,
    which allows for rounding all at once, may leave open what another stage proves.
    """
    torch.manual_seed(0)
    subject = subject_of(net, tuple(image.shape))
    labels = torch.tensor([label])
    asked = Robustness(eps)
    screened = screen_group(subject, image[None], labels, asked, Attack(10, 2, 10, 2))
    for counterexample in screened.counterexamples.values():
        _confirm(net, image, label, eps, counterexample)
    verdicts = [screened.rows[0].verdict]
    alone = ((("splitting",), 0.5), (("branching",), 1.0), (("milp",), 60.0))
    for stages, limit in ((STAGES, 30.0), *alone):
        method = Method(frozenset(("crown", *stages)))
        row, found = solve_one(Question(subject, image[None], labels, asked), method, limit)
        verdicts.append(row.verdict)
        assert (found is None) == (row.verdict != "falsified")
        if found is not None:
            _confirm(net, image, label, eps, found)
    whole = verdicts[1]
    assert set(verdicts) <= {whole, "unknown", "timeout"}, verdicts
    return whole


def lower_bound_of(net: nn.Module, image: Tensor, label: int, eps: float) -> float:
    """The screen's lower bound on the smallest margin in the ball."""
    subject = subject_of(net, tuple(image.shape))
    none = Attack(0, 0, 0, 0)
    rows = screen_group(subject, image[None], torch.tensor([label]), Robustness(eps), none).rows
    assert rows[0].lower_bound is not None, rows[0]
    return rows[0].lower_bound


def margin_at(net: nn.Module, points: Tensor, label: int) -> np.ndarray:
    """The label's logit less the largest other one, in float64: (N, ...) -> (N,)."""
    with torch.no_grad():
        logits = copy.deepcopy(net).double()(points.double()).numpy()
    margins: np.ndarray = logits[:, label] - np.delete(logits, label, axis=1).max(1)
    return margins


def _confirm(net: nn.Module, image: Tensor, label: int, eps: float, found: Tensor) -> None:
    x, point = (t.double().numpy() for t in (image, found))
    assert (point >= np.maximum(0.0, x - eps)).all()
    assert (point <= np.minimum(1.0, x + eps)).all()
    assert margin_at(net, found[None], label)[0] <= 0
