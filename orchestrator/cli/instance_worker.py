"""The process that verifies a list's instances: begun again when it dies, killed when late."""

import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

COMMAND = ("-P", "-m", "robsweep.tasks.verification.instance_process")
# A child that is later than its limit by more than this hangs: its own end is checked less often
# than once a second, and its solvers are killed 10 % after their deadline.
_GRACE, _SHARE = 30.0, 1.2
_START = 600.0  # seconds, in which it must be ready; imports take two on an idle machine


class Worker:
    """One child process after another."""

    def __init__(self, solver: str) -> None:
        self.solver = solver
        self.child: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()

    def verdict(self, onnx: str, vnnlib: str, limit: float) -> tuple[str, str]:
        """The verdict, and the reason for an `error`."""
        where = f"{onnx}, {vnnlib}"
        if self.child is None and not self._started():
            return "error", f"{where}: the process that verifies does not start{self._end()}"
        child = self.child
        assert child is not None
        with suppress(BrokenPipeError):  # then it is dead, which its silence says
            print(json.dumps([onnx, vnnlib, limit, self.solver]), file=child.stdin, flush=True)
        line = self._line(limit * _SHARE + _GRACE)
        if line is None:
            self.close()
            return "timeout", ""
        if not line:
            return "error", f"{where}: the process that verifies it died{self._end()}"
        verdict, reason = json.loads(line)
        return verdict, reason

    def close(self) -> None:
        """Ends the child, whatever it is doing."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            for pipe in (self.child.stdin, self.child.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            self.child = None

    def _started(self) -> bool:
        self.child = subprocess.Popen(
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _python_path()},
        )
        self.lines = queue.Queue()
        threading.Thread(target=_read, args=(self.child, self.lines), daemon=True).start()
        return bool(self._line(_START))

    def _line(self, seconds: float) -> str | None:
        """What it says next: nothing if it is dead, None if it is late."""
        try:
            return self.lines.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        except queue.Empty:
            return None

    def _end(self) -> str:
        """How it ended, once it is gone."""
        code = None
        if self.child is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self.child.wait(timeout=5)
        self.close()
        if code is None:
            return ""
        return f" of signal {-code}" if code < 0 else f" with exit code {code}"


def _read(child: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    with suppress(ValueError):  # closed while reading
        for line in child.stdout:  # type: ignore[union-attr]
            if line.endswith("\n"):
                lines.put(line)
    lines.put("")


def _python_path() -> str:
    import robsweep

    root = str(Path(robsweep.__path__[0]).parent)
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
