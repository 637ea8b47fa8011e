"""Our training loop against a bare hand-written PyTorch loop: same net, seed, batches, accuracy.

python benchmarks/training.py [--pairs 10] [--samples 10000] [--model cnn|cnn_small] [--data-dir D]

Each pair trains the same initial weights twice for one epoch, once by each loop, in alternating
order; printed is the ratio of the times, its median and quartiles, and the ratio of the CPU times,
which on a busy machine says more. Both loops hold the data on the
device and use the same optimiser call, so that what is measured is what our loop adds: the
schedule, means over the epoch, checks for divergence, the validation accuracy, checkpoints.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.catalogue import DATASETS, MODELS
from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.training.checkpoints import Checkpoints
from robsweep.tasks.training.fit import cross_entropy, fit
from robsweep.tasks.training.recipe import Recipe

SEED = 0


def bare(model: nn.Module, train: Labelled, validation: Labelled, recipe: Recipe) -> float:
    """What one writes without robsweep; the samples are shuffled as `fit` does it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        random = np.random.default_rng([SEED, 2, epoch])
        order = torch.from_numpy(random.permutation(len(train.labels)))
        losses, right = [], 0
        for batch in order.split(recipe.batch_size):
            images, labels = train.images[batch], train.labels[batch]
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            right += (logits.argmax(dim=1) == labels).sum()
        model.eval()
        with torch.no_grad():
            parts = zip(validation.images.split(1000), validation.labels.split(1000), strict=True)
            correct = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in parts)
    return correct / len(validation.labels)


def ours(model: nn.Module, train: Labelled, validation: Labelled, recipe: Recipe) -> float:
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "train.pt")
        history = fit(
            model, train, validation, cross_entropy, recipe, seed=SEED, checkpoints=checkpoints
        )
    return history[-1].val_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", default=os.environ.get("ROBSWEEP_DATA_DIR", "data"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    entry = DATASETS[options.dataset]
    whole = load(options.dataset, "train", options.data_dir)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = Labelled(*(part[: options.samples].to(device) for part in whole))
    checks = load(options.dataset, "validation", options.data_dir)
    validation = Labelled(*(part.to(device) for part in checks))
    recipe = Recipe(epochs=1, batch_size=128)
    arch = MODELS[options.model]
    ratios, cpu_ratios, equal = [], [], True
    for pair in range(options.pairs + 1):  # the first one warms up
        seconds, cpu, accuracies, weights = {}, {}, {}, {}
        loops = (bare, ours) if pair % 2 else (ours, bare)
        for loop in loops:
            torch.manual_seed(SEED)
            model = resolve(arch.path, "model")(entry.shape, entry.classes, **arch.parameters)
            model = model.to(device)
            started, worked = time.perf_counter(), time.process_time()
            accuracies[loop.__name__] = loop(model, train, validation, recipe)
            seconds[loop.__name__] = time.perf_counter() - started
            cpu[loop.__name__] = time.process_time() - worked
            parameters = [p.detach().flatten() for p in model.parameters()]
            weights[loop.__name__] = torch.cat(parameters)
        if pair:
            ratios.append(seconds["ours"] / seconds["bare"])
            cpu_ratios.append(cpu["ours"] / cpu["bare"])
            equal &= _same(weights["ours"], weights["bare"]) and len(set(accuracies.values())) == 1
            print(f"pair {pair}: bare {seconds['bare']:.2f} s, ours {seconds['ours']:.2f} s")
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"\n{options.model}, {options.samples} images of {options.dataset}, {device}, "
        f"{options.threads} threads, {options.pairs} pairs: ours takes {middle:.3f} of the bare "
        f"loop's time (quartiles {low:.3f} to {high:.3f}), {statistics.median(cpu_ratios):.3f} of "
        f"its CPU time; "
        f"{'the same weights and accuracy' if equal else 'DIFFERENT weights or accuracy'}"
    )


def _same(one: Tensor, two: Tensor) -> bool:
    return (
        torch.equal(one, two) if one.device.type == "cpu" else torch.allclose(one, two, atol=1e-4)
    )


if __name__ == "__main__":
    main()
