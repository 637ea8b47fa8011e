"""The trees of a certificate, by halving inputs: where few of them are free."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from robsweep.tasks.certificates.certificate import Claim, Leaf, Node, Split
from robsweep.tasks.certificates.network import Disjunct, Question
from robsweep.tasks.certificates.passes import Choice, Known, Passes
from robsweep.tasks.verification.proofs.branching import ENOUGH, NotShownError
from robsweep.tasks.verification.proofs.relaxation import Relaxation, Variables

_DEEPEST = 120  # splits above a leaf


def best_rows(passes: Passes, known: Known, unsafe: Sequence[Disjunct]) -> list[tuple[int, float]]:
    """Of each disjunct, the row that is furthest off, and its bound with the first slopes."""
    last = len(passes.network.layers)
    rows = np.concatenate([one.weight for one in unsafe])
    bias = np.concatenate([one.bias for one in unsafe])
    lower = passes.lowest(known, last, rows, bias, Choice())
    found, first = [], 0
    for one in unsafe:
        here = lower[first : first + len(one.bias)]
        found.append((int(here.argmax()), float(here.max())))
        first += len(one.bias)
    return found


def plain_leaves(
    passes: Passes, known: Known, unsafe: Sequence[Disjunct]
) -> tuple[Node, ...] | None:
    """A leaf for each disjunct, if the first slopes close them all."""
    best = best_rows(passes, known, unsafe)
    if all(bound > ENOUGH for _, bound in best):
        return tuple(Node(Leaf(row)) for row, _ in best)
    return None


class Boxes:
    """Halves the box of one disjunct after the other, each part bounded anew."""

    def __init__(self, passes: Passes, question: Question) -> None:
        self.passes, self.question = passes, question
        self.claims = tuple(Claim(value) for value in passes.network.bent() if value)

    def found(self, until: float) -> tuple[Node, ...]:
        """All trees.

        Args:
            until: On the monotonic clock.

        Raises:
            NotShownError: Time is over.
        """
        box = self.question.lower, self.question.upper
        return tuple(self._node(one, *box, 0, until) for one in self.question.unsafe)

    def _node(
        self, unsafe: Disjunct, lower: np.ndarray, upper: np.ndarray, depth: int, until: float
    ) -> Node:
        if time.monotonic() > until or depth > _DEEPEST:
            raise NotShownError("its time was over while inputs were split")
        known = self.passes.start(lower, upper)
        bounded(self.passes, known, self.claims)
        ((row, bound),) = best_rows(self.passes, known, (unsafe,))
        if bound > ENOUGH:
            return Node(Leaf(row), self.claims)
        unit = self._widest(known, unsafe, row)
        at = float((lower[unit] + upper[unit]) / 2)
        below, above = upper.copy(), lower.copy()
        below[unit] = above[unit] = at
        first = self._node(unsafe, lower, below, depth + 1, until)
        second = self._node(unsafe, above, upper, depth + 1, until)
        return Node(Split("input", 0, unit, at, (first, second)))

    def _widest(self, known: Known, unsafe: Disjunct, row: int) -> int:
        """The input over which the bound's linear form varies most."""
        relaxation = Relaxation(self.passes.network, known, torch.float64)
        rows = torch.from_numpy(unsafe.weight[row : row + 1])
        bias = torch.from_numpy(unsafe.bias[row : row + 1])
        plain = Variables({}, {})
        found = relaxation.lowest(rows, bias, relaxation.bounds, relaxation.box, plain, {})
        width = known.upper[0] - known.lower[0]
        return int(np.argmax(np.abs(found.forms[0][0].numpy()) * width))


def bounded(passes: Passes, known: Known, claims: Sequence[Claim]) -> None:
    """Bounds what is undecided, as whoever checks does for a claim without bounds."""
    for claim in claims:
        passes.bound(known, claim.value)
        passes.forward(known, claim.value)
