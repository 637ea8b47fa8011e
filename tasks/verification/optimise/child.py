"""Child processes that are sent one problem and answer it line by line; they may die or hang."""

import io
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

import robsweep


class SolverDiedError(RuntimeError):
    """The child ended before it had given all its answers."""


class SolverLateError(RuntimeError):
    """The child was killed, as it did not keep to its time limit."""


def replies(
    command: Sequence[str], problem: Mapping[str, Any], count: int, until: float
) -> Generator[dict[str, Any], None, None]:
    """The answers of a child, each as soon as it is there.

    Close the iterator, or run it to its end, to be rid of the child.

    Args:
        command: Arguments of Python.
        problem: Arrays, or what becomes one.
        count: How many answers there will be.
        until: When the child is killed, on the monotonic clock.

    Raises:
        SolverDiedError, SolverLateError
    """
    buffer = io.BytesIO()
    np.savez(buffer, **problem)
    content = len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": _python_path(), "OMP_NUM_THREADS": "1"},
        )
        try:
            lines: queue.Queue[bytes | None] = queue.Queue()
            talk = threading.Thread(target=_talk, args=(child, content, lines), daemon=True)
            talk.start()
            for _ in range(count):
                line = _next_line(lines, until)
                if line is None:
                    raise SolverDiedError(f"exit code {_exit_code(child)}: {_tail(errors)}")
                yield json.loads(line)
        finally:
            child.kill()
            child.wait()
            talk.join()
            for pipe in (child.stdin, child.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]


def _talk(
    child: "subprocess.Popen[bytes]", content: bytes, lines: "queue.Queue[bytes | None]"
) -> None:
    """Writes the problem, then queues each line of the reply; None ends it."""
    with suppress(BrokenPipeError):
        child.stdin.write(content)  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
    for line in child.stdout:  # type: ignore[union-attr]
        if line.endswith(b"\n"):  # else it died while writing
            lines.put(line)
    lines.put(None)


def _next_line(lines: "queue.Queue[bytes | None]", until: float) -> bytes | None:
    wait = None if math.isinf(until) else max(0.0, until - time.monotonic())
    try:
        return lines.get(timeout=wait)
    except queue.Empty:
        raise SolverLateError("killed 10 % after its time limit") from None


def _exit_code(child: "subprocess.Popen[bytes]") -> int | str:
    try:
        return child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "none, as it does not end"


def _python_path() -> str:
    root = str(Path(robsweep.__file__).parents[1])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read()[-500:].decode(errors="replace").strip()
