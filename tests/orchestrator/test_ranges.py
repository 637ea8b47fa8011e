import random

import pytest

from robsweep.orchestrator.ranges import aligned, intersect, slices, subtract, total, union


def as_set(ranges):
    return {i for start, stop in ranges for i in range(start, stop)}


def is_normal(ranges):
    flat = [end for pair in ranges for end in pair]
    return flat == sorted(set(flat))


@pytest.mark.parametrize("seed", range(200))
def test_range_arithmetic_is_set_arithmetic(seed):
    rng = random.Random(seed)

    def some():
        return [(a, a + rng.randrange(0, 12)) for a in rng.choices(range(60), k=rng.randrange(6))]

    a, b = some(), some()
    left, right = union(a), union(b)
    assert is_normal(left)
    assert as_set(left) == as_set(a)
    assert total(left) == len(as_set(a))
    for result, expected in (
        (subtract(left, right), as_set(a) - as_set(b)),
        (intersect(left, right), as_set(a) & as_set(b)),
    ):
        assert is_normal(result)
        assert as_set(result) == expected


def test_aligned_grows_to_whole_groups_but_not_past_the_split():
    assert aligned(((0, 100), (700, 701)), 250, 900) == ((0, 250), (500, 750))
    assert aligned(((800, 900),), 250, 900) == ((750, 900),)


def test_slices_end_at_multiples_of_their_length():
    assert list(slices(((250, 1100),), 500)) == [(250, 500), (500, 1000), (1000, 1100)]
