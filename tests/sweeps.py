"""Small sweeps for tests."""

from pathlib import Path

from robsweep.orchestrator.plan.plan import Places, Plan, plan
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import parse

SMALL = """\
name: small
dataset: digits
seeds: [0, 1]
models:
  mlp: {hidden: [16]}
trainings:
  standard: {epochs: 1}
attacks:
  pgd: {attack: LinfPGD, eps: [0.05, 0.1], steps: 2}
ood:
  energy: {sets: [photo_patches]}
calibration:
  temperature:
verification:
  linf: {verifier: milp, eps: 0.02, samples: 100, time_limit_seconds: 5}
"""

TINY = SMALL.replace("seeds: [0, 1]", "seeds: [0]\nsamples: 100").replace(
    "steps: 2", "steps: 2, group_size: 50"
)


def spec_of(text: str, folder: Path | None = None) -> SweepSpec:
    return from_document(parse(text, "sweep.yaml"), folder or Path.cwd())


def plan_of(text: str, folder: Path | None = None, nets_dir: Path | None = None) -> Plan:
    return plan(spec_of(text, folder), Places(Path("data"), nets_dir))


def sweep(text: str = TINY, name: str = "sweep.yaml") -> str:
    """Writes a sweep file into the working folder."""
    Path(name).write_text(text)
    return name
