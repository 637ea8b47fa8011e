"""Child processes that are sent problems and answer them line by line; they may die or hang."""

import atexit
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
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

import robsweep


class SolverDiedError(RuntimeError):
    """The child ended before it had given all its answers."""


class SolverLateError(RuntimeError):
    """The child was killed, as it did not keep to its time limit."""


class Child:
    """A child process, started with its first problem; it takes one problem after the other.

    Whoever stops reading its answers before the last one, or is too late for it, is rid of it: the
    next problem starts another.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.running: _Running | None = None

    def ask(
        self, problem: Mapping[str, Any], count: int, until: float
    ) -> Generator[Any, None, None]:
        """The answers to one problem, each as soon as it is there.

        Close the iterator, or run it to its end.

        Args:
            problem: Arrays, or what becomes one.
            count: How many answers there will be.
            until: When the child is killed, on the monotonic clock.

        Raises:
            SolverDiedError, SolverLateError
        """
        if self.running is None:
            self.running = _Running(self.command)
        done = False
        try:
            self.running.write(problem)
            for _ in range(count):
                yield json.loads(self.running.line(until))
            done = True
        finally:
            if not done:
                self.close()

    def close(self) -> None:
        if self.running is not None:
            self.running.end()
        self.running = None


def kept(command: tuple[str, ...]) -> Child:
    """The one of this process that stays for further problems, and ends with it."""
    return _kept(command, os.getpid())  # a fork shares none


@cache
def _kept(command: tuple[str, ...], _: int) -> Child:
    child = Child(command)
    atexit.register(child.close)
    return child


def replies(
    command: Sequence[str], problem: Mapping[str, Any], count: int, until: float
) -> Generator[Any, None, None]:
    """The answers of a child that takes one problem; arguments as `Child.ask` has them."""
    child = Child(command)
    try:
        yield from child.ask(problem, count, until)
    finally:
        child.close()


class _Running:
    """The process, and what reads and writes its pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "PYTHONPATH": _python_path(), "OMP_NUM_THREADS": "1"},
        )
        self.problems: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.talks = [
            threading.Thread(target=talk, daemon=True) for talk in (self._write, self._read)
        ]
        for talk in self.talks:
            talk.start()

    def write(self, problem: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **problem)
        content = buffer.getvalue()
        self.problems.put(len(content).to_bytes(8, "little") + content)

    def line(self, until: float) -> bytes:
        line = _next_line(self.lines, until)
        if line is None:
            raise SolverDiedError(f"exit code {_exit_code(self.process)}: {_tail(self.errors)}")
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.problems.put(None)
        for talk in self.talks:
            talk.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        self.errors.close()

    def _write(self) -> None:
        while (content := self.problems.get()) is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.write(content)  # type: ignore[union-attr]
                self.process.stdin.flush()  # type: ignore[union-attr]

    def _read(self) -> None:
        """Queues each line of the replies; None ends them."""
        for line in self.process.stdout:  # type: ignore[union-attr]
            if line.endswith(b"\n"):  # else it died while writing
                self.lines.put(line)
        self.lines.put(None)


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
