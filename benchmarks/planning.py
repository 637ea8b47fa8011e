"""Time to plan a sweep of 2,000 measurements x 10,000 samples, and of `robsweep --help`.

python benchmarks/planning.py
"""

import subprocess
import sys
import time
from pathlib import Path

from robsweep.orchestrator.plan.next_jobs import next_jobs
from robsweep.orchestrator.plan.plan import Places, plan
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import parse

SWEEP = """\
name: large
dataset: mnist
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
models:
  mlp: {hidden: [[32], [64], [128], [256], [512]]}
trainings:
  standard: {epochs: [5, 10]}
attacks:
  pgd: {attack: LinfPGD, eps: [0.1, 0.2, 0.3], steps: [10, 20, 40], seed: [0, 1, 2, 3]}
  l2: {attack: L2PGD, eps: [0.5, 1.0], steps: [10, 20, 40], restarts: [1, 2]}
calibration:
  temperature: {}
"""


def main() -> None:
    start = time.perf_counter()
    spec = from_document(parse(SWEEP, "large.yaml"), Path.cwd())
    planned = plan(spec, Places(Path("data")))
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    jobs = sum(
        1
        for _ in next_jobs(
            planned, lambda key: ((0, 1),) if key[:5] == "train" else (), {}, {}, lambda _: 1.0
        )
    )
    cutting = time.perf_counter() - start
    print(f"{len(planned.measurements)} measurements planned in {seconds:.2f} s from YAML text")
    print(f"{jobs} jobs cut from them in {cutting:.2f} s")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "robsweep", "--help"], check=True, capture_output=True
        )
        times.append(time.perf_counter() - start)
    print(f"robsweep --help: median {sorted(times)[2]:.2f} s of 5")


if __name__ == "__main__":
    main()
