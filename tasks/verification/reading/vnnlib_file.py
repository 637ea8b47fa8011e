"""Reads VNN-LIB properties, version 1 (`X_0`) and 2 (`X[0]`).

Numbers are read exactly, and end as the nearest float64. A strict inequality is read as the closed
one where something is to be proved, which asks for more; a counterexample must satisfy it as it is.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import product
from math import inf, nextafter, prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import content_of
from robsweep.tasks.verification.reading.properties import Property
from robsweep.tasks.verification.reading.vnnlib_formula import MOST, Formula, Lookup, Row
from robsweep.tasks.verification.reading.vnnlib_syntax import Form, Word, forms_of

_INDEXED = re.compile(r"([XY])_(\d{1,12})")
_BRACKETED = re.compile(r"([^\[\]]+)\[([\d\s,]*)\]")
_SILENT = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")
_REALS = ("Real", "real", "float32", "float64", "Float32", "Float64")


class Case(NamedTuple):
    """A box of inputs, and what is unsafe for them; a property holds if it holds in each case."""

    lower: NDArray[np.float64]  # (inputs,)
    upper: NDArray[np.float64]
    unsafe: Property  # of one sample
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
        """Whether outputs are unsafe, in exact arithmetic on the nearest float64 numbers."""
        values = [Fraction(one) for one in outputs]
        return any(all(row.holds(values) for row in rows) for rows in self.disjuncts)


def read_vnnlib(file: str, inputs: int, outputs: int) -> list[Case]:
    """The cases of a property about a network with so many inputs and outputs.

    Raises:
        InputError: No VNN-LIB, variables that the network does not have or that are no real
            numbers, inputs that are not in a box, no input at all, constraints that are not linear.
    """
    try:
        text = content_of(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    forms = forms_of(text.replace("\r\n", "\n").replace("\r", "\n"), file)
    counts = {"X": inputs, "Y": outputs}
    second = any(form.head in ("declare-network", "vnnlib-version") for form in forms)
    lookup = (_declared_network if second else _declared_names)(forms, counts, file)
    formula = Formula(file, lookup)
    parts = []
    for form in forms:
        if form.head != "assert":
            continue
        if len(form.items) != 2:
            raise formula.wrong(form, "assert takes one constraint")
        parts.append(formula.conjunctions(form.items[1]))
    if prod(map(len, parts)) > MOST:
        raise InputError(f"{file}: has more than {MOST} cases")
    return _cases(parts, file, inputs, outputs)


def _cases(parts: list[list[list[Row]]], file: str, inputs: int, outputs: int) -> list[Case]:
    common = [row for part in parts if len(part) == 1 for row in part[0]]
    choices = [part for part in parts if len(part) != 1]
    shared = _Box.around(inputs).within((row for row in common if row.of_inputs), file)
    always = [row for row in common if not row.of_inputs]
    boxes: dict[bytes, tuple[_Box, list[tuple[Row, ...]]]] = {}
    empty = "it has no case"
    for choice in product(*choices):
        rows = [row for part in choice for row in part]
        box = shared.within((row for row in rows if row.of_inputs), file)
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
        key = b"".join(part.tobytes() for part in box)
        about = (*always, *(row for row in rows if not row.of_inputs))
        boxes.setdefault(key, (box, []))[1].append(about)
    if not boxes:
        raise InputError(f"{file}: no input satisfies it: {empty}")
    for box, disjuncts in boxes.values():
        if (free := box.free()) is not None:
            raise InputError(f"{file}: X_{free} has no lower or no upper bound")
        if not all(disjuncts):
            raise InputError(f"{file}: asserts nothing about the outputs")
    return [
        Case(
            box.lower,
            box.upper,
            _property(disjuncts, outputs, file),
            (box.above, box.below),
            tuple(tuple(map(_nearest_row, rows)) for rows in disjuncts),
        )
        for box, disjuncts in boxes.values()
    ]


def _declared_names(forms: list[Form], counts: dict[str, int], file: str) -> Lookup:
    """Version 1: one constant per input X_<i> and output Y_<j>."""
    declared: set[str] = set()
    for form in forms:
        words = [one.text if isinstance(one, Word) else "()" for one in form.items]
        at = f"{file}: line {form.line}"
        match words:
            case ["declare-const", name, kind] | ["declare-fun", name, "()", kind]:
                found = _INDEXED.fullmatch(name)
                if found is None:
                    raise InputError(f"{at}: declares {name!r}; variables are X_<i> and Y_<j>")
                if kind not in _REALS:
                    raise InputError(f"{at}: {name} is of type {kind}; only Real can be verified")
                _ = _place(found[1], int(found[2]), counts, at)
                declared.add(f"{found[1]}_{int(found[2])}")
            case ["assert", *_]:
                pass
            case [command, *_] if command in _SILENT:
                pass
            case _:
                raise InputError(f"{at}: syntax error: ({form.head} ...) is not known")

    def lookup(word: Word) -> tuple[str, int]:
        at, found = f"{file}: line {word.line}", _INDEXED.fullmatch(word.text)
        if found is None:
            raise InputError(f"{at}: {word.text[:40]!r} is not declared")
        letter, index = found[1], int(found[2])
        place = _place(letter, index, counts, at)
        if f"{letter}_{index}" not in declared:
            raise InputError(f"{at}: {letter}_{index} is not declared")
        return letter, place

    return lookup


def _place(letter: str, index: int, counts: dict[str, int], at: str) -> int:
    if index >= counts[letter]:
        what = "inputs" if letter == "X" else "outputs"
        have = f"the network has {counts[letter]} {what}"
        raise InputError(f"{at}: {letter}_{index} does not exist, {have}")
    return index


def _declared_network(forms: list[Form], counts: dict[str, int], file: str) -> Lookup:
    """Version 2: one network, with one input and one output of some shape."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    networks = [form for form in forms if form.head == "declare-network"]
    for form in forms:
        if form.head not in ("vnnlib-version", "declare-network", "assert", *_SILENT):
            where = f"{file}: line {form.line}"
            raise InputError(f"{where}: syntax error: ({form.head} ...) is not known")
    if len(networks) != 1:
        raise InputError(f"{file}: is about {len(networks)} networks; there must be one")
    for one in networks[0].items[2:]:
        at = f"{file}: line {one.line}"
        letter = {"declare-input": "X", "declare-output": "Y"}.get(getattr(one, "head", ""))
        if not isinstance(one, Form) or letter is None or len(one.items) < 4:
            raise InputError(f"{at}: only an input and an output of the network can be verified")
        words = [part.text if isinstance(part, Word) else "()" for part in one.items]
        name, kind, shape = words[1], words[2], _numbers(words[-1], at)
        if kind not in _REALS:
            raise InputError(f"{at}: {name} is of type {kind}; only float32 and float64 are")
        if letter in {known for known, _ in shapes.values()}:
            raise InputError(f"{at}: is about more than one network, input or output")
        if prod(shape) != counts[letter]:
            what = "inputs" if letter == "X" else "outputs"
            has = f"the network has {counts[letter]}"
            raise InputError(f"{at}: declares {prod(shape)} {what}, {has}")
        shapes[name] = (letter, shape)
    if len(shapes) != 2:
        raise InputError(f"{file}: line {networks[0].line}: needs an input and an output")

    def lookup(word: Word) -> tuple[str, int]:
        at = f"{file}: line {word.line}"
        found = _BRACKETED.fullmatch(word.text)
        name = found[1] if found else word.text
        if name not in shapes:
            raise InputError(f"{at}: {name[:40]!r} is not declared")
        letter, shape = shapes[name]
        index = _numbers(f"[{found[2]}]", at) if found else ()
        if len(index) != len(shape) or any(i >= n for i, n in zip(index, shape, strict=True)):
            raise InputError(f"{at}: {word.text[:40]} does not exist, {name} is of shape {shape}")
        return letter, int(np.ravel_multi_index(index, shape)) if shape else 0

    return lookup


def _numbers(text: str, at: str) -> tuple[int, ...]:
    """Of a shape or an index, `[1, 2]`."""
    words = text.strip("[]").replace(",", " ").split()
    if not text.startswith("[") or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise InputError(f"{at}: {text[:40]} is no shape and no index")
    return tuple(map(int, words))


class _Box(NamedTuple):
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    above: NDArray[np.bool_]  # the lower end itself is outside
    below: NDArray[np.bool_]

    @staticmethod
    def around(inputs: int) -> "_Box":
        low, high = np.full(inputs, -np.inf), np.full(inputs, np.inf)
        return _Box(low, high, np.zeros(inputs, dtype=bool), np.zeros(inputs, dtype=bool))

    def within(self, rows: Iterable[Row], file: str) -> "_Box":
        box = _Box(self.lower.copy(), self.upper.copy(), self.above.copy(), self.below.copy())
        for row in rows:
            if len(row.weight) != 1:
                names = ", ".join(f"X_{i}" for i in row.weight)
                what = f"a constraint on {names} together; inputs must be in a box"
                raise InputError(f"{file}: line {row.line}: {what}")
            ((i, value),) = row.weight.items()
            end = _nearest(-row.constant / value, lambda row=row: f"{file}: line {row.line}")  # type: ignore[misc]
            ends, strict = (box.upper, box.below) if value > 0 else (box.lower, box.above)
            nearer = end < ends[i] if value > 0 else end > ends[i]
            if nearer or end == ends[i]:
                strict[i] = row.strict or (strict[i] and not nearer)
                ends[i] = end
        return box

    def empty(self) -> int | None:
        """An input for which nothing is left."""
        either = self.above | self.below
        wrong = (self.lower > self.upper) | ((self.lower == self.upper) & either)
        return int(np.flatnonzero(wrong)[0]) if wrong.any() else None

    def free(self) -> int | None:
        wrong = ~np.isfinite(self.lower) | ~np.isfinite(self.upper)
        return int(np.flatnonzero(wrong)[0]) if wrong.any() else None


def _nearest(number: Fraction, at: Callable[[], str]) -> float:
    """Float64, in which no number but 0 becomes 0.

    Raises:
        InputError: It is beyond float64.
    """
    try:
        near = float(number)
    except OverflowError:
        raise InputError(f"{at()}: a number is beyond what float64 can hold") from None
    return nextafter(0.0, inf if number > 0 else -inf) if number and not near else near


def _nearest_row(row: Row) -> Row:
    weight = {i: Fraction(_nearest(w, str)) for i, w in row.weight.items()}
    return row._replace(weight=weight, constant=Fraction(_nearest(row.constant, str)))


def _property(disjuncts: list[tuple[Row, ...]], outputs: int, file: str) -> Property:
    longest = max(map(len, disjuncts))
    weight = torch.zeros(1, len(disjuncts), longest, outputs, dtype=torch.float64)
    bias = torch.zeros(1, len(disjuncts), longest, dtype=torch.float64)
    for d, rows in enumerate(disjuncts):
        for c in range(longest):
            row = rows[min(c, len(rows) - 1)]
            at = f"{file}: line {row.line}"
            for j, value in row.weight.items():
                weight[0, d, c, j] = _nearest(value, lambda at=at: at)  # type: ignore[misc]
            bias[0, d, c] = _nearest(row.constant, lambda at=at: at)  # type: ignore[misc]
    return Property(weight, bias)
