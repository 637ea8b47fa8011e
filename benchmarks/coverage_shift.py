"""How often the 95 % intervals of errors under corruptions cover the truth.

python benchmarks/coverage_shift.py [--draws 1000]

Models err on a sample under several corruptions together: errors are thresholds on normal numbers
that share a part, `alike`, of their variance.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from robsweep.orchestrator.results.metrics.shift import against, mean_error

SIZES = (100, 500, 2000)
LEVELS = (0.01, 0.05, 0.2, 0.5)  # error rates of the baseline, in the middle of the severities
ALIKE = (0.0, 0.5, 0.9)
SEVERITIES = np.array([0.5, 1.0, 1.5])
CORRUPTIONS = 5
BETTER = 0.8  # the model's error rate, of the baseline's
CLEAN = 0.25  # of the middle severity


def drawn(rates: NDArray[np.float64], n: int, alike: float, random: np.random.Generator) -> NDArray:
    """Errors (n, len(rates))."""
    shared = np.sqrt(alike) * random.standard_normal((n, 1))
    own = np.sqrt(1 - alike) * random.standard_normal((n, len(rates)))
    return (shared + own < ndtri(rates)).astype(np.float64)


def coverage(n: int, level: float, alike: float, draws: int) -> dict[str, tuple[float, float]]:
    """Metric -> share of its intervals that hold the truth, share of draws that have one."""
    random = np.random.default_rng([n, round(level * 100), round(alike * 100)])
    theirs = np.tile(level * SEVERITIES, CORRUPTIONS)
    clean = level * CLEAN
    rates = np.concatenate([BETTER * theirs, theirs, [BETTER * clean, clean]])
    truth = {"mean": BETTER * level, "normalised": BETTER, "relative": BETTER}
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(draws):
        errors = drawn(rates, n, alike, random)
        own, base = (
            np.split(errors[:, i * len(theirs) : (i + 1) * len(theirs)], CORRUPTIONS, axis=1)
            for i in (0, 1)
        )
        found = {
            "mean": mean_error(own),
            "normalised": against(own, base),
            "relative": against(own, base, (errors[:, -2], errors[:, -1])),
        }
        for name, (_, low, high) in found.items():
            if not np.isnan(low):
                held[name].append(bool(low <= truth[name] <= high))
    return {
        name: (float(np.mean(inside)) if inside else float("nan"), len(inside) / draws)
        for name, inside in held.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print("|     n | error | alike | mean | normalised | relative |")
    print("|---|---|---|---|---|---|")
    for n in SIZES:
        for level in LEVELS:
            for alike in ALIKE:
                found = coverage(n, level, alike, draws)
                cells = " | ".join(
                    f"{100 * share:.1f}" + (f" ({100 * some:.0f} %)" if some < 1 else "")
                    for share, some in found.values()
                )
                print(f"| {n} | {level} | {alike} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
