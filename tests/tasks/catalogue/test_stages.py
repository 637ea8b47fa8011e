"""Stages of a verifier in the ids of measurements, which are older than one of them."""

from itertools import combinations

from robsweep.tasks.catalogue.values import STAGES, stages_in_ids, stages_of_ids


def test_ids_name_every_choice_of_stages_by_itself() -> None:
    chosen = [some for n in range(1, 8) for some in combinations(STAGES, n)]
    named = [tuple(stages_in_ids(some)) for some in chosen]
    assert len({*named}) == len(chosen) == 127
    for some, names in zip(chosen, named, strict=True):
        assert stages_of_ids(names) == frozenset(some)


def test_ids_of_before_splitting_stay() -> None:
    before = ["attack", "interval", "crown", "alpha", "branching", "milp"]
    assert stages_in_ids(STAGES) == before
    assert stages_of_ids(before) == {*STAGES}
    for some in (["attack", "interval", "milp"], ["milp", "crown"]):
        assert stages_in_ids(some) == some
        assert stages_of_ids(some) == {*some}
