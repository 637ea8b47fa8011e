"""Square Attack: random search with square windows."""

from math import sqrt

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import on
from robsweep.tasks.attacks.methods.projections import onto_l1
from robsweep.tasks.logits import margin, raw_logits

_HALVED = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)  # after so many of 10,000 queries
_BEYOND = {"l2": 1, "l1": 3}  # how large a step is before the cut: in l1, the box takes most
_Window = tuple[Tensor, Tensor, Tensor, Tensor]


def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    norm: str = "linf",
    queries: int = 5000,
    p_init: float = 0.8,
) -> Tensor:
    """Square Attack on the margin: a random change of a window is kept if the margin falls.

    Norms linf, l2, l1. Images without rows (N, F) are taken as (N, 1, 1, F). A sample that is
    broken is left alone.

    Args:
        p_init: The share of an image that the first windows cover, in (0, 1].

    Source: Andriushchenko et al. 2020, algorithms 1 to 3; l1: Croce & Hein 2021, "Mind the box",
    section 5.
    """
    x = images if images.ndim == 4 else images[:, None, None, :]
    best = _stripes(x, eps) if norm == "linf" else _tiles(x, eps, norm)
    result, which = best.clone(), torch.arange(len(x), device=x.device)
    lowest = torch.full((len(x),), torch.inf, device=x.device)
    candidates = best
    for query in range(queries):
        if query:
            height, width = window_size(p_init, query / queries, *x.shape[2:])
            if norm == "linf":
                candidates = _flat(x, best, eps, height, width)
            else:
                candidates = _pyramids(x, best, eps, height, width, norm)
        found = margin(
            raw_logits(on(model, which), candidates.reshape(-1, *images.shape[1:])), labels
        )
        better = found < lowest
        lowest = torch.where(better, found, lowest)
        best = torch.where(better[:, None, None, None], candidates, best)
        broken = lowest <= 0
        if broken.any():
            result[which[broken]] = best[broken]
            x, best, labels, lowest, which = (
                part[~broken] for part in (x, best, labels, lowest, which)
            )
        if not len(which):
            break
    result[which] = best
    return result.reshape(images.shape)


def window_size(p_init: float, done: float, rows: int, columns: int) -> tuple[int, int]:
    """Height and width of the window after a share `done` of the queries.

    A window is square, of the area `p * rows * columns`, unless that does not fit into the image.
    """
    p = p_init / 2 ** sum(done * 10_000 > queries for queries in _HALVED)
    area = p * rows * columns
    side = max(round(sqrt(area)), 1)
    if side <= min(rows, columns):
        return side, side
    long = max(round(area / min(rows, columns)), 1)
    return min(rows, long), min(columns, long)


def _sign(*shape: int, like: Tensor) -> Tensor:
    return torch.randint(0, 2, shape, device=like.device).to(like) * 2 - 1


def _window(x: Tensor, height: int, width: int) -> _Window:
    """Indices of a window of each image, all channels, at a random place: (N, C, height, width)."""
    n, channels, rows, columns = x.shape
    top = torch.randint(0, rows - height + 1, (n, 1, 1, 1), device=x.device)
    left = torch.randint(0, columns - width + 1, (n, 1, 1, 1), device=x.device)
    return (
        torch.arange(n, device=x.device).reshape(-1, 1, 1, 1),
        torch.arange(channels, device=x.device).reshape(1, -1, 1, 1),
        top + torch.arange(height, device=x.device).reshape(1, 1, -1, 1),
        left + torch.arange(width, device=x.device),
    )


def _stripes(x: Tensor, eps: float) -> Tensor:
    n, channels, _, columns = x.shape
    return (x + eps * _sign(n, channels, 1, columns, like=x)).clamp(0, 1)


def _flat(x: Tensor, best: Tensor, eps: float, height: int, width: int) -> Tensor:
    """A window per image at eps above or below it, the same for a whole channel."""
    window = _window(x, height, width)
    candidates = best.clone()
    candidates[window] = (x[window] + eps * _sign(*x.shape[:2], 1, 1, like=x)).clamp(0, 1)
    return candidates


def _tiles(x: Tensor, eps: float, norm: str) -> Tensor:
    """A grid of five by five bumps with random signs."""
    n, channels, rows, columns = x.shape
    height, width = max(rows // 5, 1), max(columns // 5, 1)
    step = torch.zeros_like(x)
    for top in range(0, rows - height + 1, height):
        for left in range(0, columns - width + 1, width):
            bumps = _bumps(x, height, width) * _sign(n, channels, 1, 1, like=x)
            step[:, :, top : top + height, left : left + width] = bumps
    return _cut(x, _BEYOND[norm] * eps * step / _size(step, norm, (1, 2, 3)), eps, norm)


def _pyramids(x: Tensor, best: Tensor, eps: float, height: int, width: int, norm: str) -> Tensor:
    """What a second window has of the budget, and what is unused, goes to a bump in the first."""
    power = 2 if norm == "l2" else 1
    step = best - x
    first, second = _window(x, height, width), _window(x, height, width)
    unused = (eps**power - _size(step, norm, (1, 2, 3)) ** power).clamp(min=0) / x.shape[1]
    here = step[first]
    bump = _bumps(x, height, width)
    bump = _sign(*x.shape[:2], 1, 1, like=x) * bump / _size(bump, norm, (2, 3))
    bump = bump + here / _size(here, norm, (2, 3))
    both = torch.zeros_like(step)
    both[first], both[second] = here, step[second]
    budget = (_size(both, norm, (2, 3)) ** power + unused) ** (1 / power)
    step[second] = 0
    step[first] = _BEYOND[norm] * budget * bump / _size(bump, norm, (2, 3))
    return _cut(x, step, eps, norm)


def _cut(x: Tensor, step: Tensor, eps: float, norm: str) -> Tensor:
    """Images after a step, in [0, 1]; in l1, the closest point that lies in the ball too."""
    if norm == "l2":
        return (x + step).clamp(0, 1)
    return onto_l1(x.flatten(1), (x + step).flatten(1), eps).view_as(x)


def _size(values: Tensor, norm: str, dims: tuple[int, ...]) -> Tensor:
    """The norm over some dimensions, which are kept; never 0."""
    order = 2 if norm == "l2" else 1
    size: Tensor = torch.linalg.vector_norm(values, ord=order, dim=dims, keepdim=True)
    return size.clamp(min=1e-12)


def _bumps(x: Tensor, height: int, width: int) -> Tensor:
    """Two pyramids of opposite signs side by side, or for half of the images one above the other.

    (N, 1, height, width).
    """
    beside = _two_pyramids(height, width).to(x)
    above = _two_pyramids(width, height).T.to(x)
    turned = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(turned, above, beside)


def _two_pyramids(height: int, width: int) -> Tensor:
    half = width // 2
    return torch.cat([_pyramid(height, half), -_pyramid(height, width - half)], dim=1)


def _pyramid(height: int, width: int) -> Tensor:
    """Sums of inverse squares that grow towards the middle, equation 2."""
    n = max(height, width) // 2
    down = (torch.arange(height) - height // 2).abs()[:, None]
    across = (torch.arange(width) - width // 2).abs()
    sums = (1 / torch.arange(n + 1, 0, -1) ** 2).cumsum(dim=0)
    return sums[n - torch.maximum(down, across)]
