"""Our AutoAttack and its parts beside pyautoattack, the authors' program, on published networks.

    ROBSWEEP_DATA_DIR=... ROBSWEEP_NETS_DIR=... python benchmarks/oracle.py [--samples 500]
        [--nets NET ...] [--parts PART ...]

Robust accuracy under each part alone and under all of them one after the other, ours and theirs, on
the same first test images in one batch, one restart each; then the seconds of both. The
second network takes some fifty minutes of a core.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robsweep.tasks.attacks.load import load
from robsweep.tasks.attacks.run import attack_group
from robsweep.tasks.catalogue import ATTACKS, NETS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import ModelRef
from robsweep.tasks.logits import margin, raw_logits
from robsweep.tasks.models.load import load as load_model

SETTINGS = {"wk17a_linf0.1": ("linf", 0.1), "abs_vanilla_cnn": ("linf", 0.1)}
PARTS = {
    "apgd_ce": ["apgd-ce"],
    "apgd_dlr": ["apgd-dlr"],
    "apgd_targeted": ["apgd-t"],
    "fab_targeted": ["fab-t"],
    "square": ["square"],
    "autoattack": ["apgd-ce", "apgd-t", "fab-t", "square"],
}
THEIR_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def ours(
    model: nn.Module, images: Tensor, labels: Tensor, name: str, norm: str, eps: float
) -> float:
    entry = ATTACKS[name]
    radii = [eps] if entry.gives == "fixed_eps" else None
    params = {"attack": name, "norm": norm, "eps": radii, "parameters": entry.parameters}
    seed_everything(0, "attack", 0)
    (result,) = attack_group(load(params), model, images, labels, eps=radii)
    return float(1 - (result.success & (result.distance <= eps)).mean())


def theirs(
    model: nn.Module, images: Tensor, labels: Tensor, name: str, norm: str, eps: float
) -> float:
    program = AutoAttack(
        model, attacks=PARTS[name], eps=eps, norm=THEIR_NORMS[norm], seed=0, version="custom"
    )
    program.apgd.n_restarts = program.apgd_targeted.n_restarts = 1
    program.fab.n_restarts = program.square.n_restarts = 1
    program.apgd.use_largereps = program.apgd_targeted.use_largereps = norm == "l1"
    program.apgd_targeted.n_target_classes = program.fab.n_target_classes = 9
    found, *_ = program.run_standard_evaluation(images, labels, batch_size=len(labels))
    return float((margin(raw_logits(model, found), labels) > 0).double().mean())


def timed(run: Callable[..., float], *arguments: object) -> tuple[float, float]:
    started = time.perf_counter()
    return run(*arguments), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--nets", nargs="+", default=[*SETTINGS], choices=SETTINGS)
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-dir", default=os.environ.get("ROBSWEEP_DATA_DIR", "data"))
    parser.add_argument("--nets-dir", default=os.environ.get("ROBSWEEP_NETS_DIR", "nets"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_data("mnist", "test", options.data_dir)
    images, labels = data.images[: options.samples], data.labels[: options.samples]
    print("| net | norm | eps | attack | ours, % | theirs, % | seconds, ours / theirs |")
    print("|---|---|---|---|---|---|---|")
    for net in options.nets:
        norm, eps = SETTINGS[net]
        file = str(Path(options.nets_dir) / NETS[net].file)
        ref = ModelRef("import-", NETS[net].arch, {}, (1, 28, 28), 10, file)
        model = load_model(ref, None, torch.device("cpu"), many_passes=True).model
        for name in options.parts:
            case = (model, images, labels, name, norm, eps)
            (mine, seconds), (yours, other) = timed(ours, *case), timed(theirs, *case)
            print(
                f"| {net} | {norm} | {eps:g} | {name} | {mine:.1%} | {yours:.1%} "
                f"| {seconds:.0f} / {other:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
