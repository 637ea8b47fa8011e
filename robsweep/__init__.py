"""Robustness sweeps: attacks, out-of-distribution detection, calibration, formal verification.

The way in from Python; docs/python.md shows it at work.

| name | what it does |
|---|---|
| `open` | reads a store: tables, rows, adversarials, counterexamples |
| `plan`, `run` | a sweep file, or the same as a mapping |
| `evaluate` | a live `torch.nn.Module` on tensors, without files and without a store |
| `Loss` | what a training of your own returns |
| `RobsweepError`, `InputError`, ... | what can go wrong |

Names are loaded when they are asked for: `import robsweep` is cheap and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robsweep.evaluated import Bracket, Estimate, Evaluation
    from robsweep.evaluation import evaluate
    from robsweep.images import Adversarials, Counterexamples
    from robsweep.orchestrator.errors import (
        ContradictionError,
        FencedError,
        InputError,
        RobsweepError,
        SpecError,
        StoreError,
    )
    from robsweep.running import Outlook, Ran, plan, run
    from robsweep.store import OpenStore
    from robsweep.store import open_store as open  # noqa: A004
    from robsweep.tasks.training.fit import Loss

    __version__: str

__all__ = [
    "Adversarials",
    "Bracket",
    "ContradictionError",
    "Counterexamples",
    "Estimate",
    "Evaluation",
    "FencedError",
    "InputError",
    "Loss",
    "OpenStore",
    "Outlook",
    "Ran",
    "RobsweepError",
    "SpecError",
    "StoreError",
    "__version__",
    "evaluate",
    "open",
    "plan",
    "run",
]

_ERRORS = "robsweep.orchestrator.errors"
_FROM = {
    "Adversarials": "robsweep.images",
    "Bracket": "robsweep.evaluated",
    "ContradictionError": _ERRORS,
    "Counterexamples": "robsweep.images",
    "Estimate": "robsweep.evaluated",
    "Evaluation": "robsweep.evaluated",
    "FencedError": _ERRORS,
    "InputError": _ERRORS,
    "Loss": "robsweep.tasks.training.fit",
    "OpenStore": "robsweep.store",
    "Outlook": "robsweep.running",
    "Ran": "robsweep.running",
    "RobsweepError": _ERRORS,
    "SpecError": _ERRORS,
    "StoreError": _ERRORS,
    "evaluate": "robsweep.evaluation",
    "open": "robsweep.store",
    "plan": "robsweep.running",
    "run": "robsweep.running",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("robsweep")
    elif name in _FROM:
        value = getattr(import_module(_FROM[name]), "open_store" if name == "open" else name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
