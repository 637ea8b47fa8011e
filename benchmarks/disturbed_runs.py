"""Do disturbed runs of a sweep end with the rows of an undisturbed one? On real MNIST, through Ray.

    ROBSWEEP_DATA_DIR=... python benchmarks/disturbed_runs.py [sweeps/mnist.yaml]

Runs the sweep undisturbed; stopped by Ctrl-C and by kill -9 in the middle and run again; beside an
overlapping sweep on one store; and, without its two slowest attacks and its verification, with
other slice sizes and numbers of workers. Compares every table bitwise, except times, attempts and
the like. Exits 1 if anything differs. Verification rows that a solver timed out on may differ, and
are compared without them.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.store.parts import read_part
from robsweep.orchestrator.store.store import Store

TABLES = ("models", "training", "predictions", "attacks", "ood_scores", "calibration")
VOLATILE = {"seconds", "started_at", "host", "attempt", "peak_memory_bytes", "expected_seconds"}


def rows(store: Path, table: str) -> pa.Table:
    opened = Store.open(store)
    pieces = [read_part(opened.files, part.path) for part in opened.snapshot().parts(table)]
    found = pa.concat_tables(pieces)
    found = found.select([name for name in found.column_names if name not in VOLATILE])
    flat = [f.name for f in found.schema if not pa.types.is_nested(f.type)]
    return found.sort_by([(name, "ascending") for name in flat]).combine_chunks()


def verdicts(store: Path) -> pa.Table:
    found = rows(store, "verification").select(["model_id", "eps", "sample", "verdict"])
    proofs = pa.array(["verified", "falsified", "misclassified"])
    return found.filter(pc.is_in(found["verdict"], proofs))


class Runs:
    def __init__(self, sweep: Path, folder: Path) -> None:
        self.text = sweep.read_text()
        self.folder = folder
        self.failed = 0

    def start(self, store: str, text: str | None = None) -> "subprocess.Popen[bytes]":
        text = text or self.text
        file = self.folder / f"{store}-{abs(hash(text))}.yaml"
        file.write_text(text)
        command = [sys.executable, "-m", "robsweep", "run", str(file)]
        command += ["--store", str(self.folder / store)]
        with (self.folder / f"{store}.log").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))

    def finish(self, store: str, text: str | None = None) -> float:
        start = time.perf_counter()
        code = self.start(store, text).wait()
        if code:
            print((self.folder / f"{store}.log").read_text()[-2000:])
            raise SystemExit(f"{store}: exit code {code}")
        return time.perf_counter() - start

    def stop_in_the_middle(self, store: str, how: signal.Signals, attacks: int) -> int:
        """Stops a run once so many attack rows are committed; returns how many then were."""
        process = self.start(store)
        while self.attack_rows(store) < attacks:
            if process.poll() is not None:
                raise SystemExit(f"{store}: ended too soon")
            time.sleep(0.2)
        process.send_signal(how)
        process.wait()
        return self.attack_rows(store)

    def attack_rows(self, store: str) -> int:
        if not (self.folder / store / "store.json").exists():
            return 0
        snapshot = Store.open(self.folder / store).snapshot()
        return sum(part.rows for part in snapshot.parts("attacks"))

    def compare(self, what: str, store: str, *, whole: bool = True) -> None:
        """With the undisturbed run; a sweep that is not `whole`, by the measurements it has."""
        here, there = self.folder / store, self.folder / "undisturbed"
        differ = []
        for name in TABLES:
            found, expected = rows(here, name), rows(there, name)
            if not whole:
                ids = pc.unique(found["measurement_id"])
                expected = expected.filter(pc.is_in(expected["measurement_id"], ids))
            if not found.equals(expected):
                differ.append(name)
        if whole and not verdicts(here).equals(verdicts(there)):
            differ.append("verdicts")
        problems = check(Store.open(here)).problems
        jobs = rows(here, "jobs").to_pylist()
        done = [
            (job["measurement_id"], job["start"], job["stop"])
            for job in jobs
            if job["status"] == "done" and job["kind"] not in {"preflight", "solve"}
        ]
        twice = len(done) - len(set(done))
        good = not differ and not problems and not twice
        self.failed += not good
        verdict = "bitwise equal" if good else f"DIFFERS: {differ} {problems} {twice} jobs twice"
        print(f"{what}: {verdict}; {len(done)} jobs done", flush=True)


def main() -> None:
    sweep = Path(sys.argv[1] if len(sys.argv) > 1 else "sweeps/mnist.yaml")
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(sweep, Path(folder))
        print(f"undisturbed: {runs.finish('undisturbed'):.0f} s", flush=True)
        total = runs.attack_rows("undisturbed")
        for name, how in (("Ctrl-C", signal.SIGINT), ("kill -9", signal.SIGKILL)):
            store = name.replace(" ", "")
            had = runs.stop_in_the_middle(store, how, total // 3)
            seconds = runs.finish(store)
            runs.compare(
                f"{name} at {had} of {total} attack rows, again for {seconds:.0f} s", store
            )
        other = runs.text.replace("name: mnist", "name: other").replace(
            "samples: 1000", "samples: 500"
        )
        processes = [runs.start("both"), runs.start("both", other)]
        codes = [process.wait() for process in processes]
        runs.compare(f"two overlapping sweeps at once (exit codes {codes})", "both")
        boards = [
            Results.open(runs.folder / store).leaderboard("mnist").drop("bracket_n")
            for store in ("undisturbed", "both")
        ]
        same = boards[0].equals(boards[1])
        runs.failed += not same
        print(f"their leaderboards: {'equal' if same else 'DIFFER'}", flush=True)
        lines = runs.text[: runs.text.index("verification:")].splitlines()
        quick = [line for line in lines if "L2DeepFool" not in line and "L2PGD" not in line]
        for size, workers in ((250, 1), (500, 2), (1000, 1), (1000, 2)):
            cpus = 2 if workers == 1 else 1
            kinds = ", ".join(
                f"{kind}: {{samples_per_job: {size}, num_cpus: {cpus}, threads: 1}}"
                for kind in ("attack", "predict", "score")
            )
            text = "\n".join(quick) + f"\nresources: {{{kinds}}}\n"
            store = f"slices{size}x{workers}"
            runs.finish(store, text)
            runs.compare(f"slices of {size}, {workers} at a time", store, whole=False)
    raise SystemExit(1 if runs.failed else 0)


if __name__ == "__main__":
    main()
