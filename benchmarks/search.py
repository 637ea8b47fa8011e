"""CPU seconds until bounds and searches decide public instances, whatever else the machine does.

    OMP_NUM_THREADS=1 python benchmarks/search.py FOLDER/instances.csv [--only TEXT ...]

One thread, without the MILP, in this process: time limits are of CPU time too. `--only` takes the
lines that contain a text. Prints Markdown; exits 1 if an answer is wrong.
"""

import argparse
import csv
import resource
import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.instance import verify
from robsweep.tasks.verification.optimise.solver import solver_named

_STAGES = frozenset(STAGES) - {"milp"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("instances", type=Path, nargs="+")
    parser.add_argument("--only", nargs="*", default=[""])
    options = parser.parse_args()
    torch.set_num_threads(1)
    solver_named("scip")  # so that its import is in no instance's time
    wrong = 0
    print("| network | property | expected | answer | decided by | CPU seconds |")
    print("|---|---|---|---|---|---|")
    for file in options.instances:
        with file.open() as stream:
            for row in csv.DictReader(stream):
                line = " ".join(row.values())
                if any(text in line for text in options.only):
                    wrong += _asked(file.parent, row)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{wrong} wrong; {peak:.1f} GiB at most.")
    return 1 if wrong else 0


def _asked(folder: Path, row: dict[str, str]) -> bool:
    """Whether the answer is a wrong one."""
    files = str(folder / row["onnx"]), str(folder / row["vnnlib"])
    started = time.process_time()
    with patch("time.monotonic", time.process_time):
        found = verify(*files, float(row["timeout_seconds"]), stages=_STAGES)
    seconds = time.process_time() - started
    cells = row["onnx"], row["vnnlib"], row["expected"], found.answer, found.decided_by
    print(f"| {' | '.join(cells)} | {seconds:.2f} |", flush=True)
    return found.answer in ("sat", "unsat") and found.answer != row["expected"]


if __name__ == "__main__":
    sys.exit(main())
