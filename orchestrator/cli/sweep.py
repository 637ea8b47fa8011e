"""Commands that plan and run sweep files."""

from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import (
    Address,
    DataDir,
    File,
    NetsDir,
    Sets,
    StoreOption,
    settings_of,
)
from robsweep.orchestrator.cli.plan import plan, summary, warn

sweep = typer.Typer()

sweep.command()(plan)


@sweep.command()
def run(
    file: File,
    sets: Sets = None,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only these kinds, and what they need.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Run at most so many jobs.")] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop after the first failed job.")
    ] = False,
    rerun: Annotated[
        str | None,
        typer.Option(
            help="Which past solves to do again: never, ambiguous, refine or always "
            "[what the sweep file says, else ambiguous]."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run, as `plan` does; run nothing.")
    ] = False,
) -> None:
    """Run what a sweep still misses, then print its leaderboard."""
    from robsweep.orchestrator.cli.outcome import checked, run_and_tell
    from robsweep.orchestrator.run.outlook import outlook
    from robsweep.orchestrator.spec import sweep_file

    spec = sweep_file.load(file, sets or ())
    settings = settings_of(store, data_dir, nets_dir, address)
    kinds, policy = checked(only or [], rerun)
    if dry_run:
        found = outlook(spec, settings, kinds, policy)
        warn(found)
        print(summary(found))
        return
    run_and_tell(spec, settings, only=kinds, limit=limit, fail_fast=fail_fast, rerun=policy)


@sweep.command()
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
    from robsweep.orchestrator.cli.outcome import run_and_tell
    from robsweep.orchestrator.errors import InputError
    from robsweep.orchestrator.plan.recorded import recorded
    from robsweep.orchestrator.spec.yaml_file import did_you_mean
    from robsweep.orchestrator.store.store import Store

    wanted = frozenset(statuses.split(","))
    known = {"failed", "timeout", "unknown", "error"}
    for status_name in wanted - known:
        raise InputError(f"--status {status_name!r}{did_you_mean(status_name, known)}")
    settings = settings_of(store, data_dir, nets_dir, address)
    spec, settings = recorded(Store.open(settings.store), name, settings)
    run_and_tell(spec, settings, again=wanted)
