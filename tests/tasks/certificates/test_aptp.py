"""Trees as activation pattern tree proofs: read again here, by the grammar of its own checker."""

import re
from itertools import product

import numpy as np
import pytest

from robsweep.tasks.certificates.aptp import exported
from robsweep.tasks.certificates.certificate import (
    Certificate,
    Leaf,
    Node,
    RefusedError,
    Split,
    decoded,
)
from robsweep.tasks.certificates.network import Question, evaluate, question
from robsweep.tasks.verification.proofs.prove import certified
from tests.tasks.certificates.small import asked, network
from tests.tasks.recheck.test_network import residual
from tests.tasks.recheck.test_proofs import pooled
from tests.tasks.verification.small_nets import dense

DECLARED = re.compile(r"\(declare-(const|pwl) ((?:[XYN]_\d+ )+)(Real|ReLU)\)")
COMPARED = re.compile(r"\(assert \((<=|>=) ([XY]_\d+) (\S+)\)\)")
LITERAL = re.compile(r"\((<|>=) N_(\d+) 0\)")


def statements(text: str) -> list[str]:
    lines = " ".join(line for line in text.splitlines() if not line.startswith(";"))
    found, depth, start = [], 0, 0
    for i, letter in enumerate(lines):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        assert depth >= 0
        if letter == ")" and depth == 0:
            found.append(lines[start : i + 1].strip())
            start = i + 1
    assert depth == 0
    return found


def read(text: str):
    names, box, output, clauses = set(), {}, [], []
    for line in statements(text):
        if match := DECLARED.fullmatch(line):
            assert (match[1] == "pwl") == (match[3] == "ReLU")
            names |= set(match[2].split())
        elif match := COMPARED.fullmatch(line):
            op, name, other = match.groups()
            assert name in names
            if name.startswith("X"):
                box[name, op] = float(other)
            else:
                output.append((op, name, other))
        else:
            for clause in re.findall(r"\(and ((?:\([^)]*\) ?)+)\)", line):
                signs = [int(n) if op == ">=" else -int(n) for op, n in LITERAL.findall(clause)]
                assert all(f"N_{abs(sign)}" in names for sign in signs)
                clauses.append(signs)
    return names, box, output, clauses


def test_leaves_cover_each_pattern_once_and_none_of_them_is_reached() -> None:
    net = network(dense(2, 4, 16, 16, 3), 4)
    centre = np.full(4, 0.8)
    what = asked(centre, 0.2335, int(evaluate(net, centre)[-1].argmax()), 3)
    made = certified(net, what, 120.0)
    assert made.content is not None
    certificate = decoded(made.content)
    texts = exported(net, what, certificate)
    assert len(texts) == 2
    split = 0
    for text, unsafe in zip(texts, what.unsafe, strict=True):
        names, box, output, clauses = read(text)
        assert {name for name in names if name[0] != "N"} == {
            *(f"X_{i}" for i in range(4)),
            *(f"Y_{i}" for i in range(3)),
        }
        for i in range(4):
            assert box[f"X_{i}", ">="] == what.lower[i]
            assert box[f"X_{i}", "<="] == what.upper[i]
        ((op, first, second),) = output
        row = unsafe.weight[0]
        assert (op, row[int(first[2:])], row[int(second[2:])]) == ("<=", 1, -1)
        units = sorted({abs(s) for clause in clauses for s in clause})
        for pattern in product((1, -1), repeat=len(units)):
            signs = {unit * sign for unit, sign in zip(units, pattern, strict=True)}
            assert sum(set(clause) <= signs for clause in clauses) == 1
        split += len(clauses) > 2
        # the numbers of units are those of the network's ReLUs, layer by layer
        x = np.random.default_rng(0).uniform(what.lower, what.upper)
        values = evaluate(net, x)
        before = np.concatenate([values[value] for value in net.bent()])
        here = {unit if before[unit - 1] >= 0 else -unit for unit in units}
        assert any(set(clause) <= here for clause in clauses)
    assert split


def leaves_of(what: Question, node: Node) -> Certificate:
    return Certificate("", "", (), tuple(node for _ in what.unsafe))


def test_what_the_format_has_no_words_for_is_refused() -> None:
    dense_net = network(dense(0, 2, 3, 3), 2)
    what = asked(np.full(2, 0.5), 0.1, 0, 3)
    plain = Node(Leaf())
    halves = Node(Split("input", 0, 0, 0.5, (plain, plain)))
    other = question([0, 0], [1, 1], [[[1, 2, 0]]], [[0]])
    for net, about, node, why in (
        (dense_net, what, halves, "inputs that are split"),
        (dense_net, other, plain, "nothing else"),
        (network(pooled(0), 1, 3, 3), what, plain, "max pooling"),
        (network(residual(0), 1, 4, 4), what, plain, "beside a ReLU"),
    ):
        with pytest.raises(RefusedError, match=why):
            exported(net, about, leaves_of(about, node))
    least = question([0, 0], [1, 1], [[[0, -1, 0]]], [[2.5]])
    (text,) = exported(dense_net, least, leaves_of(least, plain))
    assert read(text)[2] == [(">=", "Y_1", "2.5")]
