"""Looking for counterexamples by projected gradient descent, and checking any that is found."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.ball import pull_inside
from robsweep.tasks.logits import raw_logits
from robsweep.tasks.verification.bounds.support import lowest
from robsweep.tasks.verification.reading.layers import Network
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property, margin
from robsweep.tasks.verification.reading.torch.module import read_as_deployed
from robsweep.tasks.verification.reading.within import Ball


class Subject(NamedTuple):
    """The network under verification, three times."""

    model: nn.Module  # what is deployed
    exact: nn.Module  # the same in float64
    network: Network  # its layers


class Region(NamedTuple):
    """Where to search, all (N, ...): from `start`, inside of [low, high]."""

    start: Tensor
    low: Tensor
    high: Tensor
    reach: Tensor  # of the first step and of the noise; broadcasts
    ball: Ball | None = None  # to stay in, around one image

    def rows(self, index: Tensor) -> "Region":
        start, low, high, reach = (part[index] for part in self[:4])
        return Region(start, low, high, reach, self.ball)

    def inside(self, points: Tensor) -> Tensor:
        """The points, moved into it."""
        points = points.clamp(self.low, self.high)
        if self.ball is None:
            return points
        centre = self.ball.centre.expand_as(points)
        return pull_inside(centre, points, self.ball.norm, self.ball.radius)

    def stepped(self, x: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
        """A step against the gradient: by its sign, or towards the extreme point of a ball.

        Source: for balls, Frank & Wolfe 1956.
        """
        if self.ball is None:
            return (x - size * gradient.sign()).clamp(self.low, self.high)
        share = (size.amax() / max(self.ball.radius, 1e-30)).clamp(max=1)
        smaller = self.ball._replace(radius=self.ball.radius * (1 - 2.0**-20))  # for rounding
        extreme = lowest(smaller, gradient.double(), (self.low, self.high))
        return self.inside((x + share * (extreme - x)).float())


class Found(NamedTuple):
    """The best adversarials of a search, (N, ...) inside the region, and their margins."""

    adversarials: Tensor
    margins: Tensor
    steps: list[int]  # of each sample


OUTSIDE = "outside the ball"


class Checked(NamedTuple):
    """What became of one candidate."""

    check: str  # "ok", or what failed
    margin: float  # in float64
    boundary: bool
    disagree: bool = False  # whether it is a counterexample in one precision only


def subject_of(model: nn.Module, shape: tuple[int, ...]) -> Subject:
    """Raises: InputError: The model cannot be read as a graph of supported layers."""
    exact = copy.deepcopy(model).double().eval()
    return Subject(model, exact, read_as_deployed(model, shape))


def around(images: Tensor, eps: float) -> Region:
    """The float32 images of the linf ball."""
    low, high = (pull_inside(images, images + far, "linf", eps) for far in (-2 * eps, 2 * eps))
    return Region(images, low, high, torch.full_like(images, eps))


def search(
    model: nn.Module, region: Region, unsafe: Property, first: Tensor, steps: int, restarts: int
) -> Found:
    """Minimises the margin over a region.

    Samples are left alone once their margin is <= 0. Source: Madry et al. 2018, section 2.1, with
    a step that falls linearly from the reach to its `steps`-th part.

    Args:
        first: (N, ...), where the first restart begins; the others begin at random.
    """
    start = region.start
    best = Found(start.clone(), margin(unsafe, raw_logits(model, start)), [0] * len(start))
    for restart in range(restarts):
        left = (best.margins > 0).nonzero()[:, 0]
        if not len(left):
            break
        some = region.rows(left)
        if restart:
            noise = torch.rand_like(some.start) * 2 - 1
            some = some._replace(start=some.start + some.reach * noise)
        else:
            some = some._replace(start=first[left])
        found = descend(model, some, unsafe.rows(left), steps)
        chosen = found.margins < best.margins[left]
        best.adversarials[left[chosen]] = found.adversarials[chosen]
        best.margins[left[chosen]] = found.margins[chosen]
        for i in left.tolist():
            best.steps[i] += steps
    return best


def descend(model: nn.Module, region: Region, unsafe: Property, steps: int) -> Found:
    """Signed gradient steps on the margin from the region's start, of at most its reach."""
    x = region.inside(region.start)
    count = [steps] * len(x)
    best = Found(x, torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device), count)
    for i in range(steps + 1):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            margins = margin(unsafe, model(x))
            (gradient,) = torch.autograd.grad(margins.sum(), x)
        better = (margins < best.margins).detach()
        shape = (-1, *[1] * (x.ndim - 1))
        best = Found(
            torch.where(better.reshape(shape), x.detach(), best.adversarials),
            torch.where(better, margins.detach(), best.margins),
            count,
        )
        size = region.reach * (1 - i / (steps + 1))
        x = region.stepped(x.detach(), gradient, size)
    return best


def checked(
    subject: Subject, adversarials: Tensor, unsafe: Property, within: Tensor
) -> list[Checked]:
    """Runs candidates through the network again, in float64 and in float32.

    Args:
        within: (N,) bool: which of them lie where the property is asked about.
    """
    exact = margin(unsafe, raw_logits(subject.exact, adversarials.double()))
    deployed = margin(unsafe, raw_logits(subject.model, adversarials))
    return [
        Checked(
            _check(bool(i), e, d),
            e,
            at_boundary(e, d),
            bool(i) and (e <= 0) != (d <= 0),
        )
        for i, e, d in zip(within, exact.tolist(), deployed.tolist(), strict=True)
    ]


def at_boundary(exact: float, deployed: float) -> bool:
    """Whether a margin is too near 0 for float32 and float64 to be sure of the same sign."""
    return min(abs(exact), abs(deployed)) < BOUNDARY or (exact <= 0) != (deployed <= 0)


def _check(within: bool, exact: float, deployed: float) -> str:
    if not within:
        return OUTSIDE
    if exact > 0:
        return "float64 margin > 0"
    return "ok" if deployed <= 0 else "float32 margin > 0"
