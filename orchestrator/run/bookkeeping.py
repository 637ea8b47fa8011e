"""What a run has claimed, has in flight and has still to commit."""

from robsweep.orchestrator.plan.next_jobs import is_complete
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.ranges import Ranges, union
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.work import Outcome
from robsweep.orchestrator.store.log import Part
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.job import Job


class Books:
    """Of one run: every job is claimed, in flight, finished, and then committed."""

    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        reader: InputReader,
        open_rows: OpenRows,
        claimed: dict[str, Ranges],
    ) -> None:
        """Opens the books.

        Args:
            open_rows: Takes in the verification rows that are committed.
            claimed: Samples that have been given up.
        """
        self.claimed = claimed
        self.pending: list[Finished] = []
        self.pending_bytes = 0
        self._sweep, self._writer, self._reader = plan.name, writer, reader
        self._open_rows = open_rows
        self._in_flight: dict[tuple[str, int, int], int] = {}  # job -> log end when it was cut
        for key, planned in plan.measurements.items():  # a killed worker may have left one
            if planned.measurement.kind == "train" and is_complete(
                planned, writer.snapshot.coverage
            ):
                writer.store.drop_checkpoint(key)

    @property
    def in_flight(self) -> int:
        """Jobs that have started and not ended."""
        return len(self._in_flight)

    def claim(self, job: Job) -> None:
        """Keeps a job's samples from being cut again in this run."""
        key = job.measurement.measurement_id
        self.claimed[key] = union([*self.claimed.get(key, ()), (job.start, job.stop)])

    def start(self, job: Job) -> None:
        self._in_flight[_slot(job)] = self._writer.snapshot.seq

    def end(self, job: Job, outcome: Outcome) -> None:
        """Takes a job out of flight; its rows wait for the next `commit`."""
        self.pending.append(finished(job, outcome, self._sweep, self._in_flight.pop(_slot(job))))
        self.pending_bytes += sum(rows.nbytes for rows in outcome.tables.values())

    def commit(self) -> None:
        """Writes what is pending, and takes in what it and other sweeps' news decide."""
        self._writer.commit(self.pending)
        for job in self.pending:
            if "models" in job.tables:  # only now can a training not be lost any more
                self._writer.store.drop_checkpoint(job.measurement_id)
            if "verification" in job.tables:
                self._open_rows.add(job.tables["verification"], past=False)
            self._take_in(job.staged)
        self._take_in(self._writer.news)  # what other sweeps have screened or solved meanwhile
        self._writer.news.clear()
        self.pending.clear()
        self.pending_bytes = 0

    def _take_in(self, parts: list[Part] | tuple[Part, ...]) -> None:
        for part in parts:
            if part.table == "verification":
                self._open_rows.add(self._reader.part(part.path), past=False)


def finished(job: Job, outcome: Outcome, sweep: str, cut_seq: int) -> Finished:
    """An attempt at a job as the store takes it, with its row of the jobs table.

    Args:
        cut_seq: End of the log when the job was cut.
    """
    m = job.measurement
    row = {
        "measurement_id": m.measurement_id,
        "model_id": m.model.model_id,
        "weights_sha256": m.model.weights_sha256,
        "dataset": m.dataset,
        "split": m.split,
        "seed": m.seed,
        "sweep": sweep,
        "kind": m.kind,
        "name": m.name,
        "start": job.start,
        "stop": job.stop,
        "status": outcome.status,
        "attempt": job.attempt,
        "started_at": outcome.started_at,
        "seconds": outcome.seconds,
        "host": outcome.host,
        "gpu": outcome.gpu,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "error": outcome.error,
        "library_versions": outcome.library_versions,
    }
    return Finished(
        m.measurement_id,
        job.start,
        job.stop,
        cut_seq,
        row,
        outcome.tables,
        outcome.artifacts,
        outcome.staged,
    )


def _slot(job: Job) -> tuple[str, int, int]:
    return job.measurement.measurement_id, job.start, job.stop
