"""Runs a verification sweep on an empty store: who decided what, how fast, in what memory?

    python benchmarks/verification.py sweeps/mipverify.yaml
    python benchmarks/verification.py --instances FOLDER/instances.csv

Sweeps need ROBSWEEP_DATA_DIR and ROBSWEEP_NETS_DIR. The second form runs `robsweep verify` and
compares a column `expected`. Prints Markdown; exits 1 if a run fails or an answer is wrong or
late.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from robsweep.orchestrator.results.results import Results

RANK = {"verified": 3, "falsified": 3, "misclassified": 3, "timeout": 2, "unknown": 1}
COMMAND = [sys.executable, "-m", "robsweep"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, nargs="?")
    parser.add_argument("--instances", type=Path, nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.instances:
            out = Path(folder) / "ours.csv"
            return max([instances(file, out) for file in options.instances])
        return sweep(options.sweep, Path(folder) / "store")


def sweep(file: Path, store: Path) -> int:
    started = time.monotonic()
    run = [*COMMAND, "run", str(file), "--store", str(store)]
    code = subprocess.run(run, check=False).returncode
    wall = time.monotonic() - started
    results = Results.open(store)
    rows = results.rows("verification").collect()
    memory = results.rows("jobs").select(pl.col("peak_memory_bytes").max()).collect().item()
    print(
        f"\n`{file}`: {wall:.0f} s in all, Ray and store included, on {os.cpu_count()} cores ",
        end="",
    )
    print(f"(load {os.getloadavg()[0]:.1f}); largest worker {memory / 2**20:.0f} MiB.\n")
    rank = pl.col("verdict").replace_strict(RANK, default=0)
    final = rows.sort(rank, descending=True).unique("sample", keep="first", maintain_order=True)
    counts = final.group_by("verdict", "decided_by").len().sort("verdict", "len", descending=True)
    print("| verdict | decided by | samples |\n|---|---|---|")
    for verdict, stage, count in counts.iter_rows():
        print(f"| {verdict} | {stage or ''} | {count} |")
    each = rows.group_by("sample").agg(pl.col("seconds").sum())["seconds"]
    print(f"\nSeconds a sample: median {each.median():.3f}, mean {each.mean():.3f}, ", end="")
    print(f"largest {each.max():.1f}; {rows['branches'].sum()} subproblems, ", end="")
    print(f"{rows['nodes'].sum()} MILP nodes.")
    return code


def instances(file: Path, out: Path) -> int:
    code = subprocess.run(
        [*COMMAND, "verify", "--instances", str(file), "--out", str(out)],
        check=False,
        stdout=subprocess.DEVNULL,
    ).returncode
    with file.open() as asked, out.open() as given:
        pairs = list(zip(csv.DictReader(asked), csv.DictReader(given), strict=True))
    print(
        "| network | property | expected | answer | seconds | allowed |\n|---|---|---|---|---|---|"
    )
    wrong = 0
    for ask, answer in pairs:
        expected = ask.get("expected", "")
        late = float(answer["seconds"]) > float(ask["timeout_seconds"])
        bad = late or (expected != "" and expected != answer["verdict"])
        wrong += bad
        cells = (ask["onnx"], ask["vnnlib"], expected, answer["verdict"], answer["seconds"])
        print(f"| {' | '.join(cells)} | {ask['timeout_seconds']} |")
    print(f"\n{len(pairs) - wrong} of {len(pairs)} right and in time.\n")
    return code or int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
