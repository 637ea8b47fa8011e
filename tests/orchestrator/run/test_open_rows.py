"""Which samples are solved again, under which policy, and in which order."""

from dataclasses import replace

import pytest

from robsweep.orchestrator.plan.plan import with_rerun
from robsweep.orchestrator.run.open_rows import OpenRows, Times, carries, closes
from robsweep.tasks.rows import Keys, table
from tests.sweeps import SMALL, plan_of

LIMIT = 5.0  # asked for in SMALL
NAMES = ("never", "ambiguous", "refine", "always")


def row(kind="solve", verdict="timeout", limit=LIMIT, **more):
    return {
        "measurement_id": f"{kind}-0", "verdict": verdict, "time_limit_seconds": limit,
        "expected_seconds": None, "seconds": None, **more,
    }  # fmt: skip


# what is there, then for each policy whether the sample is closed
TABLE = {
    "screened open": (row("screen", "unknown", None), (False, False, False, False)),
    "screened verified": (row("screen", "verified", None), (True, True, True, True)),
    "screened misclassified": (row("screen", "misclassified", None), (True, True, True, True)),
    "screened, sides apart": (
        row("screen", "falsified", None, exact=False),
        (False, False, False, False),
    ),
    "solved, sides apart": (
        row(verdict="verified", limit=1.0, exact=False),
        (True, False, False, False),
    ),
    "solved, sides met": (row(verdict="falsified", exact=True), (True, True, True, False)),
    "solved verified": (row(verdict="verified", limit=1.0), (True, True, True, False)),
    "solved falsified": (row(verdict="falsified", limit=9.0), (True, True, True, False)),
    "timeout, shorter": (row(limit=4.9), (True, False, False, False)),
    "timeout, as long": (row(limit=5.0), (True, True, False, False)),
    "timeout, longer": (row(limit=60.0), (True, True, False, False)),
    "unknown, as long": (row(verdict="unknown"), (True, True, False, False)),
    "unknown, shorter": (row(verdict="unknown", limit=1.0), (True, False, False, False)),
    "error, as long": (row(verdict="error"), (True, True, False, False)),
    "error, shorter": (row(verdict="error", limit=1.0), (True, False, False, False)),
    "no limit known": (row(limit=None), (True, False, False, False)),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_a_past_row_closes(name):
    there, expected = TABLE[name]
    assert tuple(closes(policy, there, LIMIT, past=True) for policy in NAMES) == expected


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize("verdict", ["verified", "falsified", "timeout", "unknown", "error"])
def test_a_solve_of_this_run_closes_under_every_policy(policy, verdict):
    assert closes(policy, row(verdict=verdict), LIMIT, past=False)
    retry = frozenset({"timeout", "unknown", "error"})
    assert closes(policy, row(verdict=verdict), LIMIT, past=False, retry=retry)


@pytest.mark.parametrize("policy", NAMES)
def test_a_retry_opens_what_it_names_under_every_policy(policy):
    there = row(limit=60.0)
    assert not closes(policy, there, LIMIT, past=True, retry=frozenset({"timeout"}))


def verdicts(plan, kind, verdict, samples=(1,), eps=0.02, **columns):
    planned = next(p for p in plan.measurements.values() if p.measurement.kind == kind)
    m = planned.measurement
    keys = Keys(m.measurement_id, m.model.model_id, "w", m.dataset, m.split, m.seed)
    common = {"property": m.params["property"], "norm": "linf", "eps": eps, "verdict": verdict}
    return table("verification", keys, list(samples), {**common, **columns})


def opened(plan, *rows, retry=frozenset(), now=()):
    open_rows = OpenRows(plan, retry)
    for one in rows:
        open_rows.add(one, past=True)
    for one in now:
        open_rows.add(one, past=False)
    return next(iter(open_rows.open.values()))


@pytest.mark.parametrize(
    ("policy", "again"),
    [("never", {4}), ("ambiguous", {2, 4}), ("refine", {2, 3, 4}), ("always", {1, 2, 3, 4})],
)
def test_policies_on_a_store(policy, again):
    plan = with_rerun(plan_of(SMALL), policy)
    rows = [
        verdicts(plan, "screen", "verified", [0]),
        verdicts(plan, "screen", "unknown", [1, 2, 3, 4]),
        verdicts(plan, "solve", "verified", [1], time_limit_seconds=5.0),
        verdicts(plan, "solve", "timeout", [2], time_limit_seconds=1.0),
        verdicts(plan, "solve", "timeout", [3], time_limit_seconds=5.0),
    ]
    assert set(opened(plan, *rows)) == again
    assert set(opened(plan, *reversed(rows))) == again
    now = verdicts(plan, "solve", "timeout", sorted(again), time_limit_seconds=5.0)
    assert opened(plan, *rows, now=[now]) == {}


@pytest.mark.parametrize("policy", NAMES)
def test_a_retry_does_not_do_more_than_it_names(policy):
    plan = with_rerun(plan_of(SMALL), policy)
    rows = [
        verdicts(plan, "screen", "unknown", [1, 2, 3]),
        verdicts(plan, "solve", "verified", [1], time_limit_seconds=5.0),
        verdicts(plan, "solve", "timeout", [2], time_limit_seconds=5.0),
        verdicts(plan, "solve", "error", [3], time_limit_seconds=5.0),
    ]
    assert set(opened(plan, *rows, retry=frozenset({"error"}))) == {3}


def test_always_asks_each_ball_by_itself():
    for policy, left in (("ambiguous", set()), ("always", {1, 2})):
        plan = with_rerun(plan_of(SMALL), policy)
        rows = [
            verdicts(plan, "screen", "unknown", [1, 2]),
            verdicts(plan, "solve", "verified", [1], eps=0.03, time_limit_seconds=5.0),
            verdicts(plan, "solve", "falsified", [2], eps=0.01, time_limit_seconds=5.0),
        ]
        assert set(opened(plan, *rows)) == left


def test_a_second_engine_closes_nothing_for_the_first():
    plan = plan_of(SMALL.replace("eps: 0.02, samples", "eps: 0.02, cross_check: 1.0, samples"))
    rows = [
        verdicts(plan, "screen", "unknown", [1, 2]),
        verdicts(plan, "cross_check", "verified", [1], time_limit_seconds=5.0),
    ]
    assert set(opened(plan, *rows)) == {1, 2}


def test_a_number_at_one_radius_is_none_at_another():
    plan = plan_of(SMALL.replace("eps: 0.02, samples", "question: worst, eps: 0.02, samples"))
    rows = [
        verdicts(plan, "screen", "unknown", [1, 2, 3], exact=False),
        verdicts(plan, "solve", "verified", [1], eps=0.03, exact=True, time_limit_seconds=5.0),
        verdicts(plan, "solve", "falsified", [2], eps=0.01, exact=True, time_limit_seconds=5.0),
        verdicts(plan, "screen", "misclassified", [3], eps=0.01, exact=True),
    ]
    assert set(opened(plan, *rows)) == {1, 2}


def test_a_null_eps_carries_nothing_and_is_its_own_question():
    for verdict in ("verified", "falsified", "misclassified"):
        assert not carries(verdict, None, 0.1)
        assert not carries(verdict, 0.1, None)
        assert not carries(verdict, None, None)
    plan = plan_of(SMALL)
    boxed = {
        key: replace(p, measurement=replace(p.measurement, params={
            **p.measurement.params, "property": "untargeted box=1a2b3c4d", "eps": None}))
        for key, p in plan.measurements.items() if p.measurement.kind in {"screen", "solve"}
    }  # fmt: skip
    plan = replace(plan, measurements=boxed)
    screened = verdicts(plan, "screen", "unknown", [1, 2], eps=None)
    solved = verdicts(plan, "solve", "verified", [1], eps=None, time_limit_seconds=1.0)
    assert set(opened(plan, screened, solved)) == {2}
    plain = plan_of(SMALL)
    assert set(opened(plain, verdicts(plain, "screen", "unknown", [1]), solved)) == {1}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], 0.0),
        ([row("screen", "unknown", None, expected_seconds=7.0)], 7.0),
        ([row("screen", "unknown", None, expected_seconds=7.0), row(limit=4.0)], 7.0),
        ([row("screen", "unknown", None, expected_seconds=7.0), row(limit=40.0)], 40.0),
        ([row(limit=40.0), row(limit=10.0)], 40.0),
        # a solve that ended tells more than a guess
        ([row("screen", "unknown", None, expected_seconds=7.0),
          row(verdict="verified", seconds=2.0)], 2.0),
        ([row(verdict="unknown", seconds=2.0), row(verdict="verified", seconds=3.0)], 3.0),
        ([row(limit=4.0), row(verdict="verified", seconds=6.0)], 6.0),
    ],
)  # fmt: skip
def test_expected_seconds_follow_past_solves(rows, expected):
    for order in (rows, rows[::-1]):
        times = Times()
        for one in order:
            times = times.after(one)
        assert times.expected == expected


def test_a_former_timeout_goes_before_what_is_guessed_to_be_shorter():
    plan = with_rerun(plan_of(SMALL), "refine")
    found = opened(
        plan,
        verdicts(plan, "screen", "unknown", [1], expected_seconds=3.0),
        verdicts(plan, "screen", "unknown", [2], expected_seconds=4.0),
        verdicts(plan, "solve", "timeout", [1], time_limit_seconds=5.0),
    )
    assert found == {1: 5.0, 2: 4.0}


def test_the_most_eager_policy_of_two_entries_for_one_question_counts():
    both = SMALL + "  more: {verifier: milp, eps: 0.02, samples: 50, rerun: refine}\n"
    plan = plan_of(both)
    solves = [p for p in plan.measurements.values() if p.measurement.kind == "solve"]
    assert {p.rerun for p in solves} == {"refine"}
    assert {p.setting.time_limit_seconds for p in solves} == {60.0}


def test_a_sample_of_a_curve_is_open_until_all_its_radii_are_decided():
    plan_ = plan_of(SMALL.replace("eps: 0.02, samples", "curve: [0.01, 0.02, 0.04], samples"))
    found = next(p for p in plan_.measurements.values() if p.measurement.kind == "solve")
    m = found.measurement

    def rows(kind, eps, verdict):
        keys = Keys(f"{kind}-0", m.model.model_id, None, m.dataset, m.split, 0)
        columns = {"property": "untargeted", "norm": "linf", "eps": eps, "verdict": verdict}
        return table("verification", keys, [7] * len(eps), columns)

    open_rows = OpenRows(plan_)
    key = m.measurement_id
    open_rows.add(rows("screen", [0.01, 0.02, 0.04], ["verified", "unknown", "unknown"]), past=True)
    assert 7 in open_rows.open[key]
    open_rows.add(rows("solve", [0.03], ["falsified"]), past=True)  # of another measurement
    assert 7 in open_rows.open[key]
    open_rows.add(rows("solve", [0.025], ["verified"]), past=True)
    assert 7 not in open_rows.open[key]
