"""Answers one instance after another in a process of its own, which may die or hang.

`python -m robsweep.tasks.verification.instance_process` reads lines of JSON from stdin, `[network,
property, seconds, solver]`, and writes a line for each: `[verdict, reason]`, which `error` has.
It ends at once when stdin closes, so it never outlives its parent.
"""

import json
import os
import queue
import sys
import threading
import traceback


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a solver that prints must not write between the answers
    asked: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    from robsweep.tasks.verification.instance import verify  # noqa: F401  # before it is ready

    print("ready", file=answers, flush=True)
    while True:
        verdict, reason = _answer(*json.loads(asked.get()))
        print(json.dumps([verdict, " ".join(reason.split())]), file=answers, flush=True)


def _read(asked: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        asked.put(line)
    os._exit(0)


def _answer(onnx: str, vnnlib: str, limit: float, solver: str) -> tuple[str, str]:
    from robsweep.tasks.errors import RobsweepError
    from robsweep.tasks.verification.instance import verify

    try:
        return verify(onnx, vnnlib, limit, solver).answer, ""
    except RobsweepError as error:
        return "error", str(error)
    except Exception as error:  # noqa: BLE001  # a fault of this instance, which is told
        traceback.print_exc()
        return "error", f"{onnx}, {vnnlib}: {type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
