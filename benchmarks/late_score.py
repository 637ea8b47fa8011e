"""What one more OOD score costs a finished sweep: 10 models x 3 sets x 10,000 samples.

python benchmarks/late_score.py     needs MNIST, Fashion-MNIST and notMNIST in ROBSWEEP_DATA_DIR
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SWEEP = """
name: late
dataset: mnist
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
models:
  mlp: {{hidden: [32]}}
trainings:
  standard: {{epochs: 1, train_samples: 2000}}
ood:
  energy: {{sets: [notmnist, fashion_mnist]}}
  mahalanobis: {{sets: [notmnist, fashion_mnist], fit_samples: 2000}}
{more}
"""
ADDED = {
    "logit score": "  entropy: {sets: [notmnist, fashion_mnist]}",
    "feature score": "  knn: {sets: [notmnist, fashion_mnist], fit_samples: 2000}",
}


class Cost(NamedTuple):
    wall_seconds: float
    cpu_seconds: float


def run(folder: Path, more: str) -> Cost:
    """The whole command, start-up and closing leaderboard included."""
    file = folder / "late.yaml"
    file.write_text(SWEEP.format(more=more))
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = ["run", str(file), "--store", str(folder / "store"), "--address", "inline"]
    subprocess.run([sys.executable, "-m", "robsweep", *command], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - started, cpu)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, more = Path(name), ""
        whole = run(folder, more)
        print(
            f"whole sweep: {whole.wall_seconds:.1f} s, {whole.cpu_seconds:.1f} s of CPU", flush=True
        )
        nothing = run(folder, more)
        print(f"run again, nothing to do: {nothing.wall_seconds:.1f} s, {nothing.cpu_seconds:.1f}")
        for what, line in ADDED.items():
            more += line + "\n"
            cost = run(folder, more)
            print(
                f"+ a {what}: {cost.wall_seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU",
                flush=True,
            )


if __name__ == "__main__":
    main()
