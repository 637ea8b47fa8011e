"""A limit on how long one call of an attack may take."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from robsweep.tasks.attacks.count import Tally

_AGAIN_SECONDS = 5.0


@contextmanager
def limited(tally: Tally, seconds: float | None) -> Iterator[None]:
    """Ends what runs inside with TimeoutError, some time after `seconds`; None: never.

    The model refuses calls then, which ends every attack that still asks it something. In a main
    thread, as Ray's workers run jobs in, an alarm ends those that do not.
    """
    if seconds is None:
        yield
        return
    tally.deadline = time.monotonic() + seconds
    alarmed = threading.current_thread() is threading.main_thread()
    if alarmed:
        before = signal.signal(signal.SIGALRM, _late)
        # once more and again, as an attack may catch it
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        tally.deadline = None
        if alarmed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _late(number: int, frame: Any) -> None:
    del number, frame
    raise TimeoutError("the attack's time limit is over")
