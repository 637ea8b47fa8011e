"""What whole groups compute beyond what is wanted, and the group size that would not."""

import pytest

from robsweep.orchestrator.plan.groups import group_notes
from robsweep.orchestrator.plan.next_jobs import missing_ranges
from tests.sweeps import SMALL, plan_of


def notes(samples, entry="steps: 2"):
    text = SMALL.split("ood:")[0].replace("seeds:", f"samples: {samples}\nseeds:")
    return list(group_notes(plan_of(text.replace("steps: 2", entry))))


def test_the_line_names_the_group_size_that_computes_no_more():
    clean, attack = notes("50")
    assert clean == "clean: samples: 50, computed in groups of 250"
    assert attack == (
        "attacks.pgd: samples: 50, computed in groups of 250: group_size: 50 computes no more"
    )


@pytest.mark.parametrize("samples", ["250", "500", "[250, 500]"])
def test_whole_groups_need_no_words(samples):
    assert notes(samples) == []


@pytest.mark.parametrize(
    ("samples", "size"), [("[100, 130]", 10), ("[100, 500]", 100), ("300", 150), ("[7, 53]", 1)]
)
def test_that_group_size_computes_exactly_what_is_wanted(samples, size):
    assert notes(samples)[1].endswith(f"group_size: {size} computes no more")
    text = SMALL.replace("seeds:", f"samples: {samples}\nseeds:")
    plan = plan_of(text.replace("steps: 2", f"steps: 2, group_size: {size}"))
    attack = next(p for k, p in plan.measurements.items() if k.startswith("attack"))
    assert missing_ranges(attack, ()) == attack.wanted
    assert len(notes(samples, f"steps: 2, group_size: {size}")) == 1  # of the clean predictions


def test_many_entries_of_the_same_samples_are_one_line():
    more = "".join(f"\n  a{i}: {{attack: LinfPGD, eps: 0.1, steps: {i + 3}}}" for i in range(5))
    text = SMALL.split("ood:")[0].replace("seeds:", "samples: 50\nseeds:") + more.lstrip("\n")
    found = group_notes(plan_of(text))
    assert found[1].startswith("attacks.pgd, attacks.a0, attacks.a1 and 3 more: samples: 50,")
    assert len(found) == 2
