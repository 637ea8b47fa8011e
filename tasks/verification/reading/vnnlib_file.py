"""Reads VNN-LIB properties, version 1 (`X_0`) and 2 (`X[0]`), through the `vnnlib` package."""

import importlib.util
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from robsweep.tasks.catalogue.install import how_to_install
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.properties import Property

_MOST = 10_000  # cases of one property
_VARIABLE = re.compile(r"(?<=[\s(])([XY])_(\d+)(?=[\s)])")
_NUMBER = re.compile(r"(?<=[\s(])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=[\s)])")
_DECLARED = re.compile(r"\(\s*declare-const\s+(\S+)\s+\w+\s*\)")


class Case(NamedTuple):
    """A box of inputs, and what is unsafe for them; a property holds if it holds in each case."""

    lower: NDArray[np.float64]  # (inputs,)
    upper: NDArray[np.float64]
    unsafe: Property  # of one sample


class _Row(NamedTuple):
    """One constraint: weight @ variables + constant <= 0."""

    weight: dict[int, float]
    constant: float
    of_inputs: bool


def read_vnnlib(file: str, inputs: int, outputs: int) -> list[Case]:
    """The cases of a property about a network with so many inputs and outputs.

    Raises:
        InputError: No VNN-LIB, variables that the network does not have, inputs that are not in a
            box, an empty box, constraints that are not linear.
    """
    if importlib.util.find_spec("vnnlib") is None:
        raise InputError(f"vnnlib is not installed: {how_to_install('verification')}")
    import vnnlib

    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    text = re.sub(r";[^\n]*", "", text)
    if "declare-network" not in text:
        text = _as_version_2(text, file, inputs, outputs)
    try:
        query = vnnlib.parse_query_string(text)
        _check_declarations(query, file, inputs, outputs)
        parts = [
            [list(_rows(conjunction, file)) for conjunction in one.expr.to_dnf()]
            for one in query.assertions
        ]
    except vnnlib.VNNLibException as error:
        raise InputError(f"{file}: {_reason(error)}") from None
    common = [row for part in parts if len(part) == 1 for row in part[0]]
    choices = [part for part in parts if len(part) != 1]
    if prod(map(len, choices)) > _MOST:
        raise InputError(f"{file}: has more than {_MOST} cases")
    boxes: dict[bytes, tuple[_Box, list[list[_Row]]]] = {}
    empty = None
    for choice in product(*choices):
        rows = [*common, *(row for part in choice for row in part)]
        box = _box([row for row in rows if row.of_inputs], file, inputs)
        wrong = np.flatnonzero(box.lower > box.upper)
        if len(wrong):
            i = wrong[0]
            empty = f"X_{i} >= {box.lower[i]} and X_{i} <= {box.upper[i]}"
            continue
        key = box.lower.tobytes() + box.upper.tobytes()
        boxes.setdefault(key, (box, []))[1].append([row for row in rows if not row.of_inputs])
    if not boxes:
        raise InputError(f"{file}: no input satisfies it: {empty or 'it has no case'}")
    if any(not rows for _, disjuncts in boxes.values() for rows in disjuncts):
        raise InputError(f"{file}: asserts nothing about the outputs")
    return [Case(*box, _property(disjuncts, outputs)) for box, disjuncts in boxes.values()]


def _as_version_2(text: str, file: str, inputs: int, outputs: int) -> str:
    counts = {"X": inputs, "Y": outputs}
    declared = set(_DECLARED.findall(text))
    for name in sorted(declared):
        letter, _, index = name.partition("_")
        if letter not in counts or not index.isdigit():
            raise InputError(f"{file}: declares {name!r}; variables are X_<i> and Y_<j>")
    for letter, index in _VARIABLE.findall(text):
        if int(index) >= counts[letter]:
            what = "inputs" if letter == "X" else "outputs"
            raise InputError(
                f"{file}: {letter}_{index} does not exist, the network has {counts[letter]} {what}"
            )
        if f"{letter}_{index}" not in declared:
            raise InputError(f"{file}: {letter}_{index} is not declared")
    text = _DECLARED.sub("", text)
    text = _VARIABLE.sub(r"\1[\2]", _NUMBER.sub(_plain, text))
    text = re.sub(r"\(\s*=(?=\s)", "(==", text)
    head = (
        "(vnnlib-version <2.0>)\n(declare-network N "
        f"(declare-input X float64 [{inputs}]) (declare-output Y float64 [{outputs}]))\n"
    )
    return head + text


def _plain(number: re.Match[str]) -> str:
    """A number without exponent, as version 2 wants it."""
    written = format(Decimal(number[0]), "f")
    return written if "." in written else written + ".0"


def _reason(error: Exception) -> str:
    try:
        found = json.loads(str(error))["errors"][0]
    except (ValueError, KeyError, IndexError):
        return str(error)
    return f"line {found['line']}: {found['message']}: {found['offendingSymbol']} {found['hint']}"


def _check_declarations(query: Any, file: str, inputs: int, outputs: int) -> None:
    networks = query.networks
    if len(networks) != 1 or len(networks[0].inputs) != 1 or len(networks[0].outputs) != 1:
        raise InputError(f"{file}: is about more than one network, input or output")
    for what, declared, count in (
        ("inputs", networks[0].inputs[0], inputs),
        ("outputs", networks[0].outputs[0], outputs),
    ):
        if prod(declared.shape) != count:
            raise InputError(
                f"{file}: declares {prod(declared.shape)} {what}, the network has {count}"
            )


def _rows(conjunction: list[Any], file: str) -> Iterator[_Row]:
    import vnnlib

    for comparison in conjunction:
        left, right = (side.to_linear_expr() for side in (comparison.lhs, comparison.rhs))
        constant = left.constant - right.constant
        weight: dict[int, float] = {}
        kinds = set()
        for sign, terms in ((1.0, left.terms), (-1.0, right.terms)):
            for term in terms:
                place = int(np.ravel_multi_index(tuple(term.var.indices), tuple(term.var.shape)))
                weight[place] = weight.get(place, 0.0) + sign * term.coeff
                kinds.add(term.var.kind)
        if len(kinds) != 1 or kinds & {vnnlib.SymbolKind.Hidden, vnnlib.SymbolKind.Unknown}:
            raise InputError(
                f"{file}: {comparison} is not about inputs alone, nor about outputs alone"
            )
        of_inputs = kinds == {vnnlib.SymbolKind.Input}
        row = _Row(weight, constant, of_inputs)
        minus = _Row({i: -value for i, value in weight.items()}, -constant, of_inputs)
        match comparison:
            case vnnlib.LessEqual() | vnnlib.LessThan():
                yield row
            case vnnlib.GreaterEqual() | vnnlib.GreaterThan():
                yield minus
            case vnnlib.Equal():
                yield row
                yield minus
            case _:
                raise InputError(f"{file}: {comparison} cannot be verified")


class _Box(NamedTuple):
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def _box(rows: list[_Row], file: str, inputs: int) -> _Box:
    box = _Box(np.full(inputs, -np.inf), np.full(inputs, np.inf))
    for row in rows:
        terms = [(i, value) for i, value in row.weight.items() if value]
        if len(terms) != 1:
            names = ", ".join(f"X_{i}" for i in row.weight)
            raise InputError(f"{file}: a constraint on {names} together; inputs must be in a box")
        ((i, value),) = terms
        end = -row.constant / value
        if value > 0:
            box.upper[i] = min(box.upper[i], end)
        else:
            box.lower[i] = max(box.lower[i], end)
    free = np.flatnonzero(~np.isfinite(box.lower) | ~np.isfinite(box.upper))
    if len(free):
        raise InputError(f"{file}: X_{free[0]} has no lower or no upper bound")
    return box


def _property(disjuncts: list[list[_Row]], outputs: int) -> Property:
    longest = max(map(len, disjuncts))
    weight = torch.zeros(1, len(disjuncts), longest, outputs, dtype=torch.float64)
    bias = torch.zeros(1, len(disjuncts), longest, dtype=torch.float64)
    for d, rows in enumerate(disjuncts):
        for c in range(longest):
            row = rows[min(c, len(rows) - 1)]
            for j, value in row.weight.items():
                weight[0, d, c, j] = value
            bias[0, d, c] = row.constant
    return Property(weight, bias)
