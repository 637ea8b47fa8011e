"""The command line: parse, call, print. stdout carries data, stderr progress and messages."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.drive import Summary
    from orchestrator.settings import Settings
    from orchestrator.spec import SweepSpec

app = typer.Typer(
    help="Robustness sweeps: attacks, OOD detection, calibration and formal verification.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Public data sets.", no_args_is_help=True)
app.add_typer(data, name="data")

File = Annotated[Path, typer.Argument(help="Sweep file (YAML).")]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Store folder [ROBSWEEP_STORE, else ./results].")
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Data sets [ROBSWEEP_DATA_DIR, else ./data].")
]
NetsDir = Annotated[
    str | None, typer.Option("--nets-dir", help="Imported weights [ROBSWEEP_NETS_DIR].")
]
Address = Annotated[
    str | None,
    typer.Option(help="local, auto, inline or HOST:PORT [ROBSWEEP_ADDRESS, else local]."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Run at most so many jobs.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop after the first failed job.")]
Format = Annotated[str, typer.Option("--format", help="text, csv, latex or markdown.")]


@app.command()
def plan(
    file: File, store: StoreOption = None, data_dir: DataDir = None, nets_dir: NetsDir = None
) -> None:
    """Show what would run, what is already done, and the expected cost. Runs nothing."""
    from orchestrator import session, sweep_file

    rows = session.outlook(sweep_file.load(file), _settings(store, data_dir, nets_dir))
    print(f"{'kind':<10} {'measurements':>12} {'samples':>9} {'covered':>9} {'expected':>12}")
    for row in rows:
        samples = f"{row.samples}+" if row.kind == "solve" else str(row.samples)
        print(
            f"{row.kind:<10} {row.measurements:>12} {samples:>9} {row.covered:>9} "
            f"{row.expected_seconds:>10.0f} s"
        )
    total = sum(row.expected_seconds for row in rows)
    print(f"about {total:.0f} CPU-seconds of work; what the screen leaves open is solved on top")


@app.command()
def run(
    file: File,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only these kinds, and what they need.")
    ] = None,
    limit: Limit = None,
    fail_fast: FailFast = False,
) -> None:
    """Run what a sweep still misses, then print its leaderboard."""
    from orchestrator import sweep_file

    spec = sweep_file.load(file)
    settings = _settings(store, data_dir, nets_dir, address)
    _run(spec, settings, only=only or [], limit=limit, fail_fast=fail_fast)


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="Catalogue name or package.module:function.")],
    dataset: Annotated[str, typer.Option(help="Data set, or npz:FILE.")],
    weights: Annotated[str | None, typer.Option(help="FILE.safetensors or FILE.pt.")] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[
        list[str] | None,
        typer.Option(help="Radius [0.1]; may be repeated, may be 8/255. Pixels are 0 to 1."),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Test samples to attack.")] = None,
    verify: Annotated[int, typer.Option(min=0, help="Test samples to verify.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Seconds per verified sample.")] = 60.0,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
) -> None:
    """Attack, calibrate and verify one existing model at once.

    Attacks: LinfPGD and LinfFastGradient, or for --norm l2 L2PGD and L2DeepFool, on the whole test
    split without --samples. A sweep file chooses freely.
    """
    from orchestrator.one_model import spec_for

    if weights is None:
        print("no --weights: the model is measured as its function returns it", file=sys.stderr)
    spec = spec_for(model, dataset, weights, norm, eps or ["0.1"], samples, verify, time_limit)
    print(f"sweep {spec.name}: robsweep show {spec.name} --table attacks", file=sys.stderr)
    _run(spec, _settings(store, data_dir, nets_dir, address))


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Sweep; all without it.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    store: StoreOption = None,
) -> None:
    """Show how far sweeps are."""
    from orchestrator import report
    from orchestrator.results import Results

    while True:
        results = Results.open(_settings(store).store)
        names = [name] if name else results.sweeps()
        frames = {sweep: results.progress(sweep) for sweep in names}
        if as_json:
            print(json.dumps({sweep: frame.to_dicts() for sweep, frame in frames.items()}))
        else:
            for sweep, frame in frames.items():
                print(f"{sweep}\n{report.render(frame, 'text')}", end="")
            if not frames:
                print("no sweeps yet", file=sys.stderr)
        if not watch:
            return
        time.sleep(2.0)


@app.command()
def retry(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    statuses: Annotated[
        str, typer.Option("--status", help="Of failed, timeout, unknown, error.")
    ] = "failed",
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
) -> None:
    """Run a sweep's failed jobs, or undecided samples, again."""
    from orchestrator import session
    from orchestrator.errors import InputError
    from orchestrator.store import Store
    from orchestrator.yaml_file import did_you_mean

    wanted = frozenset(statuses.split(","))
    known = {"failed", "timeout", "unknown", "error"}
    for status_name in wanted - known:
        raise InputError(f"--status {status_name!r}{did_you_mean(status_name, known)}")
    settings = _settings(store, data_dir, nets_dir, address)
    spec, settings = session.recorded(Store.open(settings.store), name, settings)
    _run(spec, settings, again=wanted)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    table: Annotated[
        str,
        typer.Option(help="leaderboard, attacks, calibration, ood, shift or verification."),
    ] = "leaderboard",
    style: Format = "text",
    store: StoreOption = None,
) -> None:
    """Print one of a sweep's tables."""
    from orchestrator import report
    from orchestrator.errors import InputError
    from orchestrator.results import TABLES, Results
    from orchestrator.yaml_file import did_you_mean

    if table not in TABLES:
        raise InputError(f"--table {table!r}{did_you_mean(table, TABLES)}")
    if style not in report.FORMATS:
        raise InputError(f"--format {style!r}{did_you_mean(style, report.FORMATS)}")
    frame = Results.open(_settings(store).store).table(name, table)
    if table == "leaderboard" and style == "text":
        print(report.leaderboard_text(frame), end="")
    else:
        print(report.render(frame, style), end="")


@app.command()
def explain(
    job: Annotated[str, typer.Argument(help="<measurement id>:<start>-<stop>.")],
    rerun: Annotated[
        bool, typer.Option("--run", help="Run the job again here, uncaught, writing nothing.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Show what a job did, its traceback, and the command that reproduces it here."""
    from orchestrator import jobs
    from orchestrator.store import Store

    settings = _settings(store)
    opened = Store.open(settings.store)
    if rerun:
        print(jobs.reproduce(opened, settings, job))
    else:
        print(jobs.explain(opened, job))


@app.command("list")
def list_entries(
    family: Annotated[
        str | None,
        typer.Argument(
            help="attacks, models, trainings, scorers, corruptions, calibrations, datasets or "
            "verifiers; all without it."
        ),
    ] = None,
) -> None:
    """List what can be named in a sweep, with parameters, defaults and source."""
    from orchestrator.listing import FAMILIES, listing

    if family is not None:
        print(listing(family))
    else:
        print("\n\n".join(f"{name}\n{listing(name)}" for name in FAMILIES))


@app.command()
def verify(
    onnx: Annotated[str | None, typer.Argument(help="Network (ONNX).")] = None,
    vnnlib: Annotated[str | None, typer.Argument(help="Its property (VNN-LIB).")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds; none without it.")] = None,
    solver: Annotated[str, typer.Option(help="scip or highs.")] = "scip",
    counterexample: Annotated[
        Path | None, typer.Option(help="Write what was found here, in VNN-COMP's format.")
    ] = None,
    instances: Annotated[
        Path | None, typer.Option(help="CSV of onnx,vnnlib,timeout_seconds instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the verdicts here (CSV).")] = None,
) -> None:
    """Decide whether a network can violate a property: sat, unsat, unknown or timeout."""
    from orchestrator import instances as batch
    from orchestrator.errors import InputError

    if (instances is None) == (onnx is None or vnnlib is None) or (instances and onnx):
        raise InputError("give a network and a property, or --instances FILE")
    if instances is None:
        print(batch.one(str(onnx), str(vnnlib), time_limit, solver, counterexample))
        return
    errors = batch.run(instances, out, solver, print)
    raise typer.Exit(1 if errors else 0)


@app.command()
def recheck(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    sample: Annotated[
        int, typer.Option(min=0, help="So many proofs, drawn at random, are derived again.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Solver seconds per proof.")] = 60.0,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
) -> None:
    """Check verdicts with a second implementation that shares no code with the verifier."""
    # read when numpy is loaded: on matrices this small its threads only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from orchestrator import recheck as again
    from orchestrator.errors import ContradictionError, InputError
    from orchestrator.results import Results
    from tasks.recheck.claims import Budget

    if not 0 < time_limit < float("inf"):
        raise InputError(f"--time-limit must be a positive number of seconds, got {time_limit}")
    settings = _settings(store, data_dir, nets_dir)
    results, budget = Results.open(settings.store), Budget(sample, seed, time_limit)
    what = again.prepare(results, name, budget)
    found = []
    for one in again.findings(what, results, name, settings, budget):
        found.append(one)
        if one.what == "proof" or one.outcome != "ok":
            print(f"{again.line(what, one)} ({one.seconds:.1f} s)", file=sys.stderr)
    print(again.summary(what, found), end="")
    outcomes = {one.outcome for one in found}
    if "wrong" in outcomes:
        raise ContradictionError("some verdicts do not hold: a verdict or this recheck is wrong")
    raise typer.Exit(1 if "open" in outcomes else 0)


@app.command()
def check(store: StoreOption = None) -> None:
    """Prove that every wanted sample is once done, failed or missing, and every part intact."""
    from orchestrator.check import check as check_store
    from orchestrator.store import Store

    found = check_store(Store.open(_settings(store).store))
    for problem in found.problems:
        print(problem)
    sweeps: dict[str, list[int]] = {}
    for state in found.measurements:
        counts = sweeps.setdefault(state.sweep, [0, 0, 0])
        for place, count in enumerate((state.done, state.failed, state.missing)):
            counts[place] += count
    for sweep, (done, failed, missing) in sweeps.items():
        print(f"{sweep}: {done} samples done, {failed} failed, {missing} missing")
    print(f"{found.parts} parts, {found.rows} rows, {len(found.problems)} problems")
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def compact(
    store: StoreOption = None,
    grace: Annotated[
        float, typer.Option(help="Seconds that replaced files are kept for readers.")
    ] = 3600.0,
) -> None:
    """Merge small parts into large ones; sweeps may run meanwhile."""
    from datetime import timedelta

    from orchestrator.compact import compact as compact_store
    from orchestrator.store import Store

    done = compact_store(Store.open(_settings(store).store), timedelta(seconds=grace))
    print(f"{done.before} parts became {done.after}; {done.deleted} replaced files deleted")


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or notmnist.")],
    data_dir: DataDir = None,
) -> None:
    """Download a public data set, checked by SHA-256."""
    from tasks.data.fetch import fetch as fetch_data

    folder = _settings(data_dir=data_dir).data_dir
    fetch_data(name, str(folder))
    print(f"{name} is in {folder}")


@app.command()
def dash(
    store: StoreOption = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8501,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """Open the dashboard on a store."""
    from orchestrator.dash import serve

    serve(_settings(store).store, port, headless=headless)


def _settings(
    store: str | None = None,
    data_dir: str | None = None,
    nets_dir: str | None = None,
    address: str | None = None,
) -> "Settings":
    from orchestrator.settings import Settings

    return Settings.read(store, data_dir, nets_dir, address)


def _run(
    spec: "SweepSpec",
    settings: "Settings",
    *,
    only: "list[str] | tuple[()]" = (),
    limit: int | None = None,
    fail_fast: bool = False,
    again: frozenset[str] = frozenset(),
) -> None:
    from orchestrator import report, session
    from orchestrator.drive import Options
    from orchestrator.errors import ContradictionError, InputError
    from orchestrator.results import Results
    from orchestrator.yaml_file import did_you_mean
    from tasks.catalogue import KINDS

    for kind in only:
        if kind not in KINDS:
            raise InputError(f"--only {kind!r}{did_you_mean(kind, KINDS)}")
    options = Options(retry=again, limit=limit, fail_fast=fail_fast)
    try:
        summary = session.run(spec, settings, options, frozenset(only))
    except KeyboardInterrupt:  # before the first job, when there is nothing to drain
        print("stopped; the same command again goes on from here", file=sys.stderr)
        raise typer.Exit(1) from None
    results = Results.open(settings.store)
    print(report.leaderboard_text(results.leaderboard(spec.name)), end="")
    alarms = results.alarms(spec.name)
    if alarms.height:
        raise ContradictionError(
            f"{alarms.n_unique(['model_id', 'norm', 'sample'])} samples are proved robust and yet "
            f"broken: a proof or an attack is wrong\n{report.render(alarms, 'text')}"
        )
    code = _report(summary, spec.name, settings.store)
    bad = results.failed_checks(spec.name)
    for row in bad.head(5).to_dicts():
        names = [row[key] for key in ("model", "training", "seed") if row[key] is not None]
        at = "" if row["eps"] is None else f" at eps {row['eps']:g}"
        print(
            f"attack {row['attack']!r} on {'/'.join(map(str, names))}{at} gives no number: "
            f"{row['samples']} samples failed their check ({row['check']})",
            file=sys.stderr,
        )
    raise typer.Exit(code or int(bad.height > 0))


def _report(summary: "Summary", name: str, store: Path) -> int:
    """Says what is left to do, and with which command; the exit code."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if summary.stopped:
        say("stopped; the same command again goes on from here")
    if summary.failures:
        say(f"{len(summary.failures)} of {summary.jobs} jobs failed; the first ones:")
        for job, error in summary.failures[:5]:
            say(f"  {job.name}  {error}")
    if summary.waiting:
        say(f"{summary.waiting} measurements wait for what failed or was not run")
    if summary.left and not summary.failures and not summary.stopped:
        say(f"{summary.left} samples or models are still missing: robsweep status {name}")
        say(f"failed ones are tried again by: robsweep retry {name} --store {store}")
    if summary.failures:
        first = summary.failures[0][0].name
        say(f"try again: robsweep retry {name} --store {store}")
        say(f"reproduce here: robsweep explain {first} --run --store {store}")
    return 1 if summary.stopped or summary.failures or summary.left else 0


def main() -> None:
    """Entry point: wrong input ends with one message and exit code 2, contradictions with 3."""
    from tasks.errors import InputError, RobsweepError

    try:
        app()
    except OSError as error:
        print(f"robsweep: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except InputError as error:
        print(f"robsweep: {error}", file=sys.stderr)
        sys.exit(2)
    except RobsweepError as error:
        from orchestrator.errors import ContradictionError

        print(f"robsweep: {error}", file=sys.stderr)
        sys.exit(3 if isinstance(error, ContradictionError) else 1)
