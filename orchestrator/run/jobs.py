"""Looking at single jobs of a store: what they did, and doing them again here."""

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.plan import Places, plan
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.run.session import recorded
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.store.parts import read_part
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.job import Job


def explain(store: Store, name: str) -> str:
    """All attempts at a job, with their tracebacks, and the command that runs it again here.

    Raises:
        InputError: No job of that name was tried.
    """
    key, start, stop = parse_name(name)
    attempts = [
        row
        for part in store.snapshot().parts("jobs")
        for row in read_part(store.files, part.path).to_pylist()
        if (row["measurement_id"], row["start"], row["stop"]) == (key, start, stop)
    ]
    if not attempts:
        raise InputError(f"{store.root} knows no job {name}: `robsweep check` counts what it has")
    lines = []
    for row in sorted(attempts, key=lambda row: (row["started_at"], row["attempt"])):
        lines.append(
            f"{row['kind']} {row['name']} of sweep {row['sweep']}, attempt {row['attempt']}: "
            f"{row['status']} after {row['seconds']:.2f} s on {row['host']}, {row['started_at']}"
        )
        if row["error"]:
            lines.append(row["error"].rstrip())
    lines.append(f"reproduce here: robsweep explain {name} --run --store {store.root}")
    return "\n".join(lines)


def reproduce(store: Store, settings: Settings, name: str) -> str:
    """Runs a recorded job again in this process, uncaught, writing nothing.

    Raises:
        InputError: No sweep of the store has such a measurement, as its files stand now.
    """
    from robsweep.tasks.jobs import run

    key, start, stop = parse_name(name)
    snapshot = store.snapshot()
    for sweep in store.sweeps():
        try:
            spec, places = recorded(store, sweep, settings)
            planned = plan(spec, Places(places.data_dir, places.nets_dir), snapshot.coverage)
        except InputError:  # another sweep's files may be gone by now
            continue
        if key in planned.measurements:
            found = planned.measurements[key]
            job = Job(found.measurement, start, stop, found.setting)
            try:
                output = run(job, InputReader(planned, store, snapshot).of(job))
            except InputError as error:  # uncaught means uncaught: with its traceback
                raise RuntimeError(str(error)) from error
            counts = ", ".join(f"{n}: {t.num_rows} rows" for n, t in output.tables.items())
            return f"{name} works here: {counts}"
    raise InputError(
        f"{key} is in no sweep of {store.root} as its files stand now: "
        "if its code or weights have changed since, that is another measurement"
    )


def parse_name(name: str) -> tuple[str, int, int]:
    """Splits `<measurement id>:<start>-<stop>`.

    Raises:
        InputError: It is not of that form.
    """
    try:
        key, ranges = name.rsplit(":", 1)
        start, stop = ranges.split("-")
        return key, int(start), int(stop)
    except ValueError as error:
        raise InputError(
            f"{name!r} names no job: expected e.g. attack-0123456789abcdef:0-250"
        ) from error
