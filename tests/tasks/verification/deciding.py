"""The engine's verdict on one image, from all of its stages: tests go through here."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tasks.verification.counterexamples import subject_of
from tasks.verification.screen import Attack, screen_group
from tasks.verification.solve import Question, solve_one


def verdict_of(net: nn.Module, image: Tensor, label: int, eps: float) -> str:
    """What the screen and the solve say of a float32 image (...), which must not differ.

    A counterexample must be in the ball and of another class, or tie, in float64.
    """
    torch.manual_seed(0)
    subject = subject_of(net, tuple(image.shape))
    labels = torch.tensor([label])
    screened = screen_group(subject, image[None], labels, eps, Attack(10, 2))
    row, found = solve_one(Question(subject, image[None], labels, eps), "gscip", 60.0)
    assert screened.rows[0].verdict in (row.verdict, "unknown"), (screened.rows[0], row)
    for counterexample in (*screened.counterexamples.values(), found):
        if counterexample is not None:
            _confirm(net, image, label, eps, counterexample)
    assert (found is None) == (row.verdict != "falsified")
    return row.verdict


def lower_bound_of(net: nn.Module, image: Tensor, label: int, eps: float) -> float:
    """The screen's lower bound on the smallest margin in the ball."""
    subject = subject_of(net, tuple(image.shape))
    rows = screen_group(subject, image[None], torch.tensor([label]), eps, Attack(0, 1)).rows
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
