"""Minimal Linf distances of WK17a against those that MIPVerify publishes.

    python benchmarks/distances.py [--limit 240] [--samples 8 92 ...]

Needs ROBSWEEP_DATA_DIR and ROBSWEEP_NETS_DIR. `question: closest` on MNIST test images, counted
from 0, one thread. Prints Markdown; exits 1 if a published distance lies outside of its bracket.
"""

import argparse
import sys

import torch
from parity import wk17a

from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.questions.closest import closest_one
from robsweep.tasks.verification.solve import Question

PUBLISHED = {
    247: 0.0, 259: 0.0, 92: 0.036517, 149: 0.04426, 359: 0.047797, 448: 0.07622, 115: 0.09373,
    8: 0.09400,
}  # fmt: skip
TOLERANCE = 1e-4  # of what is published


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=240.0, help="seconds a sample")
    parser.add_argument("--samples", type=int, nargs="*", default=[*PUBLISHED])
    options = parser.parse_args()
    torch.set_num_threads(1)
    subject, (images, labels) = wk17a()
    outside = 0
    print("| sample | published | lower, reals | upper | lower, as it runs | meet | by | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for i in options.samples:
        question = Question(subject, images[i : i + 1], labels[i : i + 1], Robustness(None))
        row, _ = closest_one(question, "linf", Method(), options.limit)
        low, high = row.distance_lower_reals, row.distance_upper
        assert low is not None
        assert high is not None
        outside += not low - TOLERANCE <= PUBLISHED[i] <= high + TOLERANCE
        meet = "yes" if row.exact else f"no: {(high - low) / high:.1%} apart"
        print(
            f"| {i} | {PUBLISHED[i]} | {low:.6f} | {high:.6f} | {row.distance_lower:.4f} | {meet} "
            f"| {row.decided_by} | {row.seconds:.0f} |", flush=True,
        )  # fmt: skip
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main())
