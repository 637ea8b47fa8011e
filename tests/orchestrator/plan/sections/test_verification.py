from itertools import pairwise

from robsweep.orchestrator.plan.sections.verification import drawn
from robsweep.orchestrator.ranges import total


def test_a_share_is_drawn_by_the_seed_and_grows_with_the_share() -> None:
    some = [drawn(((10, 210),), share, 0) for share in (0.0, 0.001, 0.1, 0.25, 1.0)]
    assert [total(one) for one in some] == [0, 1, 20, 50, 200]
    samples = [{s for start, stop in one for s in range(start, stop)} for one in some]
    for fewer, more in pairwise(samples):
        assert fewer < more
    assert samples[-1] == set(range(10, 210))
    assert drawn(((10, 210),), 0.1, 1) != some[2]
    assert drawn(((10, 210),), 0.1, 0) == some[2]
