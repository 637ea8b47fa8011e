"""The networks that a query is about, and what it asks of them: all read, and nothing solved."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import content_of
from robsweep.tasks.verification.reading.joint import alike, joint
from robsweep.tasks.verification.reading.layers import Network
from robsweep.tasks.verification.reading.onnx.model import OnnxModel, load
from robsweep.tasks.verification.reading.onnx.network import check_reading, read_onnx
from robsweep.tasks.verification.reading.vnnlib.declared import (
    Declaration,
    Interface,
    Query,
    Variable,
    query_of,
)
from robsweep.tasks.verification.reading.vnnlib.file import Asked, Case, asked

Numbers = NDArray[np.float64]
Files = str | Mapping[str, str]  # the only network's, or each one's by its name in the query
_HELD = 20  # cases in whose boxes the readings are held against the files


class Part(NamedTuple):
    """One network of a query."""

    model: OnnxModel
    network: Network

    def interface(self) -> Interface:
        inputs = tuple((one.name, one.size) for one in self.model.inputs)
        return Interface(inputs, tuple(zip(self.model.outputs, self.network.ends, strict=True)))


class System(NamedTuple):
    query: Query
    parts: tuple[Part, ...]
    asked: Asked
    network: Network  # from the free inputs to all outputs, perhaps with those inputs behind them
    precision: np.dtype[Any]

    def all_inputs(self, x: Numbers) -> Numbers:
        """Of all networks, one behind the other, from the free ones."""
        found: Numbers = x.ravel()[self.asked.free]
        return found

    def exact(self, x: Numbers) -> Numbers:
        """What the files compute of free inputs, in float64, and what stands behind it."""
        return self._run(x, deployed=False)

    def deployed(self, x: Numbers) -> Numbers:
        """The same in their own precision."""
        return self._run(x, deployed=True)

    def outputs(self, x: Numbers) -> Numbers:
        """Of all networks alone, as deployed."""
        count = sum(part.network.shapes[-1][0] for part in self.parts)
        return self.deployed(x)[:count]

    def _run(self, x: Numbers, *, deployed: bool) -> Numbers:
        given, first = self.all_inputs(x), 0
        found = []
        for part in self.parts:
            size = sum(one.size for one in part.model.inputs)
            run = part.model.deployed if deployed else part.model.exact
            found.append(run(given[first : first + size]).astype(np.float64))
            first += size
        return np.concatenate([*found, *([x.ravel()] if self.asked.mixed else [])])

    def check(self) -> None:
        """Holds each reading against its file, inside the boxes.

        Raises:
            InputError: They differ.
        """
        for case in self.asked.cases[:: 1 + len(self.asked.cases) // _HELD]:
            self._check(case)

    def _check(self, case: Case) -> None:
        ends, first = [self.all_inputs(end) for end in case.inner()], 0
        for part in self.parts:
            size = sum(one.size for one in part.model.inputs)
            low, high = (end[first : first + size] for end in ends)
            check_reading(part.model, part.network, low, high)
            first += size


class Assigned(NamedTuple):
    """A variable of a query and its values, row by row."""

    variable: Variable
    values: Numbers


def system_of(files: Files, vnnlib: str) -> System:
    """Reads a query and its networks.

    Raises:
        InputError: A file that is wrong, missing or not needed; a type that is not the network's.
    """
    try:
        query = query_of(vnnlib)
    except InputError:
        for file in [files] if isinstance(files, str) else files.values():
            load(file)  # a network that is none is told first: the two may be swapped
        raise
    parts = _parts(query, files)
    interfaces = [part.interface() for part in parts]
    found = asked(query, interfaces)
    networks = [part.network for part in parts]
    network = joint(networks, found.free, beside=found.mixed)
    kinds = {part.model.precision for part in parts}
    precision = np.dtype(np.float64) if kinds == {np.dtype(np.float64)} else np.dtype(np.float32)
    return System(query, tuple(parts), found, network, precision)


def _parts(query: Query, files: Files) -> list[Part]:
    if not query.networks:
        if not isinstance(files, str):
            if len(files) != 1:
                raise InputError(f"{query.file}: is about one network, {len(files)} are given")
            (files,) = files.values()
        return [_part(files, ())]
    if isinstance(files, str):
        if len([one for one in query.networks if one.equal_to is None]) > 1:
            names = ", ".join(one.name for one in query.networks)
            raise InputError(f"{query.file}: is about networks {names}: give the file of each")
        files = {query.networks[0].name: files}
    declared = {one.name: one for one in query.networks}
    if unknown := [name for name in files if name not in declared]:
        names = ", ".join(declared)
        raise InputError(f"network {unknown[0]!r} is not in {query.file}, which declares {names}")
    parts: dict[str, Part] = {}
    chosen: dict[str, str] = {}
    for one in query.networks:
        chosen[one.name] = file = _file_of(query, one, files, chosen)
        part = parts[one.name] = _part(file, one.hidden())
        _check_types(query, one, part)
        other = one.equal_to or one.isomorphic_to
        if other is not None and not alike(part.network, parts[other].network):
            same = declared[other].hidden() == one.hidden()
            if same:
                raise InputError(f"{file}: network {one.name!r} is not isomorphic to {other!r}")
    return list(parts.values())


def _file_of(
    query: Query, one: Declaration, files: Mapping[str, str], chosen: Mapping[str, str]
) -> str:
    if one.equal_to is None:
        if one.name not in files:
            raise InputError(f"{query.file}: the file of network {one.name!r} is not given")
        return files[one.name]
    file = chosen[one.equal_to]
    if one.name in files and content_of(files[one.name]) != content_of(file):
        what = f"{one.name!r} is equal to {one.equal_to!r}, and not that file"
        raise InputError(f"{files[one.name]}: network {what}")
    return file


def _part(file: str, hidden: Sequence[str]) -> Part:
    model = load(file, hidden)
    return Part(model, read_onnx(model))


def _check_types(query: Query, one: Declaration, part: Part) -> None:
    for variable in one.of("input"):
        if variable.precision not in (None, str(part.model.precision)):
            at = f"{query.file}: line {variable.line}"
            what = f"{variable.name} is of type {variable.kind}"
            raise InputError(f"{at}: {what}, in {part.model.file} of {part.model.precision}")


def assignment(system: System, x: Numbers) -> list[Assigned]:
    """The values of all variables that a query of version 2 declares, in its order.

    Args:
        x: The free inputs.
    """
    inputs, outputs = system.all_inputs(x), system.outputs(x)
    found = []
    bases = [0, 0]
    for network, part in zip(system.query.networks, system.parts, strict=True):
        interface = part.interface()
        count = len(interface.outputs) - len(network.of("hidden"))
        for role, values, base, ends in (
            ("input", inputs, bases[0], interface.inputs),
            ("output", outputs, bases[1], interface.outputs[:count]),
            (
                "hidden",
                outputs,
                bases[1] + sum(size for _, size in interface.outputs[:count]),
                interface.outputs[count:],
            ),
        ):
            first = base
            named = {name: sum(s for _, s in ends[:i]) for i, (name, _) in enumerate(ends)}
            for one in network.of(role):  # type: ignore[arg-type]
                at = base + named[one.node] if one.node in named else first
                found.append(Assigned(one, values[at : at + one.size]))
                first += one.size
        bases = [base + size for base, size in zip(bases, interface.sizes, strict=True)]
    order = [one.name for network in system.query.networks for one in network.variables]
    return sorted(found, key=lambda one: order.index(one.variable.name))
