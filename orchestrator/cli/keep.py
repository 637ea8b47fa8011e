"""Commands that keep a store whole and small."""

from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import StoreOption, settings_of

keep = typer.Typer()


@keep.command()
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


@keep.command()
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
