"""One pure function decides what runs: first run, resume, retry, two-step verification."""

import pyarrow as pa

from robsweep.orchestrator.plan.next_jobs import next_jobs
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.tasks.rows import Keys, table
from tests.sweeps import SMALL, plan_of


def by_kind(plan, kind):
    return [p for p in plan.measurements.values() if p.measurement.kind == kind]


def cut(plan, covered=None, claimed=None, open_rows=None, expected=None):
    coverage = (covered or {}).get
    return list(
        next_jobs(
            plan,
            lambda key: coverage(key, ()),
            claimed or {},
            open_rows or {},
            expected or (lambda planned: 1.0),
        )
    )


def trained(plan):
    return {p.measurement.measurement_id: ((0, 1),) for p in by_kind(plan, "train")}


def test_only_trainings_can_start_at_first():
    jobs = cut(plan_of(SMALL))
    assert [job.measurement.kind for job in jobs] == ["train", "train"]


def test_calibration_and_scores_wait_for_their_predictions_and_solves_for_the_screen():
    plan = plan_of(SMALL)
    kinds = {job.measurement.kind for job in cut(plan, trained(plan))}
    assert kinds == {"predict", "attack", "screen"}
    done = trained(plan) | {
        p.measurement.measurement_id: ((0, p.size),) for p in by_kind(plan, "predict")
    }
    then = {job.measurement.kind for job in cut(plan, done)}
    assert then == kinds - {"predict"} | {"calibrate", "score"}


def test_jobs_are_cut_at_group_borders_and_cover_what_is_missing():
    plan = plan_of(SMALL.replace("steps: 2", "steps: 2, samples: [260, 400], group_size: 50"))
    attack = by_kind(plan, "attack")[0].measurement.measurement_id
    done = trained(plan) | {attack: ((300, 350),)}
    jobs = [job for job in cut(plan, done) if job.measurement.measurement_id == attack]
    assert [(job.start, job.stop) for job in jobs] == [(250, 300), (350, 400)]


def test_claimed_samples_are_left_alone():
    plan = plan_of(SMALL)
    claimed = {p.measurement.measurement_id: ((0, 1),) for p in by_kind(plan, "train")[:1]}
    assert len(cut(plan, claimed=claimed)) == 1


def test_the_longest_job_goes_first():
    plan = plan_of(SMALL)
    jobs = cut(
        plan,
        trained(plan),
        expected=lambda p: {"attack": 5.0, "screen": 50.0}.get(p.measurement.kind, 0.1),
    )
    kinds = [job.measurement.kind for job in jobs]
    assert kinds[:4] == ["screen", "screen", "attack", "attack"]


def test_jobs_are_made_as_they_are_asked_for():
    text = SMALL.replace("steps: 2", "steps: 2, group_size: 1").replace(
        "seeds:", "resources: {attack: {samples_per_job: 1}}\nseeds:"
    )
    plan = plan_of(text)
    done = trained(plan)
    first_attacks = {"attack": 9.0}
    jobs = next_jobs(
        plan,
        lambda key: done.get(key, ()),
        {},
        {},
        lambda p: first_attacks.get(p.measurement.kind, 0.0),
    )
    assert next(jobs).stop == 1


def verdicts(plan, kind, samples, verdict, limit=None, expected=1.0, eps=0.02):
    m = by_kind(plan, kind)[0].measurement
    keys = Keys(m.measurement_id, m.model.model_id, "w", m.dataset, m.split, m.seed)
    columns = {
        "property": "untargeted",
        "norm": "linf",
        "eps": eps,
        "verdict": verdict,
        "time_limit_seconds": limit,
        "expected_seconds": expected,
    }
    return table("verification", keys, samples, columns)


def solve_jobs(plan, open_rows):
    jobs = cut(plan, trained(plan), open_rows=open_rows.open)
    return [(job.start, job.stop) for job in jobs if job.measurement.kind == "solve"]


def test_only_undecided_samples_are_solved_longest_expected_first():
    plan = plan_of(SMALL)
    rows = OpenRows(plan)
    rows.add(verdicts(plan, "screen", [1, 2, 3], "verified"), past=True)
    rows.add(verdicts(plan, "screen", [4], "unknown", expected=2.0), past=True)
    rows.add(verdicts(plan, "screen", [5], "unknown", expected=9.0), past=True)
    rows.add(verdicts(plan, "screen", [101], "unknown"), past=True)  # not asked for
    assert solve_jobs(plan, rows) == [(5, 6), (4, 5)]


def test_a_timeout_counts_only_at_a_limit_as_long_as_the_one_asked_for():
    plan = plan_of(SMALL)  # asks for 5 s
    rows = OpenRows(plan)
    rows.add(verdicts(plan, "screen", [1, 2, 3, 4], "unknown"), past=True)
    rows.add(verdicts(plan, "solve", [1], "timeout", limit=4.0), past=True)
    rows.add(verdicts(plan, "solve", [2], "timeout", limit=5.0), past=True)
    rows.add(verdicts(plan, "solve", [3], "error", limit=60.0), past=True)
    rows.add(verdicts(plan, "solve", [4], "falsified", limit=1.0), past=True)
    assert solve_jobs(plan, rows) == [(1, 2)]


def test_retry_reopens_past_timeouts_but_not_those_of_this_run():
    plan = plan_of(SMALL)
    rows = OpenRows(plan, retry=frozenset({"timeout"}))
    rows.add(verdicts(plan, "screen", [1, 2], "unknown"), past=True)
    rows.add(verdicts(plan, "solve", [1], "timeout", limit=5.0), past=True)
    rows.add(verdicts(plan, "solve", [2], "error", limit=5.0), past=True)
    assert solve_jobs(plan, rows) == [(1, 2)]
    rows.add(verdicts(plan, "solve", [1], "timeout", limit=5.0), past=False)
    assert solve_jobs(plan, rows) == []


def test_a_proof_stands_whatever_comes_later():
    plan = plan_of(SMALL)
    rows = OpenRows(plan, retry=frozenset({"timeout", "unknown"}))
    rows.add(verdicts(plan, "solve", [1], "verified", limit=1.0), past=True)
    rows.add(pa.concat_tables([verdicts(plan, "screen", [1], "unknown")]), past=True)
    assert solve_jobs(plan, rows) == []


def test_verdicts_carry_over_nested_balls():
    plan = plan_of(SMALL)
    rows = OpenRows(plan)
    rows.add(verdicts(plan, "screen", [1, 2, 3, 4, 5], "unknown"), past=True)
    rows.add(verdicts(plan, "solve", [1], "verified", limit=5.0, eps=0.03), past=True)
    rows.add(verdicts(plan, "solve", [2], "verified", limit=5.0, eps=0.01), past=True)
    rows.add(verdicts(plan, "solve", [3], "falsified", limit=5.0, eps=0.01), past=True)
    rows.add(verdicts(plan, "solve", [4], "falsified", limit=5.0, eps=0.03), past=True)
    rows.add(verdicts(plan, "screen", [5], "unknown", eps=0.01), past=True)
    assert sorted(solve_jobs(plan, rows)) == [(2, 3), (4, 5), (5, 6)]
