"""Commands that keep a store whole and small."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from robsweep.orchestrator.cli.options import StoreOption, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robsweep.orchestrator.store.free import Surplus
    from robsweep.orchestrator.store.lost import Lost

keep = typer.Typer()
_LINES = 20

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


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
def delete(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    yes: Yes = False,
    store: StoreOption = None,
) -> None:
    """Forget a sweep. Results stay until `robsweep compact`, and those that others want longer."""
    from robsweep.orchestrator.errors import InputError
    from robsweep.orchestrator.spec.yaml_file import did_you_mean
    from robsweep.orchestrator.store import free
    from robsweep.orchestrator.store.lost import lost
    from robsweep.orchestrator.store.store import Store

    opened = Store.open(settings_of(store).store)
    if name not in opened.sweeps():
        hint = did_you_mean(name, opened.sweeps()) or "; it has none"
        raise InputError(f"{opened.root} has no sweep {name!r}{hint}")
    snapshot = opened.snapshot()
    found = free.surplus(opened, snapshot, free.recorded(opened, without=name))
    print(f"{name}: {_text(found)} would be wanted by no sweep any more", file=sys.stderr)
    _say_lost(lost(opened, snapshot, found.ids))
    if not yes and not _agreed(f"Forget sweep {name}? If it is running, it stops."):
        if not sys.stdin.isatty():
            raise InputError(f"nobody to ask: robsweep delete {name} --yes forgets it")
        raise typer.Exit(1)
    free.forget(opened, name)
    print(f"{name} is forgotten; `robsweep compact` frees what no sweep wants", file=sys.stderr)


@keep.command()
def compact(
    store: StoreOption = None,
    grace: Annotated[
        float, typer.Option(help="Seconds that files out of use are kept for readers.")
    ] = 3600.0,
    yes: Yes = False,
) -> None:
    """Merge small parts, and free what no sweep wants any more; sweeps may run meanwhile."""
    from robsweep.orchestrator.store import free
    from robsweep.orchestrator.store.compact import compact as compact_store
    from robsweep.orchestrator.store.compact import grace_of
    from robsweep.orchestrator.store.lost import lost
    from robsweep.orchestrator.store.store import Store

    period = grace_of(grace)
    opened = Store.open(settings_of(store).store)
    snapshot = opened.snapshot()
    found = free.surplus(opened, snapshot, free.recorded(opened))
    if found.rows or found.due(period):
        print(f"wanted by no sweep: {_text(found)}", file=sys.stderr)
        _say_lost(lost(opened, snapshot, found.ids))
        if yes or _agreed("Free them?"):
            rows, files = free.free(opened, found.ids, period)
            print(f"{rows} rows that no sweep wants are gone, {files} files of theirs deleted")
        else:
            print("they stay: robsweep compact --yes frees them", file=sys.stderr)
    done = compact_store(opened, period)
    print(f"{done.before} parts became {done.after}; {done.deleted} replaced files deleted")


def _text(found: "Surplus") -> str:
    return (
        f"{len(found.ids)} measurements with {found.rows} rows (results and jobs) and "
        f"{len(found.files)} other files, about {found.bytes / 1e6:.1f} MB"
    )


def _say_lost(all_of_them: "Sequence[Lost]") -> None:
    """A line per measurement, the largest first, as many as one reads."""
    for one in all_of_them[:_LINES]:
        what = f"{one.kind} {one.name}".rstrip()
        of = f" of {one.model}" if one.model else ""
        by = f", by sweep {', '.join(one.sweeps)}" if one.sweeps else ""
        print(f"  {what}{of}: {one.rows} rows{by} ({one.measurement_id})", file=sys.stderr)
    if len(all_of_them) > _LINES:
        print(f"  and {len(all_of_them) - _LINES} more", file=sys.stderr)


def _agreed(question: str) -> bool:
    """Asks in a terminal; without one there is nobody to agree."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)
