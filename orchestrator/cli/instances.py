"""Lists of verification instances: `onnx,vnnlib,timeout_seconds` in, verdicts and seconds out."""

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from robsweep.orchestrator.errors import InputError

COLUMNS = ("onnx", "vnnlib", "timeout_seconds")


class Instance(NamedTuple):
    onnx: str  # as written in the list
    vnnlib: str
    time_limit_seconds: float


def one(
    onnx: str, vnnlib: str, time_limit: float | None, solver: str, counterexample: Path | None
) -> str:
    """Verifies one instance: `sat`, `unsat`, `unknown` or `timeout`."""
    from robsweep.tasks.verification.instance import verify

    outcome = verify(onnx, vnnlib, time_limit, solver)
    if counterexample is not None and outcome.counterexample is not None:
        counterexample.write_text(outcome.counterexample.text())
    if outcome.why is not None:
        print(f"robsweep: {onnx}, {vnnlib}: {outcome.why}", file=sys.stderr)
    return outcome.answer


def run(file: Path, out: Path | None, solver: str, say: Callable[[str], None]) -> int:
    """Verifies all instances of a list, in order; how many ended in an error.

    An instance that cannot be verified gets the verdict `error`, and its reason on stderr.

    Args:
        out: A CSV file that grows by one row per instance, as each one ends.
        say: Takes the same rows.

    Raises:
        InputError: The list is wrong, or files that it names are not there.
    """
    listed, errors = read(file), 0
    rows = [("onnx", "vnnlib", "verdict", "seconds")]
    _write(rows, out, say)
    for instance in listed:
        started = time.monotonic()
        onnx, vnnlib = (str(file.parent / name) for name in instance[:2])
        try:
            verdict = one(onnx, vnnlib, instance.time_limit_seconds, solver, None)
        except InputError as error:
            print(f"robsweep: {error}", file=sys.stderr)
            verdict, errors = "error", errors + 1
        seconds = f"{time.monotonic() - started:.2f}"
        rows.append((instance.onnx, instance.vnnlib, verdict, seconds))
        _write(rows, out, say)
    return errors


def read(file: Path) -> list[Instance]:
    """The instances of a list; the header may be absent, further columns are ignored."""
    try:
        lines = [line for line in csv.reader(file.read_text().splitlines()) if line]
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if lines and lines[0][0].strip() == "onnx":
        header = [name.strip() for name in lines.pop(0)]
        if missing := [name for name in COLUMNS if name not in header]:
            raise InputError(f"{file}: has no column {missing[0]!r}; needs {', '.join(COLUMNS)}")
        order = [header.index(name) for name in COLUMNS]
    else:
        order = [0, 1, 2]
    listed = []
    for number, line in enumerate(lines, start=1):
        if len(line) <= max(order):
            raise InputError(f"{file}: instance {number} has {len(line)} columns")
        onnx, vnnlib, limit = (line[i].strip() for i in order)
        for name in (onnx, vnnlib):
            if not (file.parent / name).is_file():
                raise InputError(f"{file}: instance {number}: {name}: no such file")
        listed.append(Instance(onnx, vnnlib, _seconds(limit, f"{file}: instance {number}")))
    if not listed:
        raise InputError(f"{file}: lists no instance")
    return listed


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: time limit {text!r} is no number of seconds") from None
    if not value > 0:
        raise InputError(f"{where}: time limit {text}: must be above 0")
    return value


def _write(
    rows: list[tuple[str, str, str, str]], out: Path | None, say: Callable[[str], None]
) -> None:
    """Tells the last row."""
    say(",".join(rows[-1]))
    if out is not None:
        with out.open("w" if len(rows) == 1 else "a", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerow(rows[-1])
