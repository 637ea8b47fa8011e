"""A certificate's trees in a format of others: activation pattern tree proofs (APTP).

It names which ReLUs are on and off in each leaf, not why a leaf is closed: whoever checks it solves
a program for each. So slopes, multipliers and bounds are left out.
Source: Duong et al., Generating and Checking DNN Verification Proofs, section 4.
"""

from collections.abc import Iterator

from robsweep.tasks.certificates.certificate import Certificate, Node, RefusedError, Split
from robsweep.tasks.certificates.network import Disjunct, Max, Network, Question, Relu


def exported(network: Network, question: Question, certificate: Certificate) -> list[str]:
    """One text per part of the unsafe region.

    Raises:
        RefusedError: It has what the format has no words for.
    """
    first = _first_units(network)
    texts = []
    for unsafe, tree in zip(question.unsafe, certificate.trees, strict=True):
        leaves = list(_leaves(tree, (), first))
        rows = {row for _, row in leaves}
        if len(rows) > 1:
            raise RefusedError("APTP has one constraint for all leaves, and here they differ")
        clauses = [signs for signs, _ in leaves]
        if clauses == [()]:  # a tree needs a split
            clauses = [(1,), (-1,)]
        texts.append(_text(network, question, _constraint(unsafe, rows.pop()), clauses))
    return texts


def _first_units(network: Network) -> dict[int, int]:
    """By the value that enters a ReLU, the number of its first unit: 1 for the network's first."""
    found, count = {}, 1
    for value, (layer, size) in enumerate(zip(network.layers, network.sizes(), strict=False)):
        if isinstance(layer, Max):
            raise RefusedError("APTP has no words for max pooling")
        if isinstance(layer, Relu):
            if not layer.units.all():
                raise RefusedError("APTP has no words for values that pass beside a ReLU")
            found[value] = count
            count += size
    if not found:
        raise RefusedError("APTP has no words for a network without ReLUs")
    return found


def _leaves(
    node: Node, signs: tuple[int, ...], first: dict[int, int]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """The signs above each leaf, a unit's number with its sign, and the leaf's row."""
    if not isinstance(node.what, Split):
        yield signs, node.what.row
        return
    if node.what.kind == "input":
        raise RefusedError("APTP has no words for inputs that are split")
    unit = first[node.what.value] + node.what.unit
    for part, sign in zip(node.what.parts, (unit, -unit), strict=True):
        yield from _leaves(part, (*signs, sign), first)


def _constraint(unsafe: Disjunct, row: int) -> str:
    """What the outputs must not satisfy."""
    weights = {i: w for i, w in enumerate(unsafe.weight[row].tolist()) if w}
    bias = float(unsafe.bias[row])
    up = [i for i, w in weights.items() if w == 1.0]
    down = [i for i, w in weights.items() if w == -1.0]
    if len(up) + len(down) == len(weights):
        if len(up) == len(down) == 1 and not bias:
            return f"(<= Y_{up[0]} Y_{down[0]})"
        if len(weights) == 1:
            return f"(<= Y_{up[0]} {-bias!r})" if up else f"(>= Y_{down[0]} {bias!r})"
    raise RefusedError("APTP compares an output with another one or with a number, nothing else")


def _text(
    network: Network, question: Question, constraint: str, clauses: list[tuple[int, ...]]
) -> str:
    units = sorted({abs(sign) for clause in clauses for sign in clause})
    lines = ["; Inputs, outputs, and the ReLUs that are split, numbered layer by layer"]
    for letter, numbers, kind in (
        ("X", range(network.inputs), "const Real"),
        ("Y", range(network.sizes()[-1]), "const Real"),
        ("N", units, "pwl ReLU"),
    ):
        what, of = kind.split()
        names = " ".join(f"{letter}_{i}" for i in numbers)
        lines.append(f"(declare-{what} {names} {of})")
    lines.append("; Box")
    ends = zip(question.lower.tolist(), question.upper.tolist(), strict=True)
    for i, (low, high) in enumerate(ends):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {high!r}))"]
    lines += ["; Leaves", "(assert (or"]
    for clause in clauses:
        signs = " ".join(f"({'>=' if s > 0 else '<'} N_{abs(s)} 0)" for s in clause)
        lines.append(f"  (and {signs})")
    lines += ["))", "; What no leaf reaches", f"(assert {constraint})"]
    return "\n".join(lines) + "\n"
