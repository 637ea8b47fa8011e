"""Sweeps that verify in regions: rows, brackets, and images that lie where they are said to lie."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from robsweep.tasks.ball import inside
from robsweep.tasks.data.load import load as load_data
from tests.stores import all_rows

pytest.importorskip("ortools")

SWEEP = """\
name: regions
dataset: digits
samples: 6
models:
  mlp: {hidden: [16]}
trainings:
  standard: {epochs: 20, batch_size: 32, lr: 0.005}
attacks:
  pgd: {attack: L2PGD, eps: [0.05, 0.4]}
verification:
  balls: {verifier: milp, norm: l2, eps: [0.05, 0.4], group_size: 6}
  dots: {verifier: milp, region: {name: patch, size: 1}, group_size: 6}
  blurs: {verifier: milp, region: {name: blur, kernel: 3}, group_size: 6}
  light:
    verifier: milp
    region: {name: brightness_contrast, brightness: 0.02, contrast: 0.1}
    group_size: 6
  line: {verifier: milp, region: {name: affine, file: line.npz}, group_size: 6}
"""


# seconds: a training, and six questions about six samples
def test_a_sweep_over_regions(robsweep):
    data = load_data("digits", "test", Path())
    moved = data.images.roll(1, 0) - data.images  # to the image before
    np.savez("line.npz", basis=moved[:, None].numpy(), lower=[0.0], upper=[1.0])
    Path("sweep.yaml").write_text(SWEEP)
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 0, err
    rows = all_rows("results", "verification").to_pylist()
    proofs = [row for row in rows if row["verdict"] in ("verified", "falsified", "misclassified")]
    questions = {(row["property"], row["norm"], row["eps"]) for row in rows}
    assert questions == {
        ("untargeted", "l2", 0.05),
        ("untargeted", "l2", 0.4),
        ("untargeted region=patch(size=1)", "linf", None),
        ("untargeted region=blur(kernel=3)", "linf", None),
        ("untargeted region=brightness_contrast(brightness=0.02,contrast=0.1)", "linf", None),
        (next(p for p, _, _ in questions if "affine" in p), "linf", None),
    }
    for question in questions:
        decided = {row["sample"] for row in proofs
                   if (row["property"], row["norm"], row["eps"]) == question}  # fmt: skip
        assert decided == {*range(6)}, question
    assert {row["verdict"] for row in proofs} >= {"verified", "falsified"}
    by_measurement = {row["measurement_id"]: row for row in rows}
    seen = set()
    for file in Path("results/artifacts/counterexamples").glob("*.safetensors"):
        row = by_measurement[file.name.rsplit("-", 2)[0]]
        for name, image in load(file.read_bytes()).items():
            where(row, data.images[int(name)], image)
            seen.add(row["property"].split("(")[0])
    assert len(seen) >= 3
    code, out, _ = robsweep("show", "regions", "--table", "verification", "--format", "csv")
    assert code == 0
    assert "region=blur(kernel=3)" in out
    code, out, _ = robsweep("recheck", "regions")
    assert code == 1  # what is in a region is not rechecked, and said to be so
    assert "cannot be rechecked" in out


def where(row, image, found):
    """Asserts that a counterexample is in its region."""
    assert found.dtype == torch.float32
    assert found.shape == image.shape
    assert ((found >= 0) & (found <= 1)).all()
    if row["norm"] == "l2":
        assert inside(image[None], found[None], "l2", row["eps"]).all()
    elif "patch" in row["property"]:
        assert int((found != image).sum()) <= 1
    elif "brightness" in row["property"]:
        x, y = image.double().flatten(), found.double().flatten()
        grid = [torch.linspace(-r, r, 401).double() for r in (0.1, 0.02)]
        points = torch.cartesian_prod(*grid)
        nearest = ((1 + points[:, :1]) * x + points[:, 1:]).clamp(0, 1) - y
        assert nearest.abs().amax(1).min() < 1e-3
