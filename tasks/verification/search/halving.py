"""Splitting the few parameters of a network that is no small chain: CROWN on batches of boxes.

As `splitting`, for any network; a box of weights is narrowed to what their sum of 1 leaves of it.

Source: Bunel et al. 2020, section 5 (branching on the input).
"""

import heapq
import time
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_crown
from robsweep.tasks.verification.bounds.support import lowest
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED, Property, margin
from robsweep.tasks.verification.reading.within import Simplex

_AT_ONCE = {"cpu": 8, "cuda": 256}  # boxes in one batch
_SMALLEST = 2.0**-20  # of the root's width: such a box is no longer halved
# the lowest bound, what it is of, the box's share of the root, and bounds on all disjuncts
_Open = tuple[float, int, Bounds, float, Tensor]


class Halving:
    """One sample's search, which can be interrupted and gone on with; as `Splitting`."""

    def __init__(
        self, network: Network, box: Bounds, unsafe: Property, known: Mapping[int, float]
    ) -> None:
        """Nothing is bounded yet.

        Args:
            box: (1, *shape).
            known: The disjuncts to prove, with lower bounds on their margins.
        """
        self.network, self.unsafe, self.known = network, unsafe, dict(known)
        self.width = box.upper - box.lower
        self.free = self.width.flatten().nonzero()[:, 0]
        least = torch.tensor([*known.values()], dtype=torch.float64, device=box.lower.device)
        self.heap: list[_Open] = [(min(known.values(), default=PROVED), 0, box, 1.0, least)]
        self.stuck: list[Tensor] = []
        self.boxes = 0
        self.seconds = 0.0
        self.closed = 0.0  # of the root, which share is decided

    def run(self, until: float, most: float, is_counterexample: Callable[[Tensor], bool]) -> None:
        """As `Splitting.run`."""
        started, before = time.monotonic(), self.seconds
        while self.heap:
            count = min(len(self.heap), _AT_ONCE[self.width.device.type] // 2)
            found, point = self._halved([heapq.heappop(self.heap) for _ in range(count)])
            self.seconds = before + time.monotonic() - started
            if found <= 0 and is_counterexample(point):
                break
            if time.monotonic() >= until or self.boxes >= most:
                break

    def forget(self, proved: Collection[int]) -> None:
        """Gives up disjuncts that have been proved otherwise."""
        where = [i for i, disjunct in enumerate(self.known) if disjunct in proved]
        kept: list[_Open] = []
        for _, order, box, share, least in self.heap:
            least[where] = torch.inf
            if bool((least <= BOUNDARY).any()):
                kept.append((float(least.min()), order, box, share, least))
            else:
                self.closed += share
        heapq.heapify(kept)
        self.heap = kept
        for one in self.stuck:
            one[where] = torch.inf
        self.stuck = [one for one in self.stuck if bool((one <= BOUNDARY).any())]

    def lower(self) -> dict[int, float]:
        """Disjunct -> lower bound on its margin."""
        rows = [*(least for *_, least in self.heap), *self.stuck]
        lowest_ones = torch.stack(rows).amin(0).tolist() if rows else [PROVED] * len(self.known)
        both = zip(self.known.items(), lowest_ones, strict=True)
        return {d: max(before, min(low, PROVED)) for (d, before), low in both}

    def _halved(self, places: list[_Open]) -> tuple[float, Tensor]:
        """Halves boxes and bounds the halves; the best of their middles, and its margin."""
        halves: list[tuple[Bounds, float, Tensor]] = []
        for _, _, box, share, least in places:
            sizes = torch.where(self.width > 0, (box.upper - box.lower) / self.width, 0).flatten()
            widest = int(sizes.argmax())
            if sizes[widest] < _SMALLEST:
                self.stuck.append(least)
                continue
            for half in _at_the_middle(box, widest):
                inner = _narrowed(half) if isinstance(self.network.within, Simplex) else half
                if inner is None:
                    self.closed += share / 2
                else:
                    halves.append((inner, share / 2, least))
        if not halves:
            return torch.inf, self.width
        boxes = Bounds(*(torch.cat(ends) for ends in zip(*(h[0] for h in halves), strict=True)))
        some = [*self.known]
        unsafe = Property(self.unsafe.weight[:, some], self.unsafe.bias[:, some])
        unsafe = unsafe.rows([0] * len(halves))
        found = by_crown(self.network, boxes, unsafe).margins.lower
        for i, (box, share, least) in enumerate(halves):
            self.boxes += 1
            lower = torch.maximum(least, found[i])
            if bool((lower <= BOUNDARY).any()):
                place = (float(lower.min()), self.boxes, box, share, lower)
                heapq.heappush(self.heap, place)
            else:
                self.closed += share
        return self._best_middle(boxes)

    def _best_middle(self, boxes: Bounds) -> tuple[float, Tensor]:
        points = (boxes.lower + boxes.upper) / 2
        if isinstance(self.network.within, Simplex):
            # of sum 1: the point of the box furthest along its own middle
            points = lowest(self.network.within, -points, (boxes.lower, boxes.upper))
        unsafe = self.unsafe.rows([0] * len(points))
        outputs = evaluate(self.network, points)[-1]
        margins = margin(unsafe, outputs).nan_to_num(torch.inf)
        best = margins.argmin()
        return margins[best].item(), points[best : best + 1]


def _at_the_middle(box: Bounds, place: int) -> tuple[Bounds, Bounds]:
    """Both halves of a box, which share the face between them."""
    low, high = box.lower.flatten().clone(), box.upper.flatten().clone()
    high[place] = low[place] = (low[place] + high[place]) / 2
    shape = box.lower.shape
    return Bounds(box.lower, high.reshape(shape)), Bounds(low.reshape(shape), box.upper)


def _narrowed(box: Bounds) -> Bounds | None:
    """What a sum of 1 leaves of a box of weights; None for nothing. Rounding leaves it larger."""
    slack = 1e-12
    most = 1 - (box.lower.sum() - box.lower) + slack
    least = 1 - (box.upper.sum() - box.upper) - slack
    lower, upper = torch.maximum(box.lower, least), torch.minimum(box.upper, most)
    return None if bool((lower > upper).any()) else Bounds(lower, upper)
