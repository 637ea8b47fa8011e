"""Progress on stderr: a live table on a terminal or in a notebook, else a line now and then."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from rich.console import Console
from rich.live import Live
from rich.table import Table

PLAIN_EVERY_SECONDS = 10.0


@dataclass
class KindProgress:
    """Samples of one kind: asked for, done before this run, done and failed in it."""

    total: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0  # of work, over all slots
    remaining_seconds: float = 0.0  # of work, expected


class Progress:
    """Shows how far a sweep is; the driver calls `show` as often as it likes."""

    def __init__(self, name: str, slots: int) -> None:
        self._name, self._slots = name, slots
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._last = self._started = time.monotonic()
        # in a notebook, rich needs ipywidgets to overwrite what it has shown
        widgets = self._console.is_jupyter and find_spec("ipywidgets") is not None
        if self._console.is_terminal or widgets:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def show(self, kinds: Mapping[str, KindProgress], *, final: bool = False) -> None:
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._table(kinds))
        elif final or now - self._last >= PLAIN_EVERY_SECONDS:
            self._last = now
            parts = [
                f"{kind} {p.before + p.done}/{p.total}" for kind, p in kinds.items() if p.total
            ]
            failed = sum(p.failed for p in kinds.values())
            text = f"{self._name}: {', '.join(parts)}"
            text += f", {failed} failed" if failed else ""
            text += "" if final else f", about {self._eta(kinds)} left"
            print(text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self, kinds: Mapping[str, KindProgress]) -> Table:
        table = Table(title=f"{self._name} ({self._slots} slots)", title_justify="left", box=None)
        for column in ("kind", "samples", "of", "failed", "per second", "left"):
            table.add_column(column, justify="left" if column == "kind" else "right")
        elapsed = max(time.monotonic() - self._started, 1e-9)
        for kind, p in kinds.items():
            if p.total:
                table.add_row(
                    kind,
                    str(p.before + p.done),
                    str(p.total),
                    str(p.failed or ""),
                    f"{p.done / elapsed:.1f}" if p.done else "",
                    _duration(p.remaining_seconds / self._slots) if p.remaining_seconds else "",
                )
        table.add_row("", "", "", "", "", self._eta(kinds))
        return table

    def _eta(self, kinds: Mapping[str, KindProgress]) -> str:
        return _duration(sum(p.remaining_seconds for p in kinds.values()) / self._slots)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
