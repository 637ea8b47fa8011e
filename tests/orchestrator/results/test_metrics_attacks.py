import math
import random

import polars as pl
import pytest

from robsweep.orchestrator.results.metrics.attacks import (
    breaks_from,
    distances,
    summarise,
    survival,
    unsound,
)
from robsweep.tasks.rows import COLUMNS

EPS = (0.1, 0.2, 0.3)
SCHEMA = {
    "measurement_id": pl.String,
    "model_id": pl.String,
    "dataset": pl.String,
    "split": pl.String,
    "sample": pl.Int64,
    "attack": pl.String,
    "norm": pl.String,
    "eps": pl.Float64,
    "success": pl.Boolean,
    "distance": pl.Float64,
    "check": pl.String,
}


def frame(rows):
    """Rows are (attack, sample, eps, success, distance[, check])."""
    assert set(COLUMNS["attacks"]) > set(SCHEMA) - {
        "measurement_id", "model_id", "dataset", "split", "sample",
    }  # fmt: skip
    full = [
        (a, "m", "d", "test", s, a, "linf", e, ok, d, *(check or ["ok"]))
        for a, s, e, ok, d, *check in rows
    ]
    return pl.DataFrame(full, schema=SCHEMA, orient="row")


def random_rows(seed):
    rng = random.Random(seed)
    rows = []
    for attack in ("a", "b"):
        for sample in range(30):
            if rng.random() < 0.8:
                for eps in EPS:
                    if rng.random() < 0.9:  # even single rows may be missing
                        ok = rng.random() < eps
                        rows.append((attack, sample, eps, ok, eps * 0.9 if ok else None))
    for sample in range(30):
        if rng.random() < 0.9:
            ok = rng.random() < 0.5
            rows.append(("min", sample, None, ok, rng.choice([0.0, *EPS, 0.7]) if ok else None))
    rng.shuffle(rows)
    return rows


def brute_force(rows, attacks, eps):
    result = {}
    for sample in range(30):
        broken, covered = False, True
        for attack in attacks:
            own = [r for r in rows if r[0] == attack and r[1] == sample]
            covered = covered and any(r[2] is None or r[2] == eps for r in own)
            for _, _, at, ok, distance in own:
                reach = distance if at is None else at
                broken = broken or (ok and reach <= eps)
        if covered:
            result[sample] = broken
    return result


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("attacks", [["a"], ["a", "b"], ["a", "b", "min"], ["min"]])
def test_survival_is_the_and_over_attacks(seed, eps, attacks):
    rows = random_rows(seed)
    found = survival(frame(rows), attacks, eps)
    assert dict(found.iter_rows()) == brute_force(rows, attacks, eps)


def test_an_attack_that_was_not_run_leaves_no_sample():
    rows = frame([("a", 0, 0.1, False, None)])
    assert survival(rows, ["a", "b"], 0.1).is_empty()
    assert survival(rows, ["a"], 0.2).is_empty()
    assert survival(frame([]), ["a"], 0.1).is_empty()


def test_few_failed_checks_cost_their_own_samples_only():
    fails = [("a", 0, 0.1, False, None, "error: OddError: no"), ("b", 0, None, True, 0.05)]
    fine = [("a", s, 0.1, s % 2 == 0, 0.1 if s % 2 == 0 else None) for s in range(1, 30)]
    fine += [("b", s, None, True, 0.2) for s in range(1, 30)]
    rows = frame(fails + fine)
    assert survival(rows, ["a"], 0.1)["sample"].to_list() == list(range(1, 30))
    assert len(survival(rows, ["a", "b"], 0.1)) == 29
    assert len(survival(rows, ["b"], 0.1)) == 30
    assert summarise(rows, "a", 0.1).n == 29
    assert distances(rows, ["b"]).n == 30
    many = frame([*fails, ("a", 1, 0.1, False, None, "not finite"), *fine[1:]])
    assert survival(many, ["a"], 0.1).is_empty()
    wrong = [("a", s, 0.1, True, 0.0) for s in range(30, 90)]  # of these an attack says nothing
    assert survival(frame([*fails, *fine[:10], *wrong]), ["a"], 0.1).is_empty()


def test_a_failed_check_leaves_no_number_but_not_finding_a_start_does():
    rows = [
        ("a", 0, 0.1, True, 0.0),  # misclassified: the only sound row of a broken attack
        ("a", 1, 0.1, False, None, "error: RuntimeError: no luck"),
        ("a", 0, 0.2, True, 0.0),
        ("a", 1, 0.2, False, None, "no starting point"),
        ("b", 0, 0.1, True, 0.0),
        ("b", 1, 0.1, False, None),
    ]
    assert survival(frame(rows), ["a"], 0.1).is_empty()
    assert survival(frame(rows), ["a", "b"], 0.1).is_empty()
    assert summarise(frame(rows), "a", 0.1).n == 0
    assert dict(survival(frame(rows), ["a"], 0.2).iter_rows()) == {0: True, 1: False}
    assert dict(survival(frame(rows), ["b"], 0.1).iter_rows()) == {0: True, 1: False}
    assert len(unsound(frame(rows))) == 1


def test_what_another_attack_breaks_at_a_smaller_eps_is_broken():
    rows = frame(
        [
            ("strong", 0, 0.1, True, 0.1),
            ("strong", 1, 0.1, False, None),
            ("weak", 0, 0.2, False, None),
            ("weak", 1, 0.2, False, None),
        ]
    )
    assert dict(survival(rows, ["weak"], 0.2, ["strong", "weak"]).iter_rows()) == {
        0: True,
        1: False,
    }
    assert dict(survival(rows, ["strong"], 0.1, ["strong", "weak"]).iter_rows()) == {
        0: True,
        1: False,
    }


def test_success_rate_leaves_out_misclassified_samples():
    rows = frame(
        [
            ("a", 0, 0.1, True, 0.0),  # misclassified
            ("a", 1, 0.1, True, 0.1),
            ("a", 2, 0.1, False, None),
            ("a", 3, 0.1, False, None),
        ]
    )
    found = summarise(rows, "a", 0.1)
    assert (found.n, found.robust) == (4, 2)
    assert found.attack_success_rate.value == pytest.approx(1 / 3)
    assert found.attack_success_rate_n == 3


def test_distances_of_a_min_norm_attack():
    rows = [("m", i, None, True, float(i)) for i in range(6)]
    rows += [("m", 6, None, False, None), ("m", 7, None, False, None)]
    found = distances(frame(rows), ["m"])
    assert found.n == 8
    assert found.median.value == 3.5
    assert (found.median.low, found.median.high) == (0.0, math.inf)
    assert (found.mean, found.mean_n) == (3.0, 5)  # not the misclassified one, not the two missed
    nothing = distances(frame([]), ["m"])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_the_worst_distance_is_the_closest_of_all_attacks():
    rows = [("m", i, None, True, 1.0 + i) for i in range(4)]
    rows += [("n", i, None, i < 2, 5.0 - 3 * i if i < 2 else None) for i in range(3)]
    rows += [("a", 2, 0.5, True, 0.4), ("a", 3, 0.5, True, 0.1), ("a", 0, 0.5, False, None)]
    found = distances(frame(rows), ["m", "n"], ["a"])
    assert found.n == 3  # sample 3 was not covered by both
    assert found.median.value == 1.0  # of 1, 2 and 0.4
    assert found.mean == pytest.approx(3.4 / 3)
    bad = [*rows, ("n", 3, None, False, None, "not finite")]
    assert distances(frame(bad), ["m", "n"]).n == 0


def test_breaks_from_takes_the_distance_of_the_adversarial():
    rows = frame([("a", 0, 0.3, True, 0.25), ("b", 0, 0.3, True, None), ("a", 1, 0.3, False, None)])
    found = breaks_from(rows.lazy())
    assert found.select("sample", "radius", "by").rows() == [(0, 0.25, "a")]
