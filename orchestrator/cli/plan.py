"""The command `plan`: what would run, in three degrees of detail."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from robsweep.orchestrator.cli.options import (
    DataDir,
    File,
    NetsDir,
    Sets,
    StoreOption,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robsweep.orchestrator.run.outlook import MeasurementOutlook, Outlook

_DETAILS = [
    "measurement", "kind", "model", "entry", "section", "wanted", "covered", "left", "s/sample",
    "seconds",
]  # fmt: skip
Detail = Annotated[bool, typer.Option("--detail", help="A line per measurement.")]
Why = Annotated[bool, typer.Option("--why", help="Why each measurement that would run does.")]


def plan(
    file: File,
    sets: Sets = None,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    detail: Detail = False,
    why: Why = False,
) -> None:
    """Show what would run, what is already done, and the expected cost. Runs nothing."""
    from robsweep.orchestrator.run.outlook import outlook
    from robsweep.orchestrator.spec import sweep_file

    found = outlook(sweep_file.load(file, sets or ()), settings_of(store, data_dir, nets_dir))
    warn(found)
    if detail:
        print(_details(found.measurements))
    if why:
        print(_reasons(found))
    if not detail and not why:
        print(summary(found))


def warn(found: "Outlook") -> None:
    """Says on stderr what looks wrong in the user's data."""
    for text in found.warnings:
        print(f"{found.sweep}: {text}", file=sys.stderr)


def summary(found: "Outlook") -> str:
    """A line per kind."""
    lines = [f"{'kind':<10} {'measurements':>12} {'samples':>9} {'covered':>9} {'expected':>12}"]
    for row in found.kinds:
        samples = f"{row.samples}+" if row.kind == "solve" else str(row.samples)
        lines.append(
            f"{row.kind:<10} {row.measurements:>12} {samples:>9} {row.covered:>9} "
            f"{row.expected_seconds:>10.0f} s"
        )
    total = sum(row.expected_seconds for row in found.kinds)
    lines.append(
        f"about {total:.0f} CPU-seconds of work; what the screen leaves open is solved on top"
    )
    return "\n".join([*lines, *_not_run(found), *found.notes])


def _not_run(found: "Outlook") -> "Iterator[str]":
    """What is missing although a run would not do it, and how to get it."""
    from robsweep.orchestrator.ranges import total

    again = f"robsweep retry {found.sweep} --store {found.store}"
    failed = sum(total(m.failed) for m in found.measurements)
    timed_out = sum(total(m.timed_out) for m in found.measurements)
    waiting = sum(m.waits for m in found.measurements)
    if failed:
        yield f"{failed} failed: {again}"
    if timed_out:
        yield f"{timed_out} timed out: {again} --status timeout"
    if waiting:
        yield f"{waiting} measurements wait for these"


def _details(measurements: "Sequence[MeasurementOutlook]") -> str:
    """`covered` are wanted samples; `left` are whole groups, and may be more than is wanted."""
    from robsweep.orchestrator.ranges import total

    rows = [_DETAILS]
    for m in measurements:
        row = m.row
        rows.append(
            [
                row.measurement_id,
                row.kind,
                row.label,
                row.entry,
                row.section,
                str(total(row.wanted)),
                str(m.settled),
                f"{total(m.left)}+" if m.undetermined else str(total(m.left)),
                f"{m.sample_seconds:.2g}",
                f"{m.expected_seconds:.1f}",
            ]
        )
    return _columns(rows, right=5)


def _reasons(found: "Outlook") -> str:
    rows = [["measurement", "model", "entry", "why"]]
    for m in found.measurements:
        row = m.row
        if row.measurement_id in found.reasons:
            entry = row.entry if row.entry == row.section else f"{row.section}.{row.entry}"
            why = "; ".join(found.reasons[row.measurement_id])
            rows.append([row.measurement_id, row.label, entry, why])
    return _columns(rows, right=0) if len(rows) > 1 else "nothing would run"


def _columns(rows: Sequence[Sequence[str]], right: int) -> str:
    """Aligned text; the last `right` columns to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = len(widths) - right
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < first else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
