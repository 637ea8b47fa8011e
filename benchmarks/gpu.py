"""Times of batched bounds and of branch and bound, on the CPU and on a GPU if there is one.

python benchmarks/gpu.py [--wk17a FILE.safetensors] [--rsl18a FILE.safetensors] [--eps 0.1]

Needs torch and numpy; the solver's part OR-tools and pyarrow, weights safetensors. Without weights
the networks have their published shapes and random weights, which leave more ReLUs undecided than
trained ones. Images are random: only times and memory mean anything.
"""

import argparse
import importlib.util
import math
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from robsweep.tasks.ball import box
from robsweep.tasks.models.architectures.imported import rsl18a, wk17a
from robsweep.tasks.verification.bounds.alpha import Ascent, Relaxed, optimised_margins
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import (
    Bounded,
    by_crown,
    by_intervals,
    unstable_relus,
)
from robsweep.tasks.verification.reading.layers import Network
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property, untargeted
from robsweep.tasks.verification.reading.torch.module import read
from robsweep.tasks.verification.search.branching import Limit, Search

SHAPE, CLASSES, REPEATS = (1, 28, 28), 10, 3
BATCHES = {"cpu": (1, 16), "cuda": (1, 16, 128, 1024)}
BRANCHES = 1000
Stage = Callable[[Network, Bounds, Property], Bounded]


def by_alpha(network: Network, ball: Bounds, unsafe: Property) -> Bounded:
    bounds, margins = by_crown(network, ball, unsafe)
    relaxed = Relaxed.of(network, bounds)
    return Bounded(bounds, optimised_margins(relaxed, unsafe, margins, Ascent(20, 0.3)).margins)


STAGES: dict[str, Stage] = {"interval": by_intervals, "crown": by_crown, "alpha": by_alpha}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--batches", type=int, nargs="+", help="in place of the usual ones")
    for name in ("wk17a", "rsl18a"):
        parser.add_argument(f"--{name}", metavar="FILE", help="its weights (safetensors)")
    options = parser.parse_args()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads", end="")
    print(f", {torch.cuda.get_device_name()}" if len(devices) > 1 else ", no GPU", end="\n\n")
    print("| network | device | batch | bounds | ms a sample | undecided ReLUs | peak MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    notes = [] if len(devices) > 1 else ["Skipped: everything on a GPU, as torch sees none."]
    for name, build in (("wk17a", wk17a), ("rsl18a", rsl18a)):
        torch.manual_seed(0)
        model = build(SHAPE, CLASSES)
        if file := getattr(options, name):
            from safetensors.torch import load_file

            model.load_state_dict(load_file(file))
        margins: dict[str, Tensor] = {}
        for device in devices:
            network = read(model.to(device), SHAPE)
            for batch in options.batches or BATCHES[device]:
                for bounds, stage in STAGES.items():
                    row = measured(network, stage, device, batch, options.eps)
                    print(f"| {name} | {device} | {batch} | {bounds} | {row} |", flush=True)
            found = bounded(network, by_crown, images(4, device), options.eps)
            margins[device] = found.margins.lower.cpu()
            notes.append(branched(name, network, device, options.eps))
        if len(devices) > 1:
            apart = (margins["cpu"] - margins["cuda"]).abs().max()
            notes.append(f"{name}: CPU and GPU margins differ by up to {apart:.1e}.")
        notes.append(solved(name, model.cpu(), options.eps))
    print("", *notes, sep="\n")


def images(batch: int, device: str) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(batch, *SHAPE, generator=random).to(device)


def bounded(network: Network, stage: Stage, x: Tensor, eps: float) -> Bounded:
    labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return stage(network, Bounds(*box(x, eps)), untargeted(labels, CLASSES))


def branched(name: str, network: Network, device: str, eps: float) -> str:
    """How many subproblems of one sample's search are bounded in a second."""
    x = images(1, device)
    bounds, margins = bounded(network, by_crown, x, eps)
    unsafe = untargeted(torch.zeros(1, dtype=torch.int64, device=device), CLASSES)
    known = {d: low for d, low in enumerate(margins.lower[0].tolist()) if low <= BOUNDARY}
    if not known:
        return f"{name} on {device}: CROWN leaves nothing to branch on."
    limit = Limit(math.inf, BRANCHES * (1 if device == "cpu" else 20), math.inf)
    started = time.perf_counter()
    search = Search(Relaxed.of(network, bounds), unsafe, known)
    search.run(limit, lambda _: False)
    rate = search.branches / (time.perf_counter() - started)
    return f"{name} on {device}: {rate:.0f} subproblems of branch and bound a second."


def measured(network: Network, stage: Stage, device: str, batch: int, eps: float) -> str:
    """Median time of all bounds and margins, after one run that is not counted."""
    x, times, on_gpu = images(batch, device), [], device == "cuda"
    try:
        for _ in range(1 + REPEATS):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            found = bounded(network, stage, x, eps)
            if on_gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        undecided = unstable_relus(network, found.bounds)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return "out of memory | | "
    # of the whole process on a CPU
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else rss
    each = 1e3 * statistics.median(times[1:]) / batch
    return f"{each:.2f} | {undecided.double().mean():.0f} | {peak:.0f}"


def solved(name: str, model: torch.nn.Module, eps: float) -> str:
    """One sample through CROWN and the solver, on the CPU, at a tenth of the radius."""
    missing = [one for one in ("ortools", "pyarrow") if importlib.util.find_spec(one) is None]
    if missing:
        return f"Skipped: {name} with the solver, as {' and '.join(missing)} is not installed."
    from robsweep.tasks.verification.problem import Method
    from robsweep.tasks.verification.question import Robustness
    from robsweep.tasks.verification.search.counterexamples import subject_of
    from robsweep.tasks.verification.solve import Question, solve_one

    x = images(1, "cpu")
    model = model.float().eval().requires_grad_(False)
    asked = Robustness(eps / 10)
    question = Question(subject_of(model, SHAPE), x, model(x).argmax(1), asked)
    row, _ = solve_one(question, Method(frozenset({"crown", "milp"})), 20.0)
    return (
        f"{name}, one sample to the end at eps {eps / 10:g}: {row.verdict} in {row.seconds:.2f} s."
    )


if __name__ == "__main__":
    main()
