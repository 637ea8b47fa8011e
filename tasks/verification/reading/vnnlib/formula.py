"""The assertions of a VNN-LIB file, exactly: linear constraints in disjunctive normal form."""

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.vnnlib.declared import Lookup
from robsweep.tasks.verification.reading.vnnlib.syntax import Form, Word

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LONGEST = 5000  # characters of a number, and how far its exponent may go
_OPPOSITE = {"<=": ">", "<": ">=", ">=": "<", ">": "<="}
MOST = 10_000  # conjunctions of one assertion


class Row(NamedTuple):
    """One constraint: weight @ variables + constant <= 0, or < 0 where it is strict.

    The variables are all outputs and, behind them, all inputs.
    """

    weight: dict[int, Fraction]
    constant: Fraction
    strict: bool
    about: frozenset[str]  # X, Y or both
    line: int

    @property
    def of_inputs(self) -> bool:
        return self.about == {"X"}

    def holds(self, values: list[Fraction]) -> bool:
        total = self.constant + sum(w * values[i] for i, w in self.weight.items())
        return total < 0 if self.strict else total <= 0


Conjunctions = list[list[Row]]  # any of which holds; none: never; an empty one: always


class _Sum(NamedTuple):
    """weight @ variables + constant; variables are (X or Y, place)."""

    weight: dict[tuple[str, int], Fraction]
    constant: Fraction

    def times(self, factor: Fraction) -> "_Sum":
        return _Sum({v: factor * w for v, w in self.weight.items()}, factor * self.constant)

    def plus(self, other: "_Sum") -> "_Sum":
        weight = dict(self.weight)
        for variable, value in other.weight.items():
            weight[variable] = weight.get(variable, Fraction(0)) + value
        return _Sum(weight, self.constant + other.constant)


class Formula(NamedTuple):
    file: str
    lookup: Lookup
    outputs: int  # of all networks

    def conjunctions(self, form: Word | Form, *, holds: bool = True) -> Conjunctions:
        """Where a formula holds, or where it does not.

        Raises:
            InputError: What is no linear constraint, or too many cases; with its line.
        """
        if isinstance(form, Word):
            if form.text not in ("true", "false"):
                raise self.wrong(form, f"{form.text!r} is no constraint")
            return [[]] if (form.text == "true") == holds else []
        arguments = _indexed(form.items[1:])
        match form.head:
            case "not" if len(arguments) == 1:
                return self.conjunctions(arguments[0], holds=not holds)
            case "=>" if len(arguments) == 2:
                parts = [self.conjunctions(arguments[0], holds=not holds)]
                parts.append(self.conjunctions(arguments[1], holds=holds))
                return self._any(form, parts) if holds else self._all(form, parts)
            case "and" | "or" as word:
                parts = [self.conjunctions(one, holds=holds) for one in arguments]
                both = (word == "and") == holds
                return self._all(form, parts) if both else self._any(form, parts)
            case "!=" if len(arguments) == 2:
                sums = [self._sum(one) for one in arguments]
                return self._compared("=", sums[0], sums[1], form, holds=not holds)
            case "<=" | "<" | ">=" | ">" | "=" | "==" as word if len(arguments) >= 2:
                sums = [self._sum(one) for one in arguments]
                parts = [self._compared(word, *pair, form, holds=holds) for pair in pairwise(sums)]
                return self._all(form, parts) if holds else self._any(form, parts)
        raise self.wrong(form, f"({form.head} ...) cannot be verified")

    def wrong(self, where: Word | Form, what: str) -> InputError:
        return InputError(f"{self.file}: line {where.line}: {what}")

    def _any(self, form: Form, parts: list[Conjunctions]) -> Conjunctions:
        found = [one for part in parts for one in part]
        if len(found) > MOST:
            raise self.wrong(form, f"more than {MOST} cases")
        return found

    def _all(self, form: Form, parts: list[Conjunctions]) -> Conjunctions:
        found: Conjunctions = [[]]
        common = [row for part in parts if len(part) == 1 for row in part[0]]
        for part in parts:
            if len(part) == 1:
                continue
            if len(found) * len(part) > MOST:
                raise self.wrong(form, f"more than {MOST} cases")
            found = [[*one, *other] for one in found for other in part]
        return [[*common, *one] for one in found]

    def _compared(
        self, word: str, left: _Sum, right: _Sum, form: Form, *, holds: bool
    ) -> Conjunctions:
        if word in ("=", "=="):
            words = ("<=", ">=") if holds else ("<", ">")
            both = [self._compared(w, left, right, form, holds=True) for w in words]
            return self._all(form, both) if holds else self._any(form, both)
        word = word if holds else _OPPOSITE[word]
        small, large = (left, right) if word.startswith("<") else (right, left)
        total = small.plus(large.times(Fraction(-1)))
        weight = {variable: w for variable, w in total.weight.items() if w}
        strict = len(word) == 1
        if not weight:
            always = total.constant < 0 if strict else total.constant <= 0
            return [[]] if always else []
        kinds = frozenset(kind for kind, _ in weight)
        placed = {
            place + (self.outputs if kind == "X" else 0): w for (kind, place), w in weight.items()
        }
        return [[Row(placed, total.constant, strict, kinds, form.line)]]

    def _sum(self, form: Word | Form) -> _Sum:
        if isinstance(form, Word):
            if form.text[0].isdigit() or form.text[0] in "+-.":
                return _Sum({}, self._number(form))
            return _Sum({self.lookup(form): Fraction(1)}, Fraction(0))
        if len(form.items) < 2 or form.head not in ("+", "-", "*", "/"):
            raise self.wrong(form, f"({form.head} ...) is no linear expression")
        parts = [self._sum(one) for one in _indexed(form.items[1:])]
        total = parts[0]
        if form.head == "-" and len(parts) == 1:
            return total.times(Fraction(-1))
        for one in parts[1:]:
            match form.head:
                case "+":
                    total = total.plus(one)
                case "-":
                    total = total.plus(one.times(Fraction(-1)))
                case "*":
                    if total.weight and one.weight:
                        raise self.wrong(form, "a product of variables is not linear")
                    total = (
                        total.times(one.constant) if not one.weight else one.times(total.constant)
                    )
                case _:
                    if one.weight or not one.constant:
                        raise self.wrong(form, "a quotient by a variable or 0 is not linear")
                    total = total.times(1 / one.constant)
        return total

    def _number(self, word: Word) -> Fraction:
        text = word.text
        if not _NUMBER.fullmatch(text):
            raise self.wrong(word, f"{text[:40]!r} is no number")
        exponent = re.split("[eE]", text)[1:] or ["0"]
        if len(text) > _LONGEST or len(exponent[0]) > 6 or abs(int(exponent[0])) > _LONGEST:
            raise self.wrong(word, f"{text[:40]} is out of range")
        return Fraction(text)


def _indexed(items: Sequence[Word | Form]) -> list[Word | Form]:
    """With `X [0]` as the one word that `X[0]` is."""
    found: list[Word | Form] = []
    for one in items:
        before = found[-1] if found else None
        if isinstance(one, Word) and one.text.startswith("[") and isinstance(before, Word):
            found[-1] = Word(before.text + one.text, before.line)
        else:
            found.append(one)
    return found
