"""Commands that look at stores, networks and data, and run no sweep."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import DataDir, NetsDir, StoreOption, settings_of

look = typer.Typer()
data = typer.Typer(help="Public data sets.", no_args_is_help=True)

Format = Annotated[str, typer.Option("--format", help="text, csv, latex or markdown.")]


@look.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Sweep; all without it.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    store: StoreOption = None,
) -> None:
    """Show how far sweeps are."""
    from robsweep.orchestrator.results import report
    from robsweep.orchestrator.results.results import Results

    while True:
        results = Results.open(settings_of(store).store)
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


@look.command()
def show(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    table: Annotated[
        str,
        typer.Option(
            help="leaderboard, attacks, calibration, ood, shift, verification, sensitivity, "
            "landscape or honesty."
        ),
    ] = "leaderboard",
    style: Format = "text",
    store: StoreOption = None,
) -> None:
    """Print one of a sweep's tables."""
    from robsweep.orchestrator.errors import InputError
    from robsweep.orchestrator.results import report
    from robsweep.orchestrator.results.results import TABLES, Results
    from robsweep.orchestrator.spec.yaml_file import did_you_mean

    if table not in TABLES:
        raise InputError(f"--table {table!r}{did_you_mean(table, TABLES)}")
    if style not in report.FORMATS:
        raise InputError(f"--format {style!r}{did_you_mean(style, report.FORMATS)}")
    frame = Results.open(settings_of(store).store).table(name, table)
    in_parts = {"leaderboard": report.leaderboard_text, "honesty": report.honesty_text}
    if style == "text" and table in in_parts:
        print(in_parts[table](frame), end="")
    else:
        print(report.render(frame, style), end="")


@look.command()
def explain(
    job: Annotated[str, typer.Argument(help="<measurement id>:<start>-<stop>.")],
    rerun: Annotated[
        bool, typer.Option("--run", help="Run the job again here, uncaught, writing nothing.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Show what a job did, its traceback, and the command that reproduces it here."""
    from robsweep.orchestrator.run import jobs
    from robsweep.orchestrator.store.store import Store

    settings = settings_of(store)
    opened = Store.open(settings.store)
    if rerun:
        print(jobs.reproduce(opened, settings, job))
    else:
        print(jobs.explain(opened, job))


@look.command("list")
def list_entries(
    family: Annotated[
        str | None,
        typer.Argument(
            help="attacks, models, nets, trainings, scorers, corruptions, calibrations, datasets, "
            "verifiers, sensitivities or landscapes; all without it."
        ),
    ] = None,
) -> None:
    """List what can be named in a sweep, with parameters, defaults and source."""
    from robsweep.orchestrator.cli.listing import FAMILIES, listing

    if family is not None:
        print(listing(family))
    else:
        print("\n\n".join(f"{name}\n{listing(name)}" for name in FAMILIES))


@look.command()
def check(store: StoreOption = None) -> None:
    """Prove that every wanted sample is once done, failed or missing, and every part intact."""
    from robsweep.orchestrator.results.check import check as check_store
    from robsweep.orchestrator.store.store import Store

    found = check_store(Store.open(settings_of(store).store))
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


@look.command()
def compact(
    store: StoreOption = None,
    grace: Annotated[
        float, typer.Option(help="Seconds that replaced files are kept for readers.")
    ] = 3600.0,
) -> None:
    """Merge small parts into large ones; sweeps may run meanwhile."""
    from datetime import timedelta

    from robsweep.orchestrator.store.compact import compact as compact_store
    from robsweep.orchestrator.store.store import Store

    done = compact_store(Store.open(settings_of(store).store), timedelta(seconds=grace))
    print(f"{done.before} parts became {done.after}; {done.deleted} replaced files deleted")


@look.command()
def recheck(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    sample: Annotated[
        int,
        typer.Option(
            min=0, help="So many proofs, drawn at random, MILPs' first, are derived again."
        ),
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
    from robsweep.orchestrator.errors import ContradictionError, InputError
    from robsweep.orchestrator.results.results import Results
    from robsweep.orchestrator.run import recheck as again
    from robsweep.tasks.recheck.claims import Budget

    if not 0 < time_limit < float("inf"):
        raise InputError(f"--time-limit must be a positive number of seconds, got {time_limit}")
    settings = settings_of(store, data_dir, nets_dir)
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


@look.command()
def verify(
    onnx: Annotated[str | None, typer.Argument(help="Network (ONNX).")] = None,
    vnnlib: Annotated[str | None, typer.Argument(help="Its property (VNN-LIB).")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds; none without it.")] = None,
    solver: Annotated[str, typer.Option(help="scip, highs or gurobi.")] = "scip",
    counterexample: Annotated[
        Path | None, typer.Option(help="Write what was found here, in VNN-COMP's format.")
    ] = None,
    instances: Annotated[
        Path | None, typer.Option(help="CSV of onnx,vnnlib,timeout_seconds instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the verdicts here (CSV).")] = None,
) -> None:
    """Decide whether a network can violate a property: sat, unsat, unknown or timeout."""
    from robsweep.orchestrator.cli import instances as batch
    from robsweep.orchestrator.errors import InputError

    if (instances is None) == (onnx is None or vnnlib is None) or (instances and onnx):
        raise InputError("give a network and a property, or --instances FILE")
    if instances is None:
        print(batch.one(str(onnx), str(vnnlib), time_limit, solver, counterexample))
        return
    errors = batch.run(instances, out, solver, print)
    raise typer.Exit(1 if errors else 0)


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="e.g. mnist; `robsweep list datasets` has them.")],
    data_dir: DataDir = None,
) -> None:
    """Download a public data set; files, or the archive they come in, are checked by SHA-256."""
    from robsweep.tasks.data.fetch import fetch as fetch_data

    folder = settings_of(data_dir=data_dir).data_dir
    fetch_data(name, str(folder))
    print(f"{name} is in {folder}")


@look.command()
def dash(
    store: StoreOption = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8501,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """Open the dashboard on a store."""
    from robsweep.orchestrator.cli.dash import serve

    serve(settings_of(store).store, port, headless=headless)
