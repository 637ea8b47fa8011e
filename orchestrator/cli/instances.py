"""Lists of verification instances: `onnx,vnnlib,timeout_seconds` in, verdicts and seconds out."""

import csv
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from robsweep.orchestrator.cli.instance_worker import Worker
from robsweep.orchestrator.errors import InputError

COLUMNS = ("onnx", "vnnlib", "timeout_seconds")


class Instance(NamedTuple):
    onnx: str  # as written in the list
    vnnlib: str
    time_limit_seconds: float
    wrong: str = ""  # why it cannot even be tried


def one(
    onnx: str, vnnlib: str, time_limit: float | None, solver: str, counterexample: Path | None
) -> str:
    """Verifies one instance: `sat`, `unsat`, `unknown` or `timeout`.

    Raises:
        InputError: A file or an option is wrong, or the verification itself failed.
    """
    from robsweep.tasks.errors import RobsweepError
    from robsweep.tasks.verification.instance import verify

    try:
        outcome = verify(onnx, vnnlib, time_limit, solver)
    except (RobsweepError, OSError):
        raise
    except Exception as error:  # of any type: whoever asks wants one line, not ours to mend
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{onnx}, {vnnlib}: could not be decided: {what}") from error
    if counterexample is not None and outcome.counterexample is not None:
        counterexample.write_text(outcome.counterexample.text())
    if outcome.why is not None:
        print(f"robsweep: {onnx}, {vnnlib}: {outcome.why}", file=sys.stderr)
    return outcome.answer


def run(file: Path, out: Path | None, solver: str, say: Callable[[str], None]) -> int:
    """Verifies all instances of a list, in order; how many ended in an error.

    An instance that cannot be verified gets the verdict `error`, and its reason on stderr. All are
    verified in a child process, so one that crashes costs itself alone.

    Args:
        out: A CSV file that grows by one row per instance, as each one ends.
        say: Takes the same rows.

    Raises:
        InputError: The list cannot be read, or has no instance.
    """
    listed, errors = read(file), 0
    rows = [("onnx", "vnnlib", "verdict", "seconds")]
    _write(rows, out, say)
    with closing(Worker(solver)) as worker:
        for instance in listed:
            started = time.monotonic()
            verdict, reason = "error", instance.wrong
            if not reason:
                onnx, vnnlib = (str(file.parent / name) for name in instance[:2])
                verdict, reason = worker.verdict(onnx, vnnlib, instance.time_limit_seconds)
            if verdict == "error":
                print(f"robsweep: {reason}", file=sys.stderr, flush=True)
                errors += 1
            seconds = f"{time.monotonic() - started:.2f}"
            rows.append((instance.onnx, instance.vnnlib, verdict, seconds))
            _write(rows, out, say)
    return errors


def read(file: Path) -> list[Instance]:
    """The instances of a list; the header may be absent, further columns are ignored.

    A line that is no instance is one all the same, with what is wrong with it.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    lines = [(number, line) for number, line in _lines(text) if any(part.strip() for part in line)]
    order = [0, 1, 2]
    if lines and "onnx" in (name.strip() for name in lines[0][1]):
        header = [name.strip() for name in lines.pop(0)[1]]
        if missing := [name for name in COLUMNS if name not in header]:
            raise InputError(f"{file}: has no column {missing[0]!r}; needs {', '.join(COLUMNS)}")
        order = [header.index(name) for name in COLUMNS]
    if not lines:
        raise InputError(f"{file}: lists no instance")
    return [_instance(line, order, f"{file}: line {number}") for number, line in lines]


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each line by itself, so that a quotation mark too many spoils no other."""
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield number, next(csv.reader([line]), [])
        except csv.Error:
            yield number, [line]


def _instance(line: list[str], order: list[int], at: str) -> Instance:
    parts = [line[i].strip() if i < len(line) else "" for i in order]
    onnx, vnnlib, limit = parts
    if len(line) <= max(order):
        return Instance(onnx, vnnlib, 0.0, f"{at}: has {len(line)} columns")
    try:
        seconds = float(limit)
    except ValueError:
        what = f"{at}: time limit {limit!r} is no number of seconds"
        return Instance(onnx, vnnlib, 0.0, what)
    if not seconds > 0:
        return Instance(onnx, vnnlib, 0.0, f"{at}: time limit {limit}: must be above 0")
    return Instance(onnx, vnnlib, seconds)


def _write(
    rows: list[tuple[str, str, str, str]], out: Path | None, say: Callable[[str], None]
) -> None:
    """Tells the last row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(rows[-1])
    say(text.getvalue())
    sys.stdout.flush()
    if out is not None:
        with out.open("w" if len(rows) == 1 else "a", newline="") as stream:
            stream.write(text.getvalue() + "\n")
