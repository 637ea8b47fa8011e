"""Whole verification sweeps: their properties, rerun policies, stops, and killed solvers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.store.store import Store
from tests.stores import all_rows

pytest.importorskip("ortools")

ROOT = Path(__file__).parents[2]
# the screen attacks nobody and proves little, so that much is left to the solver
HEAD = """\
name: small
dataset: digits
models:
  mlp: {hidden: [16]}
trainings:
  standard: {epochs: 20, batch_size: 32, lr: 0.005}
verification:
"""
OPEN = "verifier: milp, samples: 30, group_size: 30, stages: [interval, crown, milp]"
PROOFS = {"verified", "falsified", "misclassified"}
ONE = f"{HEAD}  linf: {{{OPEN}, eps: 0.1, time_limit_seconds: 20}}\n"
HASTY = ONE.replace("time_limit_seconds: 20", "time_limit_seconds: 1.0e-9")


def solved(store):
    """Rows that solves have written, by sample."""
    found = {}
    for row in all_rows(store, "verification").to_pylist():
        if row["measurement_id"].startswith("solve-"):
            found.setdefault(row["sample"], []).append(row["verdict"])
    return found


def left_open(store):
    """Samples that the screen has not decided."""
    return {
        row["sample"]
        for row in all_rows(store, "verification").to_pylist()
        if row["measurement_id"].startswith("screen-") and row["verdict"] == "unknown"
    }


def run(robsweep, text, *words):
    """Runs a sweep that must end well; how many solves each sample has by then."""
    Path("sweep.yaml").write_text(text)
    code, _, err = robsweep("run", "sweep.yaml", *words)
    assert code == 0, err
    return {sample: len(verdicts) for sample, verdicts in solved("results").items()}


def test_policies_decide_what_is_solved_again(robsweep):
    once = run(robsweep, HASTY)
    assert set(once) == left_open("results")
    assert len(once) > 10
    assert set(once.values()) == {1}
    assert {v for verdicts in solved("results").values() for v in verdicts} == {"timeout"}
    assert run(robsweep, HASTY) == once
    assert run(robsweep, HASTY, "--rerun", "never") == once
    assert set(run(robsweep, HASTY, "--rerun", "refine").values()) == {2}
    # a longer limit asks again, unless the file says that nothing is to be solved twice
    assert set(run(robsweep, ONE.replace("20}", "20, rerun: never}")).values()) == {2}
    longer = run(robsweep, ONE)
    verdicts = {sample: each[-1] for sample, each in solved("results").items()}
    decided = {s for s, each in solved("results").items() if {*each} & {"verified", "falsified"}}
    assert decided == set(once), verdicts
    assert set(longer.values()) == {3}
    assert run(robsweep, ONE, "--rerun", "refine") == longer
    assert run(robsweep, HASTY.replace("e-9}", "e-9, rerun: refine}")) == longer  # all is proved
    assert set(run(robsweep, ONE, "--rerun", "always").values()) == {4}
    assert run(robsweep, ONE) == run(robsweep, ONE, "--rerun", "ambiguous")
    assert not check(Store.open("results")).problems
    code, _, err = robsweep("run", "sweep.yaml", "--rerun", "alwys")
    assert code == 2
    assert "did you mean 'always'" in err


def test_a_retry_does_what_it_names_whatever_the_policy(robsweep):
    once = run(robsweep, HASTY.replace("e-9}", "e-9, rerun: never}"))
    assert robsweep("retry", "small", "--status", "error")[0] == 0
    assert {s: len(v) for s, v in solved("results").items()} == once
    assert robsweep("retry", "small", "--status", "timeout")[0] == 0
    assert {len(v) for v in solved("results").values()} == {2}


def test_a_contradiction_of_two_solves_is_an_alarm(robsweep, monkeypatch):
    from robsweep.tasks.verification import solve
    from robsweep.tasks.verification.verdicts import Row

    run(robsweep, ONE)
    assert "falsified" in {v for verdicts in solved("results").values() for v in verdicts}
    monkeypatch.setattr(solve, "solve_one", lambda *_: (Row("verified", "a lie"), None))
    code, _, err = robsweep("run", "sweep.yaml", "--rerun", "always")
    assert code == 3
    assert "proved robust and yet broken" in err
    assert "a lie" in err


def test_properties_and_regions_side_by_side(robsweep, tmp_path):
    from robsweep.tasks.data.load import load

    images = load("digits", "test", "").images.numpy()
    low, high = (np.clip(images + change, 0, 1) for change in (-0.02, 0.02))
    np.savez(tmp_path / "box.npz", lower=low, upper=high)
    # the same for every sample: none of the images is in there
    np.savez(tmp_path / "one.npz", lower=images[0], upper=np.clip(images[0] + 0.001, 0, 1))
    np.savez(tmp_path / "map.npz", radius=np.tile(np.linspace(0, 2, 8), (1, 8, 1)))
    rest = "verifier: milp, samples: 30, time_limit_seconds: 20"
    plain = f"{HEAD}  plain: {{{rest}, eps: [0.02, 0.05]}}\n"
    alone = run(robsweep, plain)
    table = robsweep("show", "small", "--table", "verification", "--format", "csv")[1]
    board = robsweep("show", "small")[1]
    text = plain + "".join(
        f"  {name}: {{{rest}, {words}}}\n"
        for name, words in {
            "margin": "eps: [0.02, 0.05], margin: 3",
            "targeted": "eps: 0.05, property: targeted, targets: [3, 5]",
            "map": "eps: 0.02, radius: map.npz",
            "box": "box: box.npz",
            "one": "box: one.npz, property: targeted, targets: 8",
        }.items()
    )
    both = run(robsweep, text)
    assert all(both[sample] >= count for sample, count in alone.items())
    found = robsweep("show", "small", "--table", "verification", "--format", "csv")[1].splitlines()
    assert table.splitlines() == found[:3]  # the new rows come after, and change none
    assert robsweep("show", "small")[1] == board
    column = found[0].split(",").index("property")
    names = [line.split(",")[column].strip('"') for line in found[3:]]
    assert len(found) == 3 + 6
    assert names[:2] == ["untargeted margin=3.0"] * 2
    assert names[2].startswith("targeted 3")
    assert names[3].startswith("untargeted radius=")
    assert names[4].startswith("untargeted box=")
    assert names[5].startswith("targeted 8 box=")
    rows = all_rows("results", "verification").to_pylist()
    verdicts = {}
    for row in rows:
        if row["verdict"] in {"verified", "falsified", "misclassified"}:
            place = (row["property"].split("=")[0], row["eps"], row["sample"])
            verdicts.setdefault(place, set()).add(row["verdict"])
    assert all(len(each) == 1 for each in verdicts.values())
    for sample in range(30):
        at = {place[:2]: next(iter(v)) for place, v in verdicts.items() if place[2] == sample}
        assert at["untargeted box", None] == at["untargeted", 0.02]  # the same set of images
        if at["untargeted", 0.05] == "verified":
            assert at["targeted 3,5", 0.05] == "verified"
        if at["untargeted margin", 0.05] == "verified":
            assert at["untargeted", 0.05] == "verified"
        assert (at["targeted 3,5", 0.05] == "misclassified") == (
            at["untargeted", 0.02] == "misclassified"
        )
    clean = [row for row in rows if (row["verdict"], row["decided_by"]) == ("falsified", "clean")]
    assert {row["property"] for row in clean} == {"untargeted margin=3.0"}
    progress = {row["kind"]: row for row in json.loads(robsweep("status", "--json")[1])["small"]}
    for kind in ("screen", "solve"):
        assert progress[kind]["done"] == progress[kind]["wanted"]
    assert run(robsweep, text) == both
    assert not check(Store.open("results")).problems


def test_a_recheck_leaves_other_properties_open(robsweep, tmp_path):
    text = HEAD + "  margin: {verifier: milp, samples: 30, eps: 0.05, margin: 0.5}\n"
    text += "  targeted: {verifier: milp, samples: 30, eps: 0.1, property: targeted, targets: 3}\n"
    np.savez(tmp_path / "box.npz", lower=np.zeros((1, 8, 8)), upper=np.full((1, 8, 8), 0.01))
    text += "  box: {verifier: milp, samples: 30, box: box.npz}\n"
    run(robsweep, text)
    rows = all_rows("results", "verification").to_pylist()
    falsified = {row["property"].split("=")[0] for row in rows if row["verdict"] == "falsified"}
    assert falsified == {"untargeted margin", "targeted 3", "untargeted box"}
    code, out, _ = robsweep("recheck", "small", "--sample", "200")
    assert code == 1
    for line in out.splitlines()[:3]:
        assert ": 0 ok, 0 wrong, " in line
    assert "another property: property 'targeted 3' in norm linf cannot be rechecked" in out


RUNNER = """\
import sys, time
from robsweep.orchestrator.cli import main as cli
from robsweep.tasks.verification import solve
from robsweep.tasks.verification.optimise import solver
PATCH
sys.argv = ["robsweep", "run", "sweep.yaml", "--address", "inline"]
cli.main()
"""
SLOW = """
once = solve.solve_one
def slowly(*words):
    time.sleep(0.4)
    return once(*words)
solve.solve_one = slowly
"""
FIRST_HANGS = '''
solver.COMMAND = ("-c", """
import os, pathlib, runpy, time
first = pathlib.Path("first.pid")
if not first.exists():
    first.with_suffix(".new").write_text(str(os.getpid()))
    first.with_suffix(".new").rename(first)
    time.sleep(600)
runpy.run_module("robsweep.tasks.verification.optimise.solver_process", run_name="__main__")
""")
'''


def start(folder, patch=""):
    (folder / "sweep.yaml").write_text(ONE)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("a") as log:
        command = [sys.executable, "-c", RUNNER.replace("PATCH", patch)]
        return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)


def wait_for(what, process, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def solves_in(store):
    """Samples that committed solves are about."""
    if not (store / "store.json").exists():
        return []
    parts = Store.open(store).snapshot().parts("verification")
    return [sample for part in parts for key, ranges in part.covers.items()
            if key.startswith("solve-") for sample, _ in ranges]  # fmt: skip


@pytest.mark.parametrize("how", ["drain", "now", "kill -9"])
def test_a_run_stopped_in_the_middle_of_solves_goes_on_with_the_others(tmp_path, how):
    store = tmp_path / "results"
    process = start(tmp_path, SLOW)
    wait_for(lambda: solves_in(store), process)
    if how == "kill -9":
        process.kill()
        process.wait()
    else:
        process.send_signal(signal.SIGINT)
        if how == "now":
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
    before = solved(store)
    assert before
    assert set(before) < left_open(store)
    assert start(tmp_path).wait(120) == 0
    after = solved(store)
    assert set(after) == left_open(store)
    assert {len(verdicts) for verdicts in after.values()} == {1}
    assert all(after[sample] == verdicts for sample, verdicts in before.items())
    assert not check(Store.open(store)).problems


def test_a_killed_solver_is_an_error_of_its_sample_only(tmp_path):
    process = start(tmp_path, FIRST_HANGS)
    pid = wait_for(lambda: (tmp_path / "first.pid").exists()
                   and (tmp_path / "first.pid").read_text(), process)  # fmt: skip
    os.kill(int(pid), signal.SIGKILL)
    assert process.wait(120) == 0
    found = solved(tmp_path / "results")
    verdicts = [verdict for each in found.values() for verdict in each]
    assert verdicts.count("error") == 1
    assert set(verdicts) <= {"error", "verified", "falsified"}
    assert len(verdicts) == len(left_open(tmp_path / "results")) > 1


CROSSED = ONE.replace("20}", "20, cross_check: 0.2}")


def test_a_share_of_samples_is_decided_by_another_engine_too(robsweep):
    once = run(robsweep, ONE)
    assert run(robsweep, CROSSED) == once  # nothing is measured anew but the share
    rows = all_rows("results", "verification").to_pylist()
    crossed = {r["sample"]: r for r in rows if r["measurement_id"].startswith("cross_check-")}
    assert len(crossed) == 6
    decided = {r["sample"]: r["verdict"] for r in rows if r["verdict"] in PROOFS}
    for sample, row in crossed.items():
        assert row["verdict"] == decided[sample]
        assert row["decided_by"] == "cross_check"
    code, out, _ = robsweep("status", "small", "--json")
    assert code == 0
    assert '"cross_check"' in out
    assert not list(check(Store.existing(Path("results"))).problems)


def test_a_wrong_engine_is_told_and_ends_with_3(robsweep, monkeypatch):
    """One that calls every sample broken, which is stored as it says."""
    from robsweep.tasks.verification import mipverify
    from robsweep.tasks.verification.verdicts import Row

    lie = Row("falsified", "milp", counterexample_check="ok")
    monkeypatch.setattr(mipverify, "solve_one", lambda *_: (lie, None))
    Path("sweep.yaml").write_text(CROSSED)
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 3
    assert "two engines disagree" in err
    assert "cross_check" in err
    rows = all_rows("results", "verification").to_pylist()
    verdicts = {}
    for row in rows:
        verdicts.setdefault(row["sample"], set()).add(row["verdict"])
    assert any({"verified", "falsified"} <= each for each in verdicts.values())
    assert robsweep("run", "sweep.yaml")[0] == 3  # it stays so
