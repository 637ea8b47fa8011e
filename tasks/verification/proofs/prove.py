"""Makes a certificate of what has been verified, independently of how it was.

The verifier's verdict is all that is known: bounds, slopes and trees are found anew, and what comes
out is put to the checker before it is stored.
"""

import time
from typing import NamedTuple

from robsweep.tasks.certificates.arithmetic import Arithmetic, UnfitError
from robsweep.tasks.certificates.certificate import Certificate, Claim, Node, encoded
from robsweep.tasks.certificates.check import check
from robsweep.tasks.certificates.network import Network, Question, Relu
from robsweep.tasks.certificates.passes import Known, Passes
from robsweep.tasks.verification.proofs.branching import NotShownError, Trees
from robsweep.tasks.verification.proofs.claims import claimed
from robsweep.tasks.verification.proofs.splitting import Boxes, plain_leaves

_FEW, _FEW_RELUS = 12, 24  # free inputs, and undecided ReLUs, for which inputs are not split
_FIRST = 0.1  # of the time: for splitting ReLUs where inputs can be split


class Made(NamedTuple):
    content: bytes | None
    why: str | None = None  # there is none
    seconds: float = 0.0


def certified(network: Network, question: Question, limit: float) -> Made:
    """A certificate that the checker accepts, or why there is none.

    Args:
        limit: Seconds, about.
    """
    started = time.monotonic()
    try:
        content = _made(network, question, started + limit, limit)
    except (NotShownError, UnfitError) as error:
        return Made(None, str(error), time.monotonic() - started)
    checked = check(network, question, content)
    seconds = time.monotonic() - started
    if not checked.accepted:
        return Made(None, f"the checker refuses it: {checked.why}", seconds)
    return Made(content, None, seconds)


def _made(network: Network, question: Question, until: float, limit: float) -> bytes:
    passes = Passes(network, Arithmetic(exact=False))
    start = passes.start(question.lower, question.upper)
    bent = network.bent()
    # the fewer bounds are claimed, the shorter it is, and the sooner checked
    for values in (bent[:0], bent[-1:], bent):
        known = start.copied()
        claims = _claims(passes, known, values, until)
        if (leaves := plain_leaves(passes, known, question.unsafe)) is not None:
            return _written(network, question, claims, leaves)
    few = int((question.lower < question.upper).sum()) <= _FEW
    if few and _undecided(network, known) > _FEW_RELUS:
        early = time.monotonic() + _FIRST * limit
        try:
            trees = Trees(network, known, question.unsafe).found(min(early, until))
        except NotShownError:
            trees = Boxes(passes, question).found(until)
            claims = []
    else:
        trees = Trees(network, known, question.unsafe).found(until)
    return _written(network, question, claims, trees)


def _claims(passes: Passes, known: Known, values: list[int], until: float) -> list[Claim]:
    found = (claimed(passes, known, value, until) for value in values if value)
    return [one for one in found if one is not None]


def _undecided(network: Network, known: Known) -> int:
    return sum(
        int((layer.units & (known.lower[k] < 0) & (known.upper[k] > 0)).sum())
        for k, layer in enumerate(network.layers)
        if isinstance(layer, Relu)
    )


def _written(
    network: Network, question: Question, claims: list[Claim], trees: tuple[Node, ...]
) -> bytes:
    digests = network.digest(), question.digest()
    return encoded(Certificate(*digests, tuple(claims), trees))
