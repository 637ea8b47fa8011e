"""Splitting the input: a box is halved until bounds decide each part, for few inputs.

A part's bounds say more than whether it is proved: where a form on the inputs that lies below the
margin is above 0, nothing is unsafe, so the part is cut down to the rest before it is halved.

Source: Bunel et al. 2020, section 5 (branching on the input); the cut as in clipped domains.
"""

import heapq
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.boxes import Boxes
from robsweep.tasks.verification.bounds.chains import Chain
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED, Property, margin
from robsweep.tasks.verification.search.clipping import Asked, clipped

_AT_ONCE = {"cpu": 512, "cuda": 16384}  # boxes in one batch
_WIDTH = {"cpu": 2**22, "cuda": 2**27}  # numbers in the forms on a layer's units of all of them
_STEPS = 5  # of the ascent on slopes
_SMALLEST = 2.0**-24  # of the root's width: such a box is no longer halved
_GROUP = 64  # boxes that stand in the queue as one
_ROOM = 2**26  # numbers in the queue, before the search goes deeper first


class _Open(NamedTuple):
    """B boxes that are still open, each to be halved."""

    box: Bounds  # (B, inputs)
    lower: Tensor  # (B, D), on the margin of each disjunct
    split: Tensor  # (B,) int64: the input to halve
    within: list[Bounds]  # on what enters each ReLU, (B, units) each

    def rows(self, index: Tensor) -> "_Open":
        within = [bounds.rows(index) for bounds in self.within]
        return _Open(self.box.rows(index), self.lower[index], self.split[index], within)


class Splitting:
    """One sample's search, which can be interrupted and gone on with."""

    def __init__(
        self, chain: Chain, box: Bounds, unsafe: Property, known: Mapping[int, float]
    ) -> None:
        """Nothing is bounded yet.

        Args:
            box: (1, *shape).
            known: The disjuncts to prove, with lower bounds on their margins.
        """
        self.chain, self.unsafe = chain, unsafe
        self.root = Bounds(*(end.flatten(1) for end in box))
        self.width = self.root.upper - self.root.lower
        self.free = self.width[0].nonzero()[:, 0]
        self.asked = Asked.of(unsafe, [*known])
        self.known = dict(known)
        self.heap: list[tuple[float, int, _Open]] = []
        self.stuck: list[Tensor] = []  # the bounds (D,) of boxes that cannot be halved
        self.begun = False
        self.boxes = 0
        self.seconds = 0.0  # that it has taken
        self.closed = 0.0  # of the root's volume, which share is decided
        self.numbers = 0  # in the queue

    def run(self, until: float, most: float, is_counterexample: Callable[[Tensor], bool]) -> None:
        """Halves boxes until all are decided, a counterexample is found or a limit is reached.

        Args:
            until: On the monotonic clock.
            most: Boxes, from the first one on.
            is_counterexample: Judges points (1, *shape) whose margin is <= 0 here.
        """
        started, before = time.monotonic(), self.seconds
        while self.heap or not self.begun:
            box, lower, within = self._next()
            self.begun = True
            found, point = self._decided(box, lower, within)
            self.seconds = before + time.monotonic() - started
            if found <= 0 and is_counterexample(point):
                break
            if time.monotonic() >= until or self.boxes >= most:
                break

    def forget(self, proved: Collection[int]) -> None:
        """Gives up disjuncts that have been proved otherwise."""
        where = [i for i, disjunct in enumerate(self.known) if disjunct in proved]
        kept: list[tuple[float, int, _Open]] = []
        self.numbers = 0
        for _, order, group in self.heap:
            group.lower[:, where] = torch.inf
            left = (group.lower <= BOUNDARY).any(1).nonzero()[:, 0]
            self.closed += float(self._volumes(group.box).sum())
            if len(left):
                self.closed -= float(self._volumes(group.box.rows(left)).sum())
                self._push(group.rows(left), order, kept)
        self.heap = kept
        heapq.heapify(self.heap)
        for one in self.stuck:
            one[where] = torch.inf
        self.stuck = [one for one in self.stuck if bool((one <= BOUNDARY).any())]

    def lower(self) -> dict[int, float]:
        """Disjunct -> lower bound on its margin."""
        if not self.begun:
            return dict(self.known)
        rows = [*(group.lower.amin(0) for _, _, group in self.heap), *self.stuck]
        least = torch.stack(rows).amin(0).tolist() if rows else [PROVED] * len(self.known)
        both = zip(self.known.items(), least, strict=True)
        return {d: max(before, min(low, PROVED)) for (d, before), low in both}

    def open_share(self) -> float:
        """Of the root's volume, as `closed`."""
        return math.fsum(float(self._volumes(group.box).sum()) for _, _, group in self.heap)

    def _next(self) -> tuple[Bounds, Tensor, list[Bounds] | None]:
        """Boxes to bound next, their parents' bounds on margins and on what enters each ReLU."""
        if not self.begun:
            known = [*self.known.values()]
            return self.root, self.root.lower.new_tensor([known]), None
        units = max(len(piece.bias) for piece in self.chain.pieces)
        per = units * max(1, len(self.free)) * len(self.known)
        most = _WIDTH[self.width.device.type] // per
        most = min(max(8, most), _AT_ONCE[self.width.device.type])
        groups: list[_Open] = []
        while self.heap and 2 * sum(len(group.split) for group in groups) < most:
            # the end of a heap holds high bounds: taking those saves room
            few = self.numbers < _ROOM
            group = (heapq.heappop(self.heap) if few else self.heap.pop())[2]
            self.numbers -= self._size(group)
            groups.append(group)
        return _halves(groups)

    def _decided(
        self, box: Bounds, lower: Tensor, within: list[Bounds] | None
    ) -> tuple[float, Tensor]:
        """Bounds boxes and puts what is left of them into the queue; the best point, its margin."""
        asked, count = self.asked, len(lower)
        boxes = Boxes(self.chain, box, self.free, within)
        self.boxes += count
        forms, disjuncts = len(asked.bias), lower.shape[1]
        owner = torch.arange(count, device=lower.device)
        every = asked.weight.repeat(count, 1)
        found = boxes.forms(every, owner.repeat_interleave(forms))
        least = found.lower.reshape(count, -1) + asked.bias
        slopes = found.slopes.reshape(count, forms, -1)
        best = asked.best_rows(least)
        lower = torch.maximum(lower, least.gather(1, best))
        rows = [(least[:, column], slopes[:, column]) for column in asked.slots.T]
        own, disjunct = (lower <= BOUNDARY).nonzero().unbind(1)
        gains = self.width.new_zeros(count, len(self.free))
        lowest = slopes[:, 0].clone()
        if len(own):
            row = best[own, disjunct]
            risen = boxes.forms(asked.weight[row], own, _STEPS)
            slope = slopes.new_zeros(count, disjuncts, slopes.shape[2])
            slope[own, disjunct] = risen.slopes
            least = torch.full_like(lower, -torch.inf)
            least[own, disjunct] = risen.lower + asked.bias[row]
            lower = torch.maximum(lower, least)
            rows.insert(0, (least, slope))
            gains.index_add_(0, own, risen.gains)
            lowest = slope[owner, least.masked_fill(least == -torch.inf, torch.inf).argmin(1)]
        lower, cut = clipped(box, lower, rows)
        left = (lower <= BOUNDARY).any(1)
        kept = left.nonzero()[:, 0]
        self.closed += float(self._volumes(box).sum() - self._volumes(cut.rows(kept)).sum())
        if not len(kept):
            return math.inf, box.lower[:1]
        whole, box, lower = box.rows(kept), cut.rows(kept), lower[kept]
        split = self._inputs(whole, box, gains[kept])
        some = _Open(box, lower, split, [bounds.rows(kept) for bounds in boxes.bounds])
        able = split >= 0
        self.stuck += list(lower[~able])
        order = some.lower.amin(1).argsort()
        for piece in torch.split(order[able[order]], _GROUP):
            if len(piece):  # of nothing, there is one empty piece
                self._push(some.rows(piece), self.boxes, self.heap)
        return self._best_point(box, lowest[kept])

    def _push(self, group: _Open, order: int, heap: list[tuple[float, int, _Open]]) -> None:
        self.numbers += self._size(group)
        heapq.heappush(heap, (float(group.lower.min()), order * _GROUP + len(heap), group))

    def _size(self, group: _Open) -> int:
        units = sum(2 * bounds.lower[0].numel() for bounds in group.within)
        return len(group.split) * (2 * self.width.numel() + units)

    def _volumes(self, box: Bounds) -> Tensor:
        shares = (box.upper - box.lower)[:, self.free] / self.width[:, self.free]
        return shares.prod(1)

    def _inputs(self, before: Bounds, box: Bounds, gains: Tensor) -> Tensor:
        """Which input to halve: the one with most to gain, (B,); -1 where none can be halved."""
        lower, upper = (end[:, self.free] for end in box)
        was = (before.upper - before.lower)[:, self.free].clamp(min=1e-300)
        gains = gains * (upper - lower) / was
        wide = (upper - lower) / self.width[:, self.free]
        gains = gains + 1e-6 * wide * (1e-30 + gains.amax(1, keepdim=True))
        middle = (lower + upper) / 2
        can = (middle > lower) & (middle < upper) & (wide.amax(1, keepdim=True) > _SMALLEST)
        gains = torch.where(can, gains, -1)
        if not len(self.free):
            return torch.full((len(gains),), -1, device=gains.device)
        best, place = gains.nan_to_num(0.0, 1e300).max(1)
        return torch.where(best >= 0, self.free[place], -1)

    def _best_point(self, box: Bounds, form: Tensor) -> tuple[float, Tensor]:
        """Of the middles, and of where the forms are lowest, by its margin: (1, *shape)."""
        corners = torch.where(form > 0, *box)
        points = torch.cat([(box.lower + box.upper) / 2, corners])
        points = points.reshape(-1, *self.chain.network.shapes[0])
        unsafe = Property(*(part.expand(len(points), *part.shape[1:]) for part in self.unsafe))
        with torch.no_grad():
            outputs = evaluate(self.chain.network, points)[-1]
        margins = margin(unsafe, outputs).nan_to_num(torch.inf)
        best = margins.argmin()
        return margins[best].item(), points[best : best + 1]


def _halves(groups: list[_Open]) -> tuple[Bounds, Tensor, list[Bounds]]:
    """Both halves of each box, which share the face between them."""
    lower, upper = (torch.cat([group.box[i] for group in groups]) for i in (0, 1))
    split = torch.cat([group.split for group in groups])[:, None]
    middle = (lower.gather(1, split) + upper.gather(1, split)) / 2
    box = Bounds(
        torch.cat([lower, lower.scatter(1, split, middle)]),
        torch.cat([upper.scatter(1, split, middle), upper]),
    )
    within = [
        Bounds(*(torch.cat([torch.cat(list(ends))] * 2) for ends in zip(*layer, strict=True)))
        for layer in zip(*(group.within for group in groups), strict=True)
    ]
    return box, torch.cat([torch.cat([group.lower for group in groups])] * 2), within
