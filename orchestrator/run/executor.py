"""What the driver asks of an executor; and the one that runs jobs in this process."""

from collections import deque
from typing import Protocol

from robsweep.orchestrator.run.work import Outcome, Workplace, work
from robsweep.tasks.job import Inputs, Job


class Executor(Protocol):
    """Runs jobs somewhere. One pull queue: what is submitted first starts first."""

    @property
    def slots(self) -> int:
        """Jobs that run side by side."""

    def submit(self, job: Job, inputs: Inputs, place: Workplace) -> None: ...

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Jobs that have ended; waits until one has, or for `timeout` seconds."""

    def close(self) -> None:
        """Stops whatever still runs."""


class InlineExecutor:
    """Runs each job in this process when it is waited for. Needs no Ray."""

    slots = 1

    def __init__(self) -> None:
        self._queue: deque[tuple[Job, Inputs, Workplace]] = deque()

    def submit(self, job: Job, inputs: Inputs, place: Workplace) -> None:
        self._queue.append((job, inputs, place))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        if not self._queue:
            return []
        job, inputs, place = self._queue.popleft()
        return [(job, work(job, inputs, place))]

    def close(self) -> None:
        self._queue.clear()
