"""How often the intervals of OOD and error detection, and of differences, cover the truth.

python benchmarks/coverage_detection.py                 all of them, 1,000 draws each
python benchmarks/coverage_detection.py --draws 200 --only aurc
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.comparisons.metrics import METRICS, compare
from robsweep.orchestrator.results.comparisons.samples import Part
from robsweep.orchestrator.results.metrics.detection.selective import selective
from robsweep.orchestrator.results.metrics.ood import detection

Floats = NDArray[np.float64]
Random = np.random.Generator

MANY = 2_000_000  # samples that stand for the population
DETECTION = ("auroc", "aupr_out", "aupr_in", "fpr95_ood_pos", "fpr95_id_pos")
SELECTIVE = ("aurc", "e_aurc", "error_auroc")
DIFFERENCES = ("clean_accuracy", "auroc", "aurc", "ece", "median_distance")
SHAPES = (
    ("gaussian", 0.5), ("gaussian", 1.5), ("gaussian", 3.0), ("ties", 1.5), ("exponential", 3.0),
)  # fmt: skip
SIZES = ((100, 100), (500, 500), (500, 10_000), (10_000, 500))


class Line(NamedTuple):
    """One interval in one setting."""

    metric: str
    setting: str
    n: str
    truth: float
    covered: float


def _scores(shape: str, shift: float, n: int, random: Random) -> Floats:
    """(n,), of OOD samples; of ID samples without a shift."""
    if shape == "exponential":
        return random.exponential(1.0 + shift, n)
    found = random.normal(shift, 1, n)
    return found.round(1) if shape == "ties" else found


def detection_lines(draws: int, random: Random) -> Iterator[Line]:
    for shape, shift in SHAPES:
        for m, n in SIZES:
            truth = _detected(shape, shift, m, n, random)
            covered = np.zeros(5)
            for _ in range(draws):
                found = detection(_scores(shape, shift, m, random), _scores(shape, 0, n, random))
                covered += [i.low <= t <= i.high for i, t in zip(found[:5], truth, strict=True)]
            for name, value, share in zip(DETECTION, truth, covered / draws, strict=True):
                yield Line(name, f"{shape}, {shift:g}", f"{m} OOD, {n} ID", value, share)


def _detected(shape: str, shift: float, m: int, n: int, random: Random) -> list[float]:
    """Of the population, in the proportion of the samples: AUPR depends on it."""
    scale = MANY // (m + n)
    sides = _scores(shape, shift, m * scale, random), _scores(shape, 0, n * scale, random)
    return [interval.value for interval in detection(*sides)[:5]]


def selective_lines(draws: int, random: Random) -> Iterator[Line]:
    for power, rate in ((4, 0.01), (4, 0.1), (0, 0.02), (0, 0.3), (1, 0.4)):
        for n in (200, 1000, 10_000):
            truth = _values(selective(*_doubts(power, rate, MANY, random)))
            covered = np.zeros(3)
            for _ in range(draws):
                found = selective(*_doubts(power, rate, n, random))
                limits = (found.aurc, found.e_aurc, found.auroc)
                covered += [
                    not i.low > t and not i.high < t for i, t in zip(limits, truth, strict=True)
                ]
            for name, value, share in zip(SELECTIVE, truth, covered / draws, strict=True):
                setting = f"{rate:.0%} wrong, by doubt^{power}"
                yield Line(name, setting, str(n), value, share)


def _doubts(power: int, rate: float, n: int, random: Random) -> tuple[Floats, NDArray[np.bool_]]:
    doubt = random.random(n)
    return doubt, random.random(n) < rate * (power + 1) * doubt**power


def _values(found: object) -> list[float]:
    return [getattr(found, name).value for name in ("aurc", "e_aurc", "auroc")]


def difference_lines(draws: int, random: Random) -> Iterator[Line]:
    """Of two models on the same samples, whose noise is partly the same."""
    for name in DIFFERENCES:
        for apart in (0.0, 0.3):
            for n in (200, 2000):
                whole = [_model(name, MANY // 4, shift, random) for shift in (0.0, apart)]
                sizes = [np.ones((len(part.samples), 1), np.float32) for part in whole[0]]
                truth = float(np.diff(METRICS[name].of(whole, sizes)[::-1, 0])[0])
                covered = 0
                for _ in range(draws):
                    seed = int(random.integers(2**32))
                    pair = [
                        _model(name, n, shift, np.random.default_rng(seed), own)
                        for own, shift in enumerate((0.0, apart))
                    ]
                    tested = compare(METRICS[name], pair)
                    covered += bool(tested.low[0, 1] <= truth <= tested.high[0, 1])
                yield Line(f"difference of {name}", f"apart by {apart:g}", str(n), truth,
                           covered / draws)  # fmt: skip


def _model(name: str, n: int, shift: float, shared: Random, own: int = 0) -> tuple[Part, ...]:
    """One of two models: the same draws of `shared`, and noise of its own."""
    samples = np.arange(n)
    common, noise = shared.normal(0, 1, n), shared.normal(0, 0.5, (2, n))[own]
    if name == "auroc":
        ood, more = shared.normal(1.5, 1, n), shared.normal(0, 0.5, (2, n))[own]
        return (
            Part(samples, (ood - shift + more)[:, None]),
            Part(samples, (common + noise)[:, None]),
        )
    level = common + noise - shift
    if name == "median_distance":
        return (Part(samples, np.exp(level)[:, None]),)
    luck = shared.random(n)
    confidence = 1 / (1 + np.exp(-1.5 * level - 1.5))
    right = luck < 1 / (1 + np.exp(-level - 1.5))
    columns = {
        "clean_accuracy": (right,), "aurc": (-confidence, ~right), "ece": (confidence, right),
    }[name]  # fmt: skip
    return (Part(samples, np.stack([np.asarray(c, np.float64) for c in columns], axis=1)),)


PARTS: dict[str, Callable[[int, Random], Iterator[Line]]] = {
    "detection": detection_lines,
    "aurc": selective_lines,
    "differences": difference_lines,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=[*PARTS])
    chosen = parser.parse_args()
    print("| interval | setting | n | truth | covered |")
    print("|:--|:--|:--|--:|--:|")
    for name, lines in PARTS.items():
        if chosen.only in (None, name):
            for line in lines(chosen.draws, np.random.default_rng(0)):
                print(
                    f"| {line.metric} | {line.setting} | {line.n} | {line.truth:.4f} "
                    f"| {line.covered:.1%} |", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
