"""The engine against MIPVerify's recipe, `verifier: mipverify`, on one machine, in turns.

    python benchmarks/parity.py --samples 500 --limit 120 --out rows.jsonl

Needs ROBSWEEP_DATA_DIR and ROBSWEEP_NETS_DIR. WK17a at Linf 0.1 on the first MNIST test images; one
thread each. Groups of samples take turns: the engine screens a group and solves what is left, then
the recipe solves each of them. Processes that stay are started before. The same command goes on
where it was stopped; --report only prints. Exits 1 if two verdicts contradict each other.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.verification import mipverify
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import Subject, subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from robsweep.tasks.verification.verdicts import Row

EPS, SHAPE = 0.1, (1, 28, 28)
ENGINES = ("engine", "mipverify")
# Of MIPVerify.jl itself, on the first 500 images.
PUBLISHED_CALLS = 99_067
DECIDED = {"verified", "falsified", "misclassified"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a sample")
    parser.add_argument("--group", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if not options.report:
        measure(options.samples, options.limit, options.group, options.out)
    return report(options.out)


def wk17a() -> tuple[Subject, Labelled]:
    """The network and the MNIST test images."""
    data = load("mnist", "test", os.environ["ROBSWEEP_DATA_DIR"])
    weights = Path(os.environ["ROBSWEEP_NETS_DIR"]) / "wk17a_linf0.1.safetensors"
    ref = ModelRef("wk17a", "wk17a", {}, SHAPE, 10, weights=str(weights))
    return subject_of(load_model(ref, None, torch.device("cpu")).model, SHAPE), data


def measure(samples: int, limit: float, size: int, out: Path) -> None:
    torch.set_num_threads(1)
    subject, (images, labels) = wk17a()
    done = {(row["name"], row["sample"]) for row in stored(out)}
    warm = Question(subject, images[:1], labels[:1], Robustness(EPS))
    mipverify.solve_one(mipverify.Recipe(), warm, limit)
    for start in range(0, samples, size):
        group = range(start, min(start + size, samples))
        for name in ENGINES:
            if all((name, i) in done for i in group):
                continue
            one = slice(group.start, group.stop)
            run = by_engine if name == "engine" else by_recipe
            with out.open("a") as stream:
                for i, row, cpu in run(subject, images[one], labels[one], limit):
                    line = {**row._asdict(), "name": name, "sample": start + i, "cpu": cpu}
                    print(json.dumps(line), file=stream, flush=True)


def by_engine(
    subject: Subject, images: torch.Tensor, labels: torch.Tensor, limit: float
) -> Iterator[tuple[int, Row, float]]:
    seed_everything(0, "screen", 0)
    before = cpu_seconds()
    screened = screen_group(subject, images, labels, Robustness(EPS), Attack())
    share = (cpu_seconds() - before) / len(labels)
    for i, first in enumerate(screened.rows):
        row, before = first, cpu_seconds()
        if first.verdict == "unknown":
            one = Question(subject, images[i : i + 1], labels[i : i + 1], Robustness(EPS))
            row, _ = solve_one(one, Method(), limit)
            row = row._replace(seconds=(row.seconds or 0) + (first.seconds or 0))
        yield i, row, share + cpu_seconds() - before


def by_recipe(
    subject: Subject, images: torch.Tensor, labels: torch.Tensor, limit: float
) -> Iterator[tuple[int, Row, float]]:
    for i in range(len(labels)):
        before = cpu_seconds()
        one = Question(subject, images[i : i + 1], labels[i : i + 1], Robustness(EPS))
        row, _ = mipverify.solve_one(mipverify.Recipe(), one, limit)
        yield i, row, cpu_seconds() - before


def cpu_seconds() -> float:
    """Of this process, of its children that have ended, and of those that run."""
    total, ticks = time.process_time(), os.sysconf("SC_CLK_TCK")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total += ended.ru_utime + ended.ru_stime
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def stored(out: Path) -> list[dict[str, object]]:
    """The last row of each sample and engine."""
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return list({(row["name"], row["sample"]): row for row in rows}.values())


def report(out: Path) -> int:
    rows: dict[str, dict[int, dict]] = {name: {} for name in ENGINES}
    for row in stored(out):
        rows[str(row["name"])][int(str(row["sample"]))] = row
    both = sorted(rows["engine"].keys() & rows["mipverify"].keys())
    wrong = [i for i in both if contradict(*(rows[name][i]["verdict"] for name in ENGINES))]
    print(f"{len(both)} samples; contradictions: {wrong or 'none'}\n")
    print("| | engine | mipverify | ratio |\n|---|---|---|---|")
    for what, key in (("seconds", "seconds"), ("CPU seconds", "cpu")):
        pair = [[rows[name][i][key] for i in both] for name in ENGINES]
        for how, of in (("in all", sum), ("median", statistics.median), ("largest", max)):
            one, other = of(pair[0]), of(pair[1])
            print(f"| {what}, {how} | {one:.3f} | {other:.3f} | {other / one:.1f} |")
    counts = [[rows[name][i]["verdict"] for i in both] for name in ENGINES]
    for verdict in sorted({*counts[0], *counts[1]}):
        print(f"| {verdict} | {counts[0].count(verdict)} | {counts[1].count(verdict)} | |")
    recipe = [rows["mipverify"][i] for i in both]
    calls = sum(row["lp_calls"] or 0 for row in recipe)
    print(f"\nLP calls: {calls} ({PUBLISHED_CALLS} published for 500).")
    open_ones = [i for i in both if rows["mipverify"][i]["verdict"] not in DECIDED]
    print(f"Open in mipverify: {open_ones}.")
    return 1 if wrong else 0


def contradict(one: str, other: str) -> bool:
    return one in DECIDED and other in DECIDED and one != other


if __name__ == "__main__":
    sys.exit(main())
