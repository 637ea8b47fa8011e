"""The sweep that `robsweep eval` runs: one existing model, attacked, calibrated, verified."""

import hashlib
import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.spec.npz import describe
from robsweep.orchestrator.spec.spec import SweepSpec, is_url
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import did_you_mean, parse
from robsweep.tasks.catalogue import DATASETS, MODELS, NETS

# A cheap attack, an independent one, and one whose loss has no scale, per norm: the cross entropy
# of large logits has no gradient in float32, and what follows it breaks nothing.
ATTACKS: dict[str, dict[str, dict[str, Any]]] = {
    "linf": {
        "pgd": {"attack": "LinfPGD"},
        "fast_gradient": {"attack": "LinfFastGradient"},
        "apgd_targeted": {"attack": "apgd_targeted", "norm": "linf"},
    },
    "l2": {
        "pgd": {"attack": "L2PGD"},
        "deepfool": {"attack": "L2DeepFool"},
        "apgd_targeted": {"attack": "apgd_targeted", "norm": "l2"},
    },
}


def spec_for(
    model: str,
    dataset: str,
    weights: str | None,
    norm: str,
    eps: list[str],
    samples: int | None,
    verify: int,
    time_limit_seconds: float,
    *,
    net: str | None = None,
    sha256: str | None = None,
    classes: int | None = None,
) -> SweepSpec:
    """Writes the sweep file of an evaluation and reads it as if the user had written it.

    Raises:
        InputError: An option is wrong; the message names it.
    """
    if norm not in ATTACKS:
        raise InputError(f"--norm {norm!r}{did_you_mean(norm, ATTACKS)}")
    if model.endswith(".onnx"):
        if weights is not None:
            raise InputError(f"{model} has its weights in it: leave --weights out")
        model, weights = "onnx", model
    if net is None and weights is None and model in NETS:
        net, model = model, NETS[model].arch
    if model in MODELS and weights is None and net is None:
        raise InputError(
            f"{model} needs --weights FILE or --net NAME: it is an architecture without weights"
        )
    named = Path(weights).stem if weights else net or model
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", named).strip("-")
    # two files of one name, or one file in two models, are two sweeps
    place = net or weights or ""
    if weights and not is_url(weights):
        place = str(Path(weights).expanduser().resolve())
    distinct = hashlib.sha256(f"{model}|{place}|{dataset}".encode()).hexdigest()[:6]
    if classes is not None and not dataset.startswith("npz:"):
        raise InputError(f"--classes is for --dataset npz:FILE; {dataset} has its own")
    radii = [_number(value) for value in eps]
    body: dict[str, Any] = {
        "name": f"eval-{stem}-{distinct}",
        "dataset": dataset if classes is None else {"npz": dataset[4:], "classes": classes},
        "models": {"model": {"arch": model, "train": False}},
        "attacks": {
            entry: dict(attack, eps=radii) if attack["attack"] != "L2DeepFool" else attack
            for entry, attack in ATTACKS[norm].items()
        },
    }
    for key, value in {"weights": weights, "sha256": sha256, "net": net}.items():
        if value is not None:
            body["models"]["model"][key] = value
    if samples is not None:
        body["samples"] = samples
    if "validation" in _splits(dataset):
        body["calibration"] = {"temperature": None}
    if verify:
        body["verification"] = {
            norm: {
                "verifier": "milp",
                "norm": norm,
                "eps": radii,
                "samples": verify,
                "time_limit_seconds": time_limit_seconds,
            }
        }
    text = io.StringIO()
    YAML().dump(body, text)
    return from_document(parse(text.getvalue(), "robsweep eval"), Path.cwd())


def _splits(dataset: str) -> Collection[str]:
    if dataset in DATASETS:
        return DATASETS[dataset].splits
    if dataset.startswith("npz:"):
        return describe(Path(dataset[4:]).expanduser()).splits
    return ()  # the sweep file says that there is no such data set


def _number(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value  # `8/255`, or the spec says what is wrong with it
