"""What a VNN-LIB file declares: networks and their variables, in version 1 and in version 2."""

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Literal, NamedTuple

import numpy as np

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import content_of
from robsweep.tasks.verification.reading.vnnlib.syntax import Form, Word, forms_of

# What a name stands for: X or Y, and its place; raises InputError if nothing is known of it.
Lookup = Callable[[Word], tuple[str, int]]
Role = Literal["input", "hidden", "output"]

_INDEXED = re.compile(r"([XY])_(\d{1,12})")
_BRACKETED = re.compile(r"([^\[\]]+)\[([\d\s,]*)\]")
SILENT = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")
_REAL = ("real",)  # of any precision
_FLOATS = ("float32", "float64")
_INTEGERS = ("int32", "int64")  # of outputs
_ROLES: dict[str, Role] = {
    "declare-input": "input",
    "declare-hidden": "hidden",
    "declare-output": "output",
}


class Variable(NamedTuple):
    """A tensor of a network."""

    name: str
    role: Role
    kind: str  # as it is written
    shape: tuple[int, ...]
    node: str | None  # its name in the ONNX file, if the query says it
    line: int

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def precision(self) -> str | None:
        """Float32 or float64; None where any will do."""
        kind = self.kind.lower()
        return None if kind in _REAL else kind


class Declaration(NamedTuple):
    """A network."""

    name: str
    variables: tuple[Variable, ...]
    equal_to: str | None
    isomorphic_to: str | None
    line: int

    def of(self, *roles: Role) -> list[Variable]:
        return [one for one in self.variables if one.role in roles]

    def hidden(self) -> list[str]:
        return [str(one.node) for one in self.of("hidden")]


class Interface(NamedTuple):
    """A network's inputs and outputs, hidden ones behind the others: their names and sizes."""

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def sizes(self) -> tuple[int, int]:
        first, second = (sum(size for _, size in part) for part in self)
        return first, second


class Query(NamedTuple):
    """A file."""

    file: str
    forms: list[Form]
    networks: tuple[Declaration, ...]  # none in version 1, which is about one without a name


def query_of(file: str) -> Query:
    """Reads a file, and what it declares if it is of version 2.

    Raises:
        InputError: No VNN-LIB; with the line.
    """
    try:
        text = content_of(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    forms = forms_of(text.replace("\r\n", "\n").replace("\r", "\n"), file)
    if not any(form.head in ("declare-network", "vnnlib-version") for form in forms):
        return Query(file, forms, ())
    for form in forms:
        if form.head not in ("vnnlib-version", "declare-network", "assert", *SILENT):
            where = f"{file}: line {form.line}"
            raise InputError(f"{where}: syntax error: ({form.head} ...) is not known")
    networks: list[Declaration] = []
    for form in forms:
        if form.head == "declare-network":
            networks.append(_network(form, file, networks))
    if not networks:
        raise InputError(f"{file}: is about 0 networks; there must be one")
    names = [one.name for network in networks for one in network.variables]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{file}: declares {doubled[0]!r} twice")
    return Query(file, forms, tuple(networks))


def _network(form: Form, file: str, before: Sequence[Declaration]) -> Declaration:
    at = f"{file}: line {form.line}"
    if len(form.items) < 2 or not isinstance(form.items[1], Word):
        raise InputError(f"{at}: a network without a name")
    name = form.items[1].text
    known = [one.name for one in before]
    if name in known:
        raise InputError(f"{at}: declares network {name!r} twice")
    same: dict[str, str] = {}
    variables: list[Variable] = []
    for one in form.items[2:]:
        at = f"{file}: line {one.line}"
        if not isinstance(one, Form) or one.head not in (*_ROLES, "equal-to", "isomorphic-to"):
            raise InputError(f"{at}: only inputs, hidden nodes and outputs can be declared")
        words = [part.text if isinstance(part, Word) else "()" for part in one.items]
        if one.head in _ROLES:
            variables.append(_variable(words, one, at))
            continue
        if len(words) != 2 or same:
            raise InputError(f"{at}: ({one.head} ...) takes one network, and once")
        if words[1] not in known:
            raise InputError(f"{at}: network {words[1][:40]!r} is not declared before it")
        same[one.head] = words[1]
    found = Declaration(
        name, tuple(variables), same.get("equal-to"), same.get("isomorphic-to"), form.line
    )
    if not found.of("input") or not found.of("output"):
        raise InputError(f"{file}: line {form.line}: needs an input and an output")
    named = [one.node is not None for one in found.of("input", "output")]
    if any(named) and not all(named):
        raise InputError(f"{file}: line {form.line}: names some ONNX nodes, and others not")
    return found


def _variable(words: list[str], form: Form, at: str) -> Variable:
    role = _ROLES[form.head]
    node = words.pop()[1:-1] if len(words) > 4 and words[-1].startswith('"') else None
    if len(words) < 4:
        raise InputError(f"{at}: ({form.head} NAME TYPE [SHAPE]) is what declares it")
    name, kind, shape = words[1], words[2], numbers("".join(words[3:]), at)
    if role == "hidden" and node is None:
        raise InputError(f"{at}: hidden node {name} needs its name in the ONNX file")
    if kind.lower() not in (*_REAL, *_FLOATS, *(_INTEGERS if role != "input" else ())):
        raise InputError(f"{at}: {name} is of type {kind}; only real, float32 and float64 are")
    return Variable(name, role, kind, shape, node, form.line)


def placed_names(query: Query, interfaces: Sequence[Interface]) -> Lookup:
    """Where each variable of version 2 lies among all inputs, and among all outputs.

    Args:
        interfaces: Of each network in turn. Names that are empty are taken in their order.

    Raises:
        InputError: Another number of entries than the network has, or a name that it has not.
    """
    places: dict[str, tuple[str, int, tuple[int, ...]]] = {}
    bases = [0, 0]
    for network, interface in zip(query.networks, interfaces, strict=True):
        inputs, outputs = network.of("input"), network.of("output")
        ends = len(interface.outputs) - len(network.of("hidden"))
        groups = (
            ("X", inputs, interface.inputs, bases[0]),
            ("Y", outputs, interface.outputs[:ends], bases[1]),
        )
        for letter, variables, have, base in groups:
            firsts = _firsts(query.file, variables, have, letter)
            for one, first in zip(variables, firsts, strict=True):
                places[one.name] = (letter, base + first, one.shape)
        first = bases[1] + sum(size for _, size in interface.outputs[:ends])
        for one, (_, size) in zip(network.of("hidden"), interface.outputs[ends:], strict=True):
            _check_size(query.file, one, size, "entries")
            places[one.name] = ("Y", first, one.shape)
            first += size
        bases = [base + size for base, size in zip(bases, interface.sizes, strict=True)]

    def lookup(word: Word) -> tuple[str, int]:
        at = f"{query.file}: line {word.line}"
        found = _BRACKETED.fullmatch(word.text)
        name = found[1] if found else word.text
        if name not in places:
            raise InputError(f"{at}: {name[:40]!r} is not declared")
        letter, first, shape = places[name]
        index = numbers(f"[{found[2]}]", at) if found else ()
        if not index and prod(shape) == 1:  # a scalar, however it is written
            return letter, first
        if len(index) != len(shape) or any(i >= n for i, n in zip(index, shape, strict=True)):
            raise InputError(f"{at}: {word.text[:40]} does not exist, {name} is of shape {shape}")
        return letter, first + (int(np.ravel_multi_index(index, shape)) if shape else 0)

    return lookup


def _firsts(
    file: str, variables: list[Variable], have: Sequence[tuple[str, int]], letter: str
) -> list[int]:
    """The first place of each variable, by its name in the file or by its order."""
    what = "inputs" if letter == "X" else "outputs"
    total = sum(size for _, size in have)
    if all(one.node is None for one in variables):
        if sum(one.size for one in variables) != total:
            one = variables[0]
            _check_size(file, one, total - sum(v.size for v in variables[1:]), what)
        if len(variables) == len(have):
            for one, (_, size) in zip(variables, have, strict=True):
                _check_size(file, one, size, what)
        sizes = [one.size for one in variables]
        return [sum(sizes[:i]) for i in range(len(sizes))]
    names = [name for name, _ in have]
    if len(variables) != len(have):
        raise InputError(f"{file}: line {variables[0].line}: the network has {len(have)} {what}")
    firsts = []
    for one in variables:
        if one.node not in names:
            known = ", ".join(names)[:200]
            raise InputError(f"{file}: line {one.line}: there is no {one.node!r} among {known}")
        place = names.index(one.node)
        _check_size(file, one, have[place][1], what)
        firsts.append(sum(size for _, size in have[:place]))
    return firsts


def _check_size(file: str, one: Variable, size: int, what: str) -> None:
    if one.size != size:
        at = f"{file}: line {one.line}"
        raise InputError(f"{at}: declares {one.size} {what}, the network has {size}")


def declared_names(query: Query, interface: Interface) -> Lookup:
    """Version 1: one constant per input X_<i> and output Y_<j>."""
    counts = dict(zip("XY", interface.sizes, strict=True))
    declared: set[str] = set()
    for form in query.forms:
        words = [one.text if isinstance(one, Word) else "()" for one in form.items]
        at = f"{query.file}: line {form.line}"
        match words:
            case ["declare-const", name, kind] | ["declare-fun", name, "()", kind]:
                found = _INDEXED.fullmatch(name)
                if found is None:
                    raise InputError(f"{at}: declares {name!r}; variables are X_<i> and Y_<j>")
                if kind.lower() not in (*_REAL, *_FLOATS):
                    raise InputError(f"{at}: {name} is of type {kind}; only Real can be verified")
                _ = _place(found[1], int(found[2]), counts, at)
                declared.add(f"{found[1]}_{int(found[2])}")
            case ["assert", *_]:
                pass
            case [command, *_] if command in SILENT:
                pass
            case _:
                raise InputError(f"{at}: syntax error: ({form.head} ...) is not known")

    def lookup(word: Word) -> tuple[str, int]:
        at, found = f"{query.file}: line {word.line}", _INDEXED.fullmatch(word.text)
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


def numbers(text: str, at: str) -> tuple[int, ...]:
    """Of a shape or an index, `[1, 2]`."""
    words = text.strip("[]").replace(",", " ").split()
    if not text.startswith("[") or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise InputError(f"{at}: {text[:40]} is no shape and no index")
    return tuple(map(int, words))
