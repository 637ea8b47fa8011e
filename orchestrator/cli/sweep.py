"""Commands that plan and run sweep files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robsweep.orchestrator.cli.options import Address, DataDir, NetsDir, StoreOption, settings_of

if TYPE_CHECKING:
    from robsweep.orchestrator.run.session import KindOutlook

sweep = typer.Typer()

File = Annotated[Path, typer.Argument(help="Sweep file (YAML).")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="In place of what the file says, e.g. trainings.fgsm.eps=0.2; may be repeated.",
    ),
]


@sweep.command()
def plan(
    file: File,
    sets: Sets = None,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
) -> None:
    """Show what would run, what is already done, and the expected cost. Runs nothing."""
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.spec import sweep_file

    spec = sweep_file.load(file, sets or ())
    _print(session.outlook(spec, settings_of(store, data_dir, nets_dir)))


def _print(rows: "list[KindOutlook]") -> None:
    print(f"{'kind':<10} {'measurements':>12} {'samples':>9} {'covered':>9} {'expected':>12}")
    for row in rows:
        samples = f"{row.samples}+" if row.kind == "solve" else str(row.samples)
        print(
            f"{row.kind:<10} {row.measurements:>12} {samples:>9} {row.covered:>9} "
            f"{row.expected_seconds:>10.0f} s"
        )
    total = sum(row.expected_seconds for row in rows)
    print(f"about {total:.0f} CPU-seconds of work; what the screen leaves open is solved on top")


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
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.spec import sweep_file

    spec = sweep_file.load(file, sets or ())
    settings = settings_of(store, data_dir, nets_dir, address)
    kinds, policy = checked(only or [], rerun)
    if dry_run:
        _print(session.outlook(spec, settings, kinds, policy))
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
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.spec.yaml_file import did_you_mean
    from robsweep.orchestrator.store.store import Store

    wanted = frozenset(statuses.split(","))
    known = {"failed", "timeout", "unknown", "error"}
    for status_name in wanted - known:
        raise InputError(f"--status {status_name!r}{did_you_mean(status_name, known)}")
    settings = settings_of(store, data_dir, nets_dir, address)
    spec, settings = session.recorded(Store.open(settings.store), name, settings)
    run_and_tell(spec, settings, again=wanted)
