"""What a certificate holds, and how it is written: JSON, so that any program can read one.

A certificate names the network and the question by their SHA-256. It claims bounds on single values
over the whole box, and has, for each disjunct of the unsafe region, a tree whose nodes split a ReLU
into on and off or an input into its lower and its upper part. A leaf chooses a row of its disjunct,
slopes below undecided ReLUs and multipliers of the ReLUs that are split above it; then one backward
pass shows that the row is above 0.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

FORMAT = "robsweep-certificate-1"
STEPS = 64  # slopes are so-and-so many of as many parts, so that they are exact
_LONGEST = 2**28  # bytes


class RefusedError(Exception):
    """Why a certificate proves nothing."""


class Ends(NamedTuple):
    """What units of a value do not go beyond."""

    units: tuple[int, ...] = ()
    ends: tuple[float, ...] = ()


class Claim(NamedTuple):
    """Bounds on units of a value, which one backward pass shows.

    Without any, the units that are undecided then are bounded by whoever checks.
    """

    value: int
    lower: Ends | None = None
    upper: Ends | None = None


class Slopes(NamedTuple):
    value: int  # that enters the ReLU
    units: tuple[int, ...]
    parts: tuple[int, ...]  # from 0 to `STEPS`


class Leaf(NamedTuple):
    row: int = 0  # of the disjunct
    slopes: tuple[Slopes, ...] = ()  # others: 1 where the upper end is further from 0, else 0
    multipliers: tuple[float, ...] = ()  # >= 0, of the ReLUs that are split, from the root on


class Split(NamedTuple):
    kind: Literal["relu", "input"]
    value: int  # that enters the ReLU; 0 of an input
    unit: int
    at: float = 0.0
    # on and off; of an input, at most `at` and at least `at`
    parts: "tuple[Node, Node] | tuple[()]" = ()


class Node(NamedTuple):
    what: Leaf | Split
    claims: tuple[Claim, ...] = ()  # that hold in this part of the box


@dataclass(frozen=True)
class Certificate:
    network: str
    question: str
    claims: tuple[Claim, ...]
    trees: tuple[Node, ...]  # one per disjunct

    def leaves(self) -> int:
        return sum(map(_leaves, self.trees))


def encoded(certificate: Certificate) -> bytes:
    """As JSON, sealed by its own SHA-256."""
    body = {
        "format": FORMAT,
        "network": certificate.network,
        "question": certificate.question,
        "claims": [_claim_out(one) for one in certificate.claims],
        "trees": [_node_out(one) for one in certificate.trees],
    }
    return _text(body | {"sha256": _seal(body)})


def decoded(content: bytes) -> Certificate:
    """The other way round.

    Raises:
        RefusedError: It is no certificate, or not as it was written.
    """
    if len(content) > _LONGEST:
        raise RefusedError(f"longer than {_LONGEST} bytes")
    try:
        body = json.loads(content, parse_constant=_no_number)
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise RefusedError(f"not in the format {FORMAT}")
        if body.pop("sha256", None) != _seal(body):
            raise RefusedError("changed since it was written: its SHA-256 is another one")
        _only(body, {"format", "network", "question", "claims", "trees"})
        return Certificate(
            str(body["network"]),
            str(body["question"]),
            tuple(map(_claim_in, body["claims"])),
            tuple(map(_node_in, body["trees"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError(f"cannot be read: {error}") from error
    except RecursionError as error:
        raise RefusedError("its tree is too deep") from error


def _leaves(node: Node) -> int:
    return sum(map(_leaves, node.what.parts)) if isinstance(node.what, Split) else 1


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _seal(body: dict[str, Any]) -> str:
    return hashlib.sha256(_text(body)).hexdigest()


def _claim_out(claim: Claim) -> dict[str, Any]:
    found: dict[str, Any] = {"value": claim.value}
    for name, side in (("lower", claim.lower), ("upper", claim.upper)):
        if side is not None:
            found[name] = [list(side.units), list(side.ends)]
    return found


def _node_out(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if node.claims:
        found["claims"] = [_claim_out(one) for one in node.claims]
    match node.what:
        case Split(kind, value, unit, at, parts):
            found["split"] = [kind, value, unit, at]
            found["parts"] = [_node_out(one) for one in parts]
        case Leaf(row, slopes, multipliers):
            found["row"] = row
            if slopes:
                found["slopes"] = [[s.value, list(s.units), list(s.parts)] for s in slopes]
            if multipliers:
                found["multipliers"] = list(multipliers)
    return found


def _claim_in(given: Any) -> Claim:
    _only(given, {"value", "lower", "upper"})
    return Claim(_whole(given["value"]), *(_ends_in(given.get(s)) for s in ("lower", "upper")))


def _ends_in(given: Any) -> Ends | None:
    if given is None:
        return None
    units, ends = given
    return Ends(*_pairs(map(_whole, units), map(_number, ends)))


def _node_in(given: Any) -> Node:
    claims = tuple(map(_claim_in, given.get("claims", ())))
    if "split" in given:
        _only(given, {"claims", "split", "parts"})
        kind, value, unit, at = given["split"]
        if kind not in ("relu", "input"):
            raise ValueError(f"unknown split {kind!r}")
        first, second = map(_node_in, given["parts"])
        split = Split(kind, _whole(value), _whole(unit), _number(at), (first, second))
        return Node(split, claims)
    _only(given, {"claims", "row", "slopes", "multipliers"})
    slopes = []
    for value, units, parts in given.get("slopes", ()):
        slopes.append(Slopes(_whole(value), *_pairs(map(_whole, units), map(_whole, parts))))
    multipliers = tuple(map(_number, given.get("multipliers", ())))
    return Node(Leaf(_whole(given["row"]), tuple(slopes), multipliers), claims)


def _pairs(first: Any, second: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    both = tuple(first), tuple(second)
    if len(both[0]) != len(both[1]):
        raise ValueError("lists of different lengths")
    return both


def _whole(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError(f"{given!r} is no index")
    return given


def _number(given: Any) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"{given!r} is no number")
    if not math.isfinite(found := float(given)):
        raise ValueError(f"{given!r} is not finite")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _only(given: Any, known: set[str]) -> None:
    if unknown := sorted(set(given) - known):
        raise ValueError(f"unknown {unknown[0]!r}")
