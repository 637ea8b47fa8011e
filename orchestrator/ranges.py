"""Sets of samples as sorted, disjoint, half-open ranges: `[(0, 250), (500, 750)]`."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
Ranges = tuple[Range, ...]


def union(ranges: Iterable[Range]) -> Ranges:
    """Normal form of any ranges: sorted, disjoint, neither empty nor touching."""
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return tuple(merged)


def subtract(wanted: Ranges, covered: Ranges) -> Ranges:
    """What of `wanted` is not in `covered`; both in normal form."""
    left: list[Range] = []
    for start, stop in wanted:
        at = start
        first = max(bisect_right(covered, (start,)) - 1, 0)
        for low, high in covered[first:]:
            if low >= stop:
                break
            if high <= at:
                continue
            if low > at:
                left.append((at, low))
            at = max(at, high)
        if at < stop:
            left.append((at, stop))
    return tuple(left)


def intersect(a: Ranges, b: Ranges) -> Ranges:
    """What is in both; both in normal form."""
    return subtract(a, subtract(a, b))


def total(ranges: Ranges) -> int:
    """Number of samples in ranges in normal form."""
    return sum(stop - start for start, stop in ranges)


def aligned(ranges: Ranges, group: int, size: int) -> Ranges:
    """Grown to whole groups, cut at the end of the split."""
    return union(
        (start // group * group, min(-(-stop // group) * group, size)) for start, stop in ranges
    )


def slices(ranges: Ranges, length: int) -> Iterator[Range]:
    """Cut into pieces that end at multiples of `length`."""
    for start, stop in ranges:
        at = start
        while at < stop:
            end = min((at // length + 1) * length, stop)
            yield at, end
            at = end
