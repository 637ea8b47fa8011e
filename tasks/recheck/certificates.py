"""What the certificate of a claim must be about, rebuilt here, and whether it shows that."""

import numpy as np

from robsweep.tasks.certificates.check import Checked, check
from robsweep.tasks.certificates.network import Network, Question, question
from robsweep.tasks.recheck.bounds import ball
from robsweep.tasks.recheck.claims import Claim
from robsweep.tasks.recheck.proofs import Shown


def asked(claim: Claim, image: np.ndarray, label: int, classes: int) -> Question | None:
    """The question that a claim answers; None where its region or property is not known here."""
    if claim.norm != "linf" or claim.eps is None:
        return None
    kind, *words = claim.property.split()
    eye, margin = np.eye(classes), 0.0
    if kind == "untargeted":
        for word in words:
            if not word.startswith("margin="):
                return None
            margin = float(word.removeprefix("margin="))
        weight, bias = eye[label] - eye, np.full(classes, -margin)
        bias[label] = np.inf
        rows = weight[:, None], bias[:, None]
    elif kind == "targeted" and len(words) == 1:
        targets = [int(word) for word in words[0].split(",")]
        bias = np.zeros((len(targets), classes))
        bias[np.arange(len(targets)), targets] = -np.inf
        bias[np.array(targets) == label] = np.inf
        rows = eye[None] - eye[targets][:, None], bias
    else:
        return None
    box = ball(image, claim.eps)
    return question(box.lower, box.upper, *rows)


def shown(
    claim: Claim, network: Network, image: np.ndarray, label: int, content: bytes | None
) -> Shown:
    """Whether a stored certificate proves its claim."""
    if content is None:
        return Shown("wrong", "its certificate is missing or damaged")
    classes = network.sizes()[-1]
    what = asked(claim, image, label, classes)
    if what is None:
        return Shown("open", f"another question: {claim.property!r} cannot be rebuilt here")
    checked: Checked = check(network, what, content)
    if not checked.accepted:
        return Shown("wrong", f"its certificate is refused: {checked.why}")
    return Shown("ok", f"certificate, in {checked.why}")
