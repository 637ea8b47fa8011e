"""The trees of a certificate, by splitting ReLUs: depth first, many parts at once.

Source: Wang et al. 2021 (beta-CROWN), section 3; the choice of the ReLU after Bunel et al. 2020
(BaBSR), section 4.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.certificates.certificate import STEPS, Leaf, Node, Slopes, Split
from robsweep.tasks.certificates.network import Disjunct, Network
from robsweep.tasks.certificates.passes import Known
from robsweep.tasks.verification.proofs.relaxation import Ends, Relaxation, Variables, ascended

ENOUGH = 1e-6  # a bound that the checker's arithmetic, too, finds above 0
_ROOT_STEPS, _STEPS, _LAST_STEPS = 30, 8, 150
_RATE = 0.25
_ROOM = 2**20  # numbers in one value of all parts that are bounded at once
_DIGITS = 10  # binary ones of a multiplier
_DEEPEST = 200  # splits above a leaf


class NotShownError(Exception):
    """Why there is no certificate."""


@dataclass(frozen=True)
class _Sign:
    value: int
    unit: int  # of those that the relaxation keeps
    sign: int


@dataclass(frozen=True, eq=False)
class _Part:
    disjunct: int
    row: int
    path: tuple[_Sign, ...]
    slopes: dict[int, Tensor]  # (n,) float32
    multipliers: tuple[float, ...]  # as in the path


class Trees:
    """One disjunct's tree after the other, as far as they are found."""

    def __init__(self, network: Network, known: Known, unsafe: Sequence[Disjunct]) -> None:
        self.unsafe = unsafe
        self.fast = Relaxation(network, known, torch.float32)
        self.exact = Relaxation(network, known, torch.float64)
        self.leaves: dict[tuple[int, tuple[_Sign, ...]], Leaf] = {}
        self.splits: dict[tuple[int, tuple[_Sign, ...]], tuple[int, int]] = {}
        self.scale: dict[int, Tensor] = {}
        self.widest = max(map(len, self.fast.kept))

    def found(self, until: float) -> tuple[Node, ...]:
        """All trees.

        Args:
            until: On the monotonic clock.

        Raises:
            NotShownError: Time is over, or a part without undecided ReLUs is left open.
        """
        open_ones, steps = self._roots(), _ROOT_STEPS
        while open_ones:
            if time.monotonic() > until:
                raise NotShownError(f"its time was over with {len(open_ones)} open parts")
            some = open_ones[-self._at_once(open_ones) :]
            del open_ones[-len(some) :]
            open_ones += self._bounded(some, steps)
            steps = _STEPS
        return tuple(self._tree(d, ()) for d in range(len(self.unsafe)))

    def _at_once(self, open_ones: list[_Part]) -> int:
        return max(1, min(128, _ROOM // self.widest))

    def _roots(self) -> list[_Part]:
        """Closes what the first slopes close; else each disjunct's best row."""
        rows = torch.from_numpy(np.concatenate([one.weight for one in self.unsafe]))
        bias = torch.from_numpy(np.concatenate([one.bias for one in self.unsafe]))
        plain = Variables({}, {})
        found = self.exact.lowest(rows, bias, self.exact.bounds, self.exact.box, plain, {})
        first, roots = 0, []
        slopes = {k: one[0] for k, one in self.fast.first(self.fast.bounds).items()}
        asked = []
        for d, one in enumerate(self.unsafe):
            here = found.lower[first : first + len(one.bias)]
            row = int(here.argmax())
            asked.append(first + row)
            first += len(one.bias)
            if here[row] > ENOUGH:
                self.leaves[d, ()] = Leaf(row)
            else:
                roots.append(_Part(d, row, (), slopes, ()))
        for k in self.fast.passed:
            size = found.forms[k][asked].abs().mean(0)
            self.scale[k] = size.clamp(1e-9, 1e9).float()
        return roots

    def _bounded(self, some: list[_Part], steps: int) -> list[_Part]:
        """What is still open of some parts, halved; the rest become leaves."""
        index = [(part.disjunct, part.row) for part in some]
        rows = torch.from_numpy(np.stack([self.unsafe[d].weight[row] for d, row in index]))
        bias = torch.tensor([self.unsafe[d].bias[row] for d, row in index], dtype=torch.float64)
        signs = self._signs(some)
        fast, exact = (self._within(one, some) for one in (self.fast, self.exact))
        start = Variables(
            {k: torch.stack([part.slopes[k] for part in some]) for k in self.fast.passed},
            {k: self._spread(some, k) for k in signs},
        )
        found = ascended(
            self.fast, rows.float(), bias.float(), fast, start, signs, self.scale, steps, _RATE
        )
        found = _rounded(found)
        double = Variables(*({k: v.double() for k, v in one.items()} for one in found))
        turned = {k: one.double() for k, one in signs.items()}
        low = self.exact.lowest(rows, bias, exact, self.exact.box, double, turned)
        further = []
        choice = self._next(exact, low.forms, signs)
        for i, part in enumerate(some):
            multipliers = tuple(
                float(found.multipliers[one.value][i, one.unit]) for one in part.path
            )
            slopes = {k: one[i] for k, one in found.slopes.items()}
            after = replace(part, slopes=slopes, multipliers=multipliers)
            if low.lower[i] > ENOUGH:
                self.leaves[part.disjunct, part.path] = self._leaf(after, exact, i)
            elif choice[i] is None and steps < _LAST_STEPS:
                further += self._bounded([after], _LAST_STEPS)
            elif (split := choice[i]) is None or len(part.path) >= _DEEPEST:
                least = float(low.lower[i])
                raise NotShownError(f"a part with all ReLUs split has the bound {least:.3g}")
            else:
                self.splits[part.disjunct, part.path] = split
                for sign in (1, -1):
                    path = (*part.path, _Sign(*split, sign))
                    further.append(replace(after, path=path, multipliers=(*multipliers, 0.0)))
        return further

    def _signs(self, some: list[_Part]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        for i, part in enumerate(some):
            for one in part.path:
                if one.value not in found:
                    found[one.value] = torch.zeros(len(some), len(self.fast.kept[one.value]))
                found[one.value][i, one.unit] = one.sign
        return found

    def _spread(self, some: list[_Part], value: int) -> Tensor:
        found = torch.zeros(len(some), len(self.fast.kept[value]))
        for i, part in enumerate(some):
            for one, multiplier in zip(part.path, part.multipliers, strict=True):
                if one.value == value:
                    found[i, one.unit] = multiplier
        return found

    def _within(self, relaxation: Relaxation, some: list[_Part]) -> dict[int, Ends]:
        """Bounds over the whole box, cut at 0 for the ReLUs that are split."""
        found = dict(relaxation.bounds)
        for k in {one.value for part in some for one in part.path}:
            low, high = found[k]
            found[k] = low.repeat(len(some), 1), high.repeat(len(some), 1)
        for i, part in enumerate(some):
            for one in part.path:
                low, high = found[one.value]
                if one.sign > 0:
                    low[i, one.unit] = low[i, one.unit].clamp(min=0)
                else:
                    high[i, one.unit] = high[i, one.unit].clamp(max=0)
        return found

    def _next(
        self, bounds: dict[int, Ends], forms: dict[int, Tensor], signs: dict[int, Tensor]
    ) -> list[tuple[int, int] | None]:
        """The undecided ReLU whose line above costs each part's bound most."""
        values = list(self.fast.passed)
        scores = []
        for k in values:
            low, high = bounds[k]
            undecided = (low < 0) & (high > 0) & ~self.exact.passed[k]
            gap = -low * high / (high - low).clamp(min=1e-300)
            form = forms[k]
            # the line below costs less, as its slope is free
            score = torch.where(form < 0, -form, 0.01 * form) * gap
            scores.append(torch.where(undecided, score, -1.0))
        best, place = torch.cat(scores, 1).nan_to_num(0.0).max(1)
        starts = np.cumsum([0, *(one.shape[1] for one in scores)])
        found: list[tuple[int, int] | None] = []
        for score, at in zip(best.tolist(), place.tolist(), strict=True):
            which = int(np.searchsorted(starts, at, side="right")) - 1
            found.append((values[which], at - int(starts[which])) if score >= 0 else None)
        return found

    def _leaf(self, part: _Part, bounds: dict[int, Ends], i: int) -> Leaf:
        """With the slopes that are not those that a certificate need not name."""
        slopes = []
        for k in self.fast.passed:
            low, high = (end[i if len(end) > 1 else 0] for end in bounds[k])
            plain = (high > -low).float()
            units = ((low < 0) & (high > 0) & (part.slopes[k] != plain)).nonzero()[:, 0]
            if len(units):
                parts = (part.slopes[k][units] * STEPS).round().int().tolist()
                names = self.fast.kept[k][units.numpy()].tolist()
                slopes.append(Slopes(k, tuple(names), tuple(parts)))
        return Leaf(part.row, tuple(slopes), part.multipliers)

    def _tree(self, disjunct: int, path: tuple[_Sign, ...]) -> Node:
        if (leaf := self.leaves.get((disjunct, path))) is not None:
            return Node(leaf)
        value, unit = self.splits[disjunct, path]
        first, second = (self._tree(disjunct, (*path, _Sign(value, unit, s))) for s in (1, -1))
        return Node(Split("relu", value, int(self.fast.kept[value][unit]), 0.0, (first, second)))


def _rounded(found: Variables) -> Variables:
    """To the few digits that a certificate has."""
    multipliers = {}
    for k, one in found.multipliers.items():
        mantissa, exponent = torch.frexp(one)
        short = (mantissa * 2**_DIGITS).round() / 2**_DIGITS
        multipliers[k] = torch.ldexp(short, exponent)
    return Variables({k: (v * STEPS).round() / STEPS for k, v in found.slopes.items()}, multipliers)
