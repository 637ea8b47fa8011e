"""How often each 95 % interval that tables print covers the truth.

python benchmarks/coverage.py                       all of them, 200 draws of each setting
python benchmarks/coverage.py --draws 2000 --only ece median
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from robsweep.orchestrator.results.intervals import (
    Interval,
    order_statistic_median,
    spearman,
    wilson,
)
from robsweep.orchestrator.results.intervals.debiased import (
    binned,
    ece_interval,
    few_errors,
    rms_interval,
)
from robsweep.orchestrator.results.metrics.calibration_bins import equal_mass, equal_width
from robsweep.orchestrator.results.metrics.calibration_smooth import smooth_ece

Floats = NDArray[np.float64]
Random = np.random.Generator

SIZES = (100, 500, 10_000)
MANY = 400_000  # samples that stand for the population


class Setting(NamedTuple):
    """A population of predictions: how confidence is spread, and how far off it is."""

    spread: str
    shape: str
    by: float

    def __str__(self) -> str:
        return f"{self.spread}, {self.shape}" + (f" by {self.by:g}" if self.by else "")


class Covered(NamedTuple):
    """Over the draws of one setting."""

    share: float  # of intervals that hold the truth
    above: float  # that lie above it
    width: float  # median
    none: float  # share of draws without an interval


SETTINGS = [
    Setting(spread, shape, by)
    for spread in ("spread", "accuracy .9", "accuracy .98")
    for shape, by in (
        ("calibrated", 0.0),
        ("overconfident", 0.01),
        ("overconfident", 0.03),
        ("overconfident", 0.08),
        ("underconfident", 0.03),
        ("mixed", 0.03),
        ("too sharp", 1.5),
        ("too flat", 0.7),
    )
]


def confidences(spread: str, n: int, random: Random) -> Floats:
    """(n,), as those of a poor model of ten classes, of a fair and of a good one."""
    if spread == "spread":
        return random.uniform(0.1, 1, n)
    if spread == "accuracy .9":
        return 1 - random.beta(1, 9, n)
    return 1 - random.beta(0.5, 24.5, n)


def chance(setting: Setting, confidence: Floats) -> Floats:
    """(n,), how often predictions of such confidence are right."""
    if setting.shape in {"too sharp", "too flat"}:  # logits are `by` times what they should be
        c = np.clip(confidence, 1e-12, 1 - 1e-12)
        return 1 / (1 + ((1 - c) / c) ** (1 / setting.by))
    sign = {"overconfident": -1, "underconfident": 1, "calibrated": 0}.get(setting.shape)
    if sign is None:  # every other bin
        sign = np.where(np.floor(confidence * 15) % 2 == 0, 1, -1)
    return np.clip(confidence + sign * setting.by, 0, 1)


def _cells_truth(bins: Callable[[Floats], NDArray[np.int64]], power: int) -> Callable[..., float]:
    def truth(confidence: Floats, right: Floats) -> float:
        bin_of = bins(confidence)
        counts = np.maximum(np.bincount(bin_of), 1)
        gap = np.abs(np.bincount(bin_of, weights=confidence - right) / counts)
        return float((counts / len(confidence) @ gap**power) ** (1 / power))

    return truth


def _smooth_truth(confidence: Floats, right: Floats) -> float:
    return smooth_ece(confidence, right).seen.value


CALIBRATION: dict[str, tuple[Callable[..., Interval], Callable[..., float]]] = {
    "ece": (lambda c, y: ece_interval(binned(c, y, equal_width(c))), _cells_truth(equal_width, 1)),
    "ece_equal_mass": (
        lambda c, y: ece_interval(binned(c, y, equal_mass(c))),
        _cells_truth(equal_mass, 1),
    ),
    "rms_ce": (
        lambda c, y: rms_interval(binned(c, y, equal_width(c))),
        _cells_truth(equal_width, 2),
    ),
    "smooth_ece": (lambda c, y: smooth_ece(c, y).seen, _smooth_truth),
}


def calibration_coverage(name: str, setting: Setting, n: int, draws: int, seed: int = 0) -> Covered:
    """Of one error in one setting; draws that say too little for an interval are left out."""
    random = np.random.default_rng(seed)
    interval, truth_of = CALIBRATION[name]
    confidence = confidences(setting.spread, MANY, random)
    truth = truth_of(confidence, chance(setting, confidence))
    if setting.shape == "calibrated":
        truth = 0.0
    found = []
    for _ in range(draws):
        c = confidences(setting.spread, n, random)
        right = random.random(n) < chance(setting, c)
        if not few_errors(c, right):
            found.append(interval(c, right))
    return covered(found, truth, draws)


def covered(found: list[Interval], truth: float, draws: int) -> Covered:
    """Counts intervals that hold the truth."""
    if not found:
        return Covered(float("nan"), float("nan"), float("nan"), 1.0)
    low, high = np.array([(one.low, one.high) for one in found]).T
    inside = (low <= truth + 1e-12) & (truth <= high + 1e-12)
    return Covered(
        float(inside.mean()),
        float((low > truth + 1e-12).mean()),
        float(np.median(high - low)),
        1 - len(found) / draws,
    )


def _wilson(random: Random, n: int, p: float) -> tuple[Interval, float]:
    return wilson(int(random.binomial(n, p)), n), p


def _median(random: Random, n: int, p: float) -> tuple[Interval, float]:
    return order_statistic_median(random.gamma(p, size=n)), float(gammaincinv(p, 0.5))


def _spearman(random: Random, n: int, p: float) -> tuple[Interval, float]:
    x, noise = random.normal(size=(2, n))
    ranks = 6 / np.pi * np.arcsin(p / 2)  # of two normals with correlation p
    return spearman(x, p * x + np.sqrt(1 - p**2) * noise), float(ranks)


OTHERS: dict[str, tuple[Callable[[Random, int, float], tuple[Interval, float]], list[float]]] = {
    "wilson": (_wilson, [0.5, 0.9, 0.98]),
    "median": (_median, [1.0, 4.0]),
    "spearman": (_spearman, [0.0, 0.5, 0.9]),
}


def other_coverage(name: str, n: int, p: float, draws: int, seed: int = 0) -> Covered:
    """Of an interval that is no calibration error, at one true parameter."""
    random = np.random.default_rng(seed)
    found = [OTHERS[name][0](random, n, p) for _ in range(draws)]
    return covered([interval for interval, _ in found], found[0][1], draws)


def rows(names: list[str], draws: int, seed: int) -> Iterator[str]:
    """Lines of a Markdown table, interval by interval."""
    cells = " | ".join(f"n = {n}" for n in SIZES)
    yield f"| interval | setting | {cells} |"
    yield "|---|---|" + "---|" * len(SIZES)
    for name in names:
        if name in OTHERS:
            for p in OTHERS[name][1]:
                many = draws * 5  # they are quick
                found = [other_coverage(name, n, p, many, seed) for n in SIZES]
                yield _row(name, f"{p:g}", found)
        else:
            for setting in SETTINGS:
                found = [calibration_coverage(name, setting, n, draws, seed) for n in SIZES]
                yield _row(name, str(setting), found)


def _row(name: str, setting: str, found: list[Covered]) -> str:
    shown = [
        "few errors" if one.none > 0.5 else f"{100 * one.share:.1f} ({100 * one.above:.1f})"
        for one in found
    ]
    return f"| {name} | {setting} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[*OTHERS, *CALIBRATION])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for line in rows(arguments.only, arguments.draws, arguments.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
