"""What is rechecked and what came of it. Torch-free: the orchestrator uses it too.

`tasks.recheck` shares no code with `tasks.verification`: slow and simple, plain float64.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

What = Literal["counterexample", "proof", "misclassified", "certificate"]
Outcome = Literal["ok", "wrong", "open"]


@dataclass(frozen=True)
class Claim:
    """A verdict that a store holds about one sample."""

    measurement_id: str
    model_id: str
    weights_sha256: str | None
    dataset: str
    split: str
    sample: int
    property: str
    norm: str
    eps: float | None  # of a ball; a box has none
    verdict: str


@dataclass(frozen=True)
class Question:
    """A claim, and what the store keeps for or against it."""

    claim: Claim
    own: tuple[np.ndarray, ...] = ()  # counterexamples of the claim's measurement
    others: tuple[np.ndarray, ...] = ()  # those that other measurements keep of the sample
    derive: bool = False  # whether the proof is to be derived again
    certified: bool = False  # whether its certificate is to be checked, and nothing else
    certificate: bytes | None = None  # None: it is missing, or not as it was stored


@dataclass(frozen=True)
class Finding:
    """What a recheck of one claim has shown."""

    claim: Claim
    what: What
    outcome: Outcome  # wrong: shown to be false; open: neither shown nor refuted
    detail: str  # how it was shown, or what is wrong, or what is missing
    seconds: float = 0.0
    bytes: int = 0  # of a certificate, packed


def finding(claim: Claim, outcome: Outcome, detail: str, seconds: float = 0.0) -> Finding:
    kinds: dict[str, What] = {"verified": "proof", "misclassified": "misclassified"}
    what = kinds.get(claim.verdict, "counterexample")
    return Finding(claim, what, outcome, detail, seconds)


@dataclass(frozen=True)
class Budget:
    """How much is rechecked."""

    proofs: int = 20  # drawn at random, those of the later stages first
    seed: int = 0
    time_limit_seconds: float = 60.0  # of the solver, per proof
