"""The seven attacks of the MNIST project: a sweep against the plain foolbox loop, and itself.

    ROBSWEEP_DATA_DIR=... python benchmarks/attacks.py [--samples 1000] [--splits]

Trains the 21,840-parameter CNN for two epochs, then attacks it twice on the same samples in batches
of 250: by the loop one writes with foolbox, which hands each attack all three eps, on two threads;
and by `robsweep run` on two cores, start-up, checks, commits and all. Prints both times, their
ratio, and where the accuracies differ. `--splits` also runs the sweep in slices of 250, 500 and
1,000 samples, by one worker and by two, and compares all rows bitwise, except times.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import nn

from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.store.parts import read_part
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.models.architectures.cnn import cnn
from robsweep.tasks.training.fit import cross_entropy, fit
from robsweep.tasks.training.recipe import Recipe

EPS = (0.3, 1.5, 10.0)
BATCH = 250
VOLATILE = {"seconds"}
ATTACKS = {  # name in foolbox -> what the sweep file says
    "L2BasicIterativeAttack": "{attack: L2BasicIterative, eps: [0.3, 1.5, 10]}",
    "L2AdditiveGaussianNoiseAttack": "{attack: L2AdditiveGaussianNoise, eps: [0.3, 1.5, 10]}",
    "L2DeepFoolAttack": "{attack: L2DeepFool}",
    "L2FastGradientAttack": "{attack: L2FastGradient, eps: [0.3, 1.5, 10]}",
    "LinfFastGradientAttack": (
        "{attack: LinfFastGradient, eps: [0.3, 1.5, 10], beyond_pixels: true}"
    ),
    "LinfPGD": "{attack: LinfPGD, eps: [0.3, 1.5, 10], beyond_pixels: true}",
    "SaltAndPepperNoiseAttack": "{attack: SaltAndPepperNoise}",
}
SWEEP = """\
name: attacks
dataset: mnist
samples: {samples}
models:
  cnn: {{weights: cnn.safetensors}}
resources:
  attack: {{{resources}}}
attacks:
{attacks}
"""


def trained(data_dir: str) -> nn.Module:
    torch.manual_seed(0)
    model = cnn((1, 28, 28), 10)
    none = Labelled(torch.empty(0, 1, 28, 28), torch.empty(0, dtype=torch.int64))
    fit(model, load("mnist", "train", data_dir), none, cross_entropy, Recipe(epochs=2), seed=0)
    return model.eval()


def plain(model: nn.Module, data: Labelled) -> dict[tuple[str, float], float]:
    """The loop of foolbox's README, over batches: robust accuracy by attack and eps."""
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    found = {}
    for name in ATTACKS:
        attack = getattr(foolbox.attacks, name)()
        success = []
        for images, labels in zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                *_, broken = attack(wrapped, images, labels, epsilons=EPS)
            success.append(broken)
        for eps, broken in zip(EPS, torch.cat(success, dim=1), strict=True):
            found[name, eps] = 1 - float(broken.double().mean())
    return found


def swept(folder: Path, store: str, samples: int, data_dir: str, resources: str) -> float:
    attacks = "\n".join(f"  {name}: {entry}" for name, entry in ATTACKS.items())
    text = SWEEP.format(samples=samples, attacks=attacks, resources=resources)
    file = folder / f"{store}.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "robsweep", "run", str(file), "--store", folder / store]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--data-dir", str(Path(data_dir).resolve())],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[1],
    )
    return time.perf_counter() - started


def cells(store: Path) -> dict[tuple[str, float], float]:
    table = Results.open(store).table("attacks", "attacks").filter(pl.col("eps").is_not_null())
    rows = table.select("attack", "eps", "robust_accuracy").rows()
    return {(attack, eps): accuracy for attack, eps, accuracy in rows if attack in ATTACKS}


def rows(store: Path, table: str) -> pa.Table:
    opened = Store.open(store)
    parts = [read_part(opened.files, part.path) for part in opened.snapshot().parts(table)]
    whole = pa.concat_tables(parts, promote_options="permissive")
    keep = [name for name in whole.column_names if name not in VOLATILE]
    order = ["measurement_id", "sample", "eps" if table == "attacks" else "source"]
    return whole.select(keep).sort_by([(name, "ascending") for name in order])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--splits", action="store_true")
    parser.add_argument("--data-dir", default=os.environ.get("ROBSWEEP_DATA_DIR", "data"))
    options = parser.parse_args()
    torch.set_num_threads(2)
    model = trained(options.data_dir).requires_grad_(False)
    test = load("mnist", "test", options.data_dir)
    data = Labelled(*(part[: options.samples] for part in test))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file(model.state_dict(), folder / "cnn.safetensors")
        torch.manual_seed(0)
        np.random.seed(0)
        started = time.perf_counter()
        theirs = plain(model, data)
        loop = time.perf_counter() - started
        sweep = swept(folder, "sweep", options.samples, options.data_dir, "num_cpus: 1")
        ours = cells(folder / "sweep")
        print(f"foolbox loop {loop:.1f} s, sweep {sweep:.1f} s, ratio {sweep / loop:.2f}")
        print("| attack | " + " | ".join(f"eps {eps:g}: loop, sweep" for eps in EPS) + " |")
        print("|---" * (len(EPS) + 1) + "|")
        for attack in ATTACKS:
            both = (f"{theirs[attack, e]:.1%}, {ours[attack, e]:.1%}" for e in EPS)
            print(f"| {attack} | " + " | ".join(both) + " |")
        largest = max(abs(theirs[key] - ours[key]) for key in theirs)
        print(f"largest difference {100 * largest:.1f} points")
        if not options.splits:
            return
        expected = {table: rows(folder / "sweep", table) for table in ("attacks", "predictions")}
        for size in (250, 500, 1000):
            for workers in (1, 2):
                resources = f"samples_per_job: {size}, num_cpus: {2 // workers}, threads: 1"
                store = f"slices{size}x{workers}"
                swept(folder, store, options.samples, options.data_dir, resources)
                same = all(rows(folder / store, t).equals(expected[t]) for t in expected)
                print(f"slices of {size}, {workers} at a time: {'equal' if same else 'DIFFERENT'}")
                if not same:
                    sys.exit(1)


if __name__ == "__main__":
    main()
