"""Reads VNN-LIB properties, version 1 (`X_0`) and 2 (`X[0]`).

Numbers are read exactly, and end as the nearest float64. A strict inequality is read as the closed
one where something is to be proved, which asks for more; a counterexample must satisfy it as it is.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.properties import Property
from robsweep.tasks.verification.reading.vnnlib.box import Box, nearest
from robsweep.tasks.verification.reading.vnnlib.declared import (
    Interface,
    Query,
    declared_names,
    placed_names,
    query_of,
)
from robsweep.tasks.verification.reading.vnnlib.formula import MOST, Formula, Row


class Case(NamedTuple):
    """A box of inputs, and what is unsafe for them; a property holds if it holds in each case."""

    lower: NDArray[np.float64]  # (free inputs,)
    upper: NDArray[np.float64]
    unsafe: Property  # of one sample, on all outputs and perhaps the free inputs behind them
    strictly: tuple[NDArray[np.bool_], NDArray[np.bool_]]  # which ends lie outside of the box
    disjuncts: tuple[tuple[Row, ...], ...]  # the unsafe region, exactly

    def inner(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The ends of the float64 inputs that satisfy strict inequalities too."""
        least, most = self.strictly
        return (
            np.where(least, np.nextafter(self.lower, np.inf), self.lower),
            np.where(most, np.nextafter(self.upper, -np.inf), self.upper),
        )

    def reached(self, outputs: Iterable[float]) -> bool:
        """Whether outputs are unsafe, in exact arithmetic on the nearest float64 numbers.

        Args:
            outputs: And the free inputs behind them, where these are asked about.
        """
        values = [Fraction(one) for one in outputs]
        return any(all(row.holds(values) for row in rows) for rows in self.disjuncts)


class Asked(NamedTuple):
    """What a query asks of its networks together."""

    cases: list[Case]
    empty: str | None  # why there is no case, if there is none
    free: NDArray[np.int64]  # (inputs,): which free input each is; some must be equal to others
    mixed: bool  # whether free inputs stand behind the outputs in properties


def read_vnnlib(file: str, inputs: int, outputs: int) -> list[Case]:
    """The cases of a property about one network with so many inputs and outputs.

    Raises:
        InputError: As `asked`; or no input satisfies it, or constraints on several inputs at once.
    """
    query = query_of(file)
    if len(query.networks) > 1:
        raise InputError(f"{file}: is about {len(query.networks)} networks")
    found = asked(query, [Interface((("", inputs),), (("", outputs),))])
    if found.empty is not None:
        raise InputError(f"{file}: no input satisfies it: {found.empty}")
    if found.mixed or len(set(found.free.tolist())) < inputs:
        raise InputError(f"{file}: is about several inputs at once, or inputs beside outputs")
    return found.cases


def asked(query: Query, interfaces: Sequence[Interface]) -> Asked:
    """The cases of a query about networks of these inputs and outputs.

    Raises:
        InputError: Variables that the networks do not have or that are no real numbers, inputs that
            no constraints keep in a box, nothing asked, constraints that are not linear.
    """
    file = query.file
    lookup = (
        placed_names(query, interfaces) if query.networks else declared_names(query, interfaces[0])
    )
    inputs, outputs = (sum(one.sizes[i] for one in interfaces) for i in (0, 1))
    formula = Formula(file, lookup, outputs)
    parts = []
    for form in query.forms:
        if form.head != "assert":
            continue
        if len(form.items) != 2:
            raise formula.wrong(form, "assert takes one constraint")
        parts.append(formula.conjunctions(form.items[1]))
    if prod(map(len, parts)) > MOST:
        raise InputError(f"{file}: has more than {MOST} cases")
    common = [row for part in parts if len(part) == 1 for row in part[0]]
    free = _free(common, inputs, outputs)
    parts = [[[_renamed(row, free, outputs) for row in rows] for rows in part] for part in parts]
    parts = [[[row for row in rows if not _holds(row)] for rows in part] for part in parts]
    cases, empty = _cases(parts, file, int(free.max()) + 1, outputs)
    mixed = any(_beside(row) for case in cases for rows in case.disjuncts for row in rows)
    size = outputs + (int(free.max()) + 1 if mixed else 0)
    cases = [case._replace(unsafe=_property(case.disjuncts, size, file)) for case in cases]
    return Asked(cases, empty, free, mixed)


def _beside(row: Row) -> bool:
    return "X" in row.about


def _free(common: list[Row], inputs: int, outputs: int) -> NDArray[np.int64]:
    """Numbers the inputs, with one number for those that must be equal."""
    pairs = set()
    for row in common:
        if row.of_inputs and len(row.weight) == 2 and not row.constant and not row.strict:
            (i, v), (j, w) = row.weight.items()
            if v == -w:
                pairs.add((i, j) if v > 0 else (j, i))
    first = np.arange(inputs)
    for i, j in pairs:
        if (j, i) in pairs:
            one, other = first[i - outputs], first[j - outputs]
            first[first == max(one, other)] = min(one, other)
    return np.unique(first, return_inverse=True)[1].astype(np.int64)


def _renamed(row: Row, free: NDArray[np.int64], outputs: int) -> Row:
    weight: dict[int, Fraction] = {}
    for place, value in row.weight.items():
        new = place if place < outputs else outputs + int(free[place - outputs])
        weight[new] = weight.get(new, Fraction(0)) + value
    return row._replace(weight={place: w for place, w in weight.items() if w})


def _holds(row: Row) -> bool:
    """Whether it is about nothing any more, and true."""
    return not row.weight and row.holds([])


def _cases(
    parts: list[list[list[Row]]], file: str, inputs: int, outputs: int
) -> tuple[list[Case], str | None]:
    """The cases, still without their properties; or why there is none."""
    common = [row for part in parts if len(part) == 1 for row in part[0]]
    choices = [part for part in parts if len(part) != 1]
    shared = Box.around(inputs).within(filter(_of_one_input, common), outputs, file)
    always = [row for row in common if not _of_one_input(row)]
    boxes: dict[bytes, tuple[Box, list[tuple[Row, ...]]]] = {}
    empty = "it has no case"
    for choice in product(*choices):
        rows = [row for part in choice for row in part]
        box = shared.within(filter(_of_one_input, rows), outputs, file)
        about = (*always, *(row for row in rows if not _of_one_input(row)))
        box = box.filled([row for row in about if row.of_inputs], outputs)
        if (i := box.empty()) is not None:
            low, high = (
                f"X_{i} {sign}{'' if strict[i] else '='} {end[i]}"
                for sign, end, strict in (
                    (">", box.lower, box.above),
                    ("<", box.upper, box.below),
                )
            )
            empty = f"{low} and {high}"
            continue
        if any(not row.weight for row in about):
            empty = "inputs that are equal must differ"
            continue
        key = b"".join(part.tobytes() for part in box)
        boxes.setdefault(key, (box, []))[1].append(about)
    for box, disjuncts in boxes.values():
        if (at := box.free()) is not None:
            raise InputError(f"{file}: X_{at} has no lower or no upper bound")
        if not all(disjuncts):
            raise InputError(f"{file}: asserts nothing about the outputs")
    none = Property(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
    cases = [
        Case(
            box.lower,
            box.upper,
            none,
            (box.above, box.below),
            tuple(tuple(_nearest_row(row, file) for row in rows) for rows in disjuncts),
        )
        for box, disjuncts in boxes.values()
    ]
    return cases, None if cases else empty


def _of_one_input(row: Row) -> bool:
    return row.of_inputs and len(row.weight) == 1


def _nearest_row(row: Row, file: str) -> Row:
    def near(number: Fraction) -> Fraction:
        return Fraction(nearest(number, lambda: f"{file}: line {row.line}"))

    weight = {place: near(value) for place, value in row.weight.items()}
    return row._replace(weight=weight, constant=near(row.constant))


def _property(disjuncts: tuple[tuple[Row, ...], ...], outputs: int, file: str) -> Property:
    longest = max(map(len, disjuncts))
    weight = torch.zeros(1, len(disjuncts), longest, outputs, dtype=torch.float64)
    bias = torch.zeros(1, len(disjuncts), longest, dtype=torch.float64)
    for d, rows in enumerate(disjuncts):
        for c in range(longest):
            row = rows[min(c, len(rows) - 1)]
            at = f"{file}: line {row.line}"
            for j, value in row.weight.items():
                weight[0, d, c, j] = nearest(value, lambda at=at: at)  # type: ignore[misc]
            bias[0, d, c] = nearest(row.constant, lambda at=at: at)  # type: ignore[misc]
    return Property(weight, bias)
