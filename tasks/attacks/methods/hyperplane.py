"""The closest points of a hyperplane within the box [0, 1], for a batch at once."""

import torch
from torch import Tensor


def to_hyperplane(points: Tensor, normals: Tensor, values: Tensor, norm: str) -> Tensor:
    """The smallest step (N, D) from each point to `value + <normal, step> = 0` within [0, 1].

    Where the hyperplane does not meet the box, the step goes to the corner nearest to it. Along
    coordinates in which the normal is 0 there is no step.

    Args:
        points: (N, D), in [0, 1].
        normals: (N, D).
        values: (N,), of the linear function at the points.
        norm: linf, l2 or l1, in which the step is the smallest.

    Source: Croce & Hein 2020 (FAB), section 2.1 and appendix A.
    """
    # a step is never against this direction, so that what is left is how far along it: (N, D), >= 0
    direction = -(values[:, None] * normals).sign()
    room = torch.where(direction > 0, 1 - points, points) * direction.abs()
    scale = normals.abs().amax(dim=1).clamp(min=torch.finfo(normals.dtype).tiny)
    slopes = normals.abs() / scale[:, None]
    # twice what there is can be had no more than anything larger, and is finite
    needed = torch.minimum(values.abs() / scale, 2 * (slopes * room).sum(dim=1))
    if norm == "l1":
        return direction * _steepest_first(slopes, room, needed)
    speeds = {"linf": torch.ones_like(slopes), "l2": slopes}[norm]
    return direction * _together(slopes, room, needed, speeds)


def _steepest_first(slopes: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """Coordinates used up one after the other, until they give together what is needed."""
    slopes, order = slopes.sort(dim=1, descending=True)
    room = room.gather(1, order)
    gains = slopes * room
    before = gains.cumsum(dim=1) - gains
    wanted = ((needed[:, None] - before) / slopes).nan_to_num(0).clamp(min=0)
    return torch.zeros_like(room).scatter(1, order, torch.minimum(wanted, room))


def _together(slopes: Tensor, room: Tensor, needed: Tensor, speeds: Tensor) -> Tensor:
    """All coordinates at once, each at its speed until it has no room left.

    What they give is concave and piecewise linear in time, so Newton's method from time 0 never
    overshoots, and ends exactly: the coordinates without room only become more.
    """
    used_up = torch.zeros_like(room, dtype=torch.bool)
    while True:
        given = torch.where(used_up, slopes * room, 0).sum(dim=1)
        rate = torch.where(used_up, 0, slopes * speeds).sum(dim=1)
        time = (needed - given).clamp(min=0) / rate.clamp(min=1e-30)  # 0 where no room is left
        lengths = time[:, None] * speeds
        more = used_up | (lengths > room)
        if torch.equal(more, used_up):
            return torch.minimum(lengths, room)
        used_up = more
