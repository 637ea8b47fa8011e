"""A MILP built layer by layer, each bounded over those before it: MIPVerify's recipe.

Intervals first; then two linear programs for each ReLU that these leave undecided, the second only
where the first has not decided it; then the big-M rows, and on to the next layer. What a ReLU that
is always on returns is its input, not a variable of its own. The property is about the largest of
the logits that may win, which two linear programs each have bounded.

What differs from MIPVerify.jl: what float32 may add to a value widens its rows and bounds, and only
those inputs of a max pooling are bounded that intervals leave in the running. Bounds by linear
programs are certified from their duals, as there.

Source: Tjeng et al. 2019, sections 4.1 and 4.2; MIPVerify.jl, `core_ops.jl`.
"""

from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.rounding import added
from robsweep.tasks.verification.optimise.child import Child
from robsweep.tasks.verification.optimise.milp import (
    ABOVE,
    Array,
    Building,
    Forms,
    Milp,
    max_pooled,
    moved,
    numbers,
    restrict,
    room_for,
    spread,
)
from robsweep.tasks.verification.optimise.solver import (
    LATE,
    Deadline,
    form_arrays,
    program_arrays,
)
from robsweep.tasks.verification.optimise.tightening import contending
from robsweep.tasks.verification.reading.layers import (
    Affine,
    MaxPool,
    Network,
    Relu,
    Sum,
    weighted,
)
from robsweep.tasks.verification.reading.properties import Property

LP_COMMAND = ("-P", "-m", "robsweep.tasks.verification.optimise.highs_process")
_ROUNDING = 1e-11  # as in `intervals`
_Ids = NDArray[np.int64]


class Counts(NamedTuple):
    """What the recipe took."""

    lp_calls: int = 0
    interval_unstable: int = 0  # ReLUs that intervals leave undecided, over tightened layers
    unstable: int = 0  # ReLUs that are undecided in the program


class Wins(NamedTuple):
    """A question: can all the others' logits be at most the largest target's, less `least`?"""

    targets: _Ids
    others: _Ids
    least: float


class Posed(NamedTuple):
    """The question as a program whose logits are those of the others, and the largest target's."""

    milp: Milp
    unsafe: Property
    counts: Counts


class Effort(NamedTuple):
    """What may be spent on bounds."""

    child: Child  # of `LP_COMMAND`
    deadline: Deadline
    by_lp: bool = True  # or by intervals alone


class OverflowedError(ArithmeticError):
    """A value may overflow in float32."""


def wins_of(unsafe: Property) -> Wins:
    """One sample's property, as a question about which class wins.

    Raises:
        InputError: It is none.
    """
    weight, bias = (part[0].cpu().numpy() for part in unsafe)
    rows, shifts = weight[np.isfinite(bias)], bias[np.isfinite(bias)]
    one, other = rows.argmax(1), rows.argmin(1)
    eye = np.eye(weight.shape[2])
    if not len(rows) or not np.array_equal(rows, eye[one] - eye[other]) or np.ptp(shifts):
        raise InputError("verifier mipverify asks which class wins, and nothing else")
    targets = np.unique(other)
    return Wins(targets, np.setdiff1d(one, targets), float(shifts[0]))


def posed(network: Network, box: Bounds, wins: Wins, effort: Effort) -> Posed:
    """The program of one sample.

    Args:
        box: (1, *shape).

    Raises:
        OverflowedError, SolverDiedError, SolverLateError
    """
    progress = _Progress(network, effort)
    logits = progress.through(box)
    largest = progress.largest(logits.take(wins.targets))
    both = [logits.take(wins.others), largest]
    build, count = progress.build, len(wins.others) + 1
    rows = torch.eye(count, dtype=torch.float64)[:-1]
    rows[:, -1] = -1
    unsafe = Property(rows[None, None], torch.full((1, 1, count - 1), wins.least).double())
    milp = build.finished(
        Forms(
            sparse.vstack([one.matrix for one in both], format="csr"),
            np.concatenate([one.offset for one in both]),
            np.concatenate([one.slack for one in both]),
        ),
        box.lower.numel(),
    )
    return Posed(milp, unsafe, progress.counts)


class _Progress:
    def __init__(self, network: Network, effort: Effort) -> None:
        self.network, self.effort = network, effort
        self.build = Building(room_for(network) + 1 + network.shapes[-1][0])
        self.counts = Counts()

    def through(self, box: Bounds) -> Forms:
        """The logits, once all that they depend on is in the program."""
        network, build = self.network, self.build
        pixels = build.variables(*(numbers(end[0].flatten()) for end in box))
        if network.within is not None:  # of an l2 ball, what of it is linear
            restrict(build, pixels, network.within, Bounds(*(end[0] for end in box)))
        values = [build.chosen(pixels)]
        bounds, bent = [box], False
        for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
            here, forms = bounds[read[0]], values[read[0]]
            if isinstance(layer, Relu):
                forms = self._relu(forms, here, by_lp=bent)
            elif isinstance(layer, MaxPool):
                forms = self._max_pool(layer, forms, here, by_lp=bent)
            else:
                forms = moved(layer, network.shapes[read[0]], [values[v] for v in read])
                slack = self._slack(k, [values[v] for v in read], [bounds[v] for v in read])
                forms = forms._replace(slack=forms.slack + slack)
            bent = bent or isinstance(layer, Relu | MaxPool)
            values.append(forms)
            lower, upper = (
                torch.from_numpy(end).reshape(1, *network.shapes[k + 1])
                for end in self._interval(forms)
            )
            bounds.append(Bounds(lower, upper))
        return values[-1]

    def largest(self, logits: Forms) -> Forms:
        """Their maximum, in which those stay that may be it."""
        if len(logits.offset) == 1:
            return logits
        build = self.build
        lower, upper = self._by_lp(logits, enough=-np.inf)
        best = int(lower.argmax())
        kept = np.flatnonzero((upper > lower[best]) | (np.arange(upper.size) == best))
        x, low, high = logits.take(kept), lower[kept], upper[kept]
        if kept.size == 1:
            return x
        y = np.repeat(build.variables(low.max(keepdims=True), high.max(keepdims=True)), kept.size)
        chosen = build.binaries(kept.size)
        others = np.array([np.delete(high, i).max() for i in range(kept.size)])
        big = others - low
        build.at_most(x.matrix - build.terms(y), x.slack - x.offset)
        build.at_most(
            build.terms(y) - x.matrix + build.terms(chosen, big), big + x.offset + x.slack
        )
        ones = sparse.csr_array(np.ones((1, kept.size)))
        build.equal(ones @ build.terms(chosen), np.ones(1))
        return build.chosen(y[:1])

    def _relu(self, forms: Forms, box: Bounds, *, by_lp: bool) -> Forms:
        build = self.build
        lower, upper = (numbers(end[0].flatten()).copy() for end in box)
        open_ones = np.flatnonzero((lower < 0) & (upper > 0))
        if by_lp:
            lower[open_ones], upper[open_ones] = self._by_lp(forms.take(open_ones), enough=0.0)
        split = np.flatnonzero((lower < 0) & (upper > 0))
        self.counts = self.counts._replace(
            interval_unstable=self.counts.interval_unstable + open_ones.size,
            unstable=self.counts.unstable + split.size,
        )
        x, low, high = forms.take(split), lower[split], upper[split]
        y, on = build.variables(np.zeros(split.size), high), build.binaries(split.size)
        after = build.terms(y)
        build.at_most(x.matrix - after, x.slack - x.offset)
        build.at_most(after - x.matrix - build.terms(on, low), x.offset + x.slack - low)
        build.at_most(after - build.terms(on, high), np.zeros(split.size))
        stays = ((lower >= 0) & (upper > 0)).astype(float)
        kept = sparse.diags_array(stays, format="csr")
        fresh = spread(build, lower.size, split, y)
        return Forms(fresh.matrix + kept @ forms.matrix, kept @ forms.offset, kept @ forms.slack)

    def _max_pool(self, layer: MaxPool, forms: Forms, box: Bounds, *, by_lp: bool) -> Forms:
        lower, upper = (end.clone() for end in box)
        open_ones = contending(layer, box).flatten().nonzero()[:, 0]
        if by_lp:
            found = self._by_lp(forms.take(open_ones.numpy()), enough=-np.inf)
            lower.view(-1)[open_ones], upper.view(-1)[open_ones] = map(torch.from_numpy, found)
        return max_pooled(self.build, layer, forms, Bounds(lower[0], upper[0]))

    def _by_lp(self, forms: Forms, *, enough: float) -> tuple[Array, Array]:
        """Bounds on forms over the program so far, relaxed; also by intervals.

        Args:
            enough: No lower bound is asked for where the upper one is at most that.
        """
        lower, upper = self._interval(forms)
        count = upper.size
        if not (self.effort.by_lp and count):
            return lower, upper
        deadline = self.effort.deadline
        milp = self.build.finished(forms, 0)
        blur = forms.slack + _ROUNDING * self._size(forms)
        problem = {
            **program_arrays(milp),
            **form_arrays(milp),
            "enough": enough - forms.offset - blur,
            "deadline": deadline.at(),
        }
        with closing(self.effort.child.ask(problem, 2 * count, deadline.at(LATE))) as ends:
            for i, end in enumerate(ends):
                if end is None:
                    continue
                self.counts = self.counts._replace(lp_calls=self.counts.lp_calls + 1)
                if i < count:
                    upper[i] = min(upper[i], end + forms.offset[i] + blur[i])
                else:
                    lower[i - count] = max(
                        lower[i - count], end + forms.offset[i - count] - blur[i - count]
                    )
        return lower, upper

    def _interval(self, forms: Forms) -> tuple[Array, Array]:
        """Of what the variables' own bounds say; all finite.

        Raises:
            OverflowedError
        """
        low, high = self._ends()
        above, below = forms.matrix.maximum(0), forms.matrix.minimum(0)
        blur = forms.slack + _ROUNDING * self._size(forms)
        lower = above @ low + below @ high + forms.offset - blur
        upper = above @ high + below @ low + forms.offset + blur
        if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
            raise OverflowedError
        return lower, upper

    def _size(self, forms: Forms) -> Array:
        low, high = self._ends()
        size: Array = abs(forms.matrix) @ np.maximum(abs(low), abs(high)) + abs(forms.offset)
        return size

    def _ends(self) -> tuple[Array, Array]:
        """Of all variables, and zeros for those that there are none of yet."""
        rest = np.zeros(self.build.room - self.build.count)
        return tuple(  # type: ignore[return-value]
            np.concatenate([*(column[i] for column in self.build.columns), rest]) for i in (0, 1)
        )

    def _slack(self, k: int, read: list[Forms], bounds: list[Bounds]) -> Array:
        """What the rounding of coefficients here, and of values where it runs, may add."""
        network, layer = self.network, self.network.layers[k]
        sizes = [
            torch.from_numpy(self._size(one)).reshape(box.lower.shape)
            for one, box in zip(read, bounds, strict=True)
        ]
        found: Tensor = torch.zeros(1, *network.shapes[k + 1], dtype=torch.float64)
        if isinstance(layer, Affine):
            found = weighted(layer, sizes[0], layer.weight.abs(), layer.bias.abs())
        elif isinstance(layer, Sum):
            terms = zip(layer.factors, sizes, strict=True)
            found = torch.stack([abs(f) * size for f, size in terms]).sum(0)
        found = _ROUNDING * found
        error = added(network, k, [one.size() for one in bounds])
        return ABOVE * numbers((found if error is None else found + error).flatten())
