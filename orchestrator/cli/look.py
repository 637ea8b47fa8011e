"""Commands that show what a store holds, and what can be named in a sweep."""

import json
import sys
import time
from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import StoreOption, settings_of

look = typer.Typer()

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
            "landscape, honesty, joint, comparisons, tiers or optimality."
        ),
    ] = "leaderboard",
    style: Format = "text",
    metric: Annotated[
        str | None,
        typer.Option(
            help="Of comparisons and tiers: this one alone. scorer_auroc compares the scorers of "
            "each model, which it does only when it is named."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="MODEL[/TRAINING[/SEED]]: of comparisons, pairs with it alone (of scorer_auroc: "
            "a scorer); of shift, errors divided by its."
        ),
    ] = None,
    by_seed: Annotated[
        bool,
        typer.Option(
            "--by-seed/--over-seeds",
            help="A row per training seed, or one over seeds: mean +- spread between seeds.",
        ),
    ] = True,
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
    if metric is not None and table not in {"comparisons", "tiers"}:
        raise InputError("--metric is of --table comparisons and --table tiers")
    if baseline is not None and table not in {"comparisons", "shift"}:
        raise InputError("--baseline is of --table comparisons and --table shift")
    results = Results.open(settings_of(store).store)
    if table == "comparisons":
        frame = results.comparisons(name, metric, baseline, by_seed=by_seed)
    elif table == "shift":
        frame = results.shift(name, baseline, by_seed=by_seed)
    elif table == "tiers":
        frame = results.tiers(name, metric, by_seed=by_seed)
    else:
        frame = results.table(name, table, by_seed=by_seed)
    in_parts = {
        "leaderboard": report.leaderboard_text,
        "honesty": report.honesty_text,
        "joint": report.joint_text,
    }
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
def dash(
    store: StoreOption = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8501,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
) -> None:
    """Open the dashboard on a store."""
    from robsweep.orchestrator.cli.dash import serve

    serve(settings_of(store).store, port, headless=headless)
