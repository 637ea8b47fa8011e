"""What was measured of a live model: metrics, tables and rows as those of a store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from robsweep.inline import Failed, Measured
from robsweep.orchestrator.errors import ContradictionError, InputError
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.plan.table import to_table
from robsweep.orchestrator.results import report
from robsweep.orchestrator.results.metrics.attacks import breaks_from
from robsweep.orchestrator.results.metrics.planned import (
    Asked,
    Failure,
    Model,
    failures_of,
    models,
)
from robsweep.orchestrator.results.metrics.verification import contradictions, final_verdicts
from robsweep.orchestrator.results.results import MAKERS, TABLES, polars_schema
from robsweep.orchestrator.results.wanted import wanted
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.tasks.rows import TABLES as ROWS


class Estimate(NamedTuple):
    """A share of `n` samples in [0, 1] with its 95 % interval; None without samples."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class Bracket(NamedTuple):
    """Between these shares of the same `n` samples lies the robust accuracy: proved, unbroken."""

    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What was measured of a model; rows and tables are those of a store."""

    norm: str
    eps: tuple[float, ...]
    predictions: pl.DataFrame  # one row per sample and source: clean, attack:<id>:<eps>
    attacks: pl.DataFrame  # one row per sample, attack and eps
    verification: pl.DataFrame  # one row per verified sample and eps: the verdict that counts
    warnings: tuple[str, ...]  # what looks wrong in the model, then in the data
    failures: tuple[Failed, ...]  # jobs that raised; metrics are without them, and say so
    _models: Sequence[Model]
    _rows: Mapping[str, pl.DataFrame]

    def table(self, name: str = "leaderboard") -> pl.DataFrame:
        """A table of `robsweep show`: metrics with their n and interval, shares in [0, 1].

        Raises:
            InputError: There is no such table.
        """
        known = {table: table for table in TABLES}
        if name not in known:
            raise InputError(f"no table {name!r}{did_you_mean(name, TABLES)}")
        return MAKERS[known[name]](self._models, self._read)

    @property
    def clean_accuracy(self) -> Estimate:
        return _estimate(self._first, "clean_accuracy")

    @property
    def ece(self) -> Estimate:
        """Expected calibration error of the clean predictions."""
        return _estimate(self._first, "ece")

    @property
    def ece_scaled(self) -> Estimate | None:
        """The same after temperature scaling; None where no temperature was fitted."""
        fitted = self._first["ece_scaled_n"] is not None
        return _estimate(self._first, "ece_scaled") if fitted else None

    @property
    def robust_accuracy(self) -> dict[float, Estimate]:
        """By eps: what survives all attacks of the norm together."""
        return {eps: _estimate(row, "robust_accuracy") for eps, row in self._balls()}

    @property
    def verified_accuracy(self) -> dict[float, Estimate]:
        """By eps: what is proved; an undecided sample counts as not proved."""
        return {eps: _estimate(row, "verified_accuracy") for eps, row in self._balls()}

    @property
    def bracket(self) -> dict[float, Bracket]:
        """By eps: verified and unbroken, on the samples that have both sides."""
        return {
            eps: Bracket(row["bracket_low"], row["bracket_high"], row["bracket_n"] or 0)
            for eps, row in self._balls()
        }

    @cached_property
    def _board(self) -> pl.DataFrame:
        return self.table()

    @property
    def _first(self) -> dict[str, Any]:
        return self._board.row(0, named=True)

    def _balls(self) -> Iterable[tuple[float, dict[str, Any]]]:
        for row in self._board.iter_rows(named=True):
            if row["norm"] == self.norm and row["eps"] is not None:
                yield row["eps"], row

    def _read(self, table: str, asked: Iterable[Asked]) -> pl.LazyFrame:
        return wanted(self._all_rows, table, asked)

    def _all_rows(self, table: str, measurement_ids: Iterable[str] | None) -> pl.LazyFrame:
        rows = self._rows[table].lazy()
        if measurement_ids is None:
            return rows
        return rows.filter(pl.col("measurement_id").is_in(list(measurement_ids)))

    def __repr__(self) -> str:
        lines = [report.leaderboard_text(self._board).rstrip()]
        lines += [f"warning: {text}" for text in self.warnings]
        if self.failures:
            first = self.failures[0]
            why = first.error.strip().rpartition("\n")[2]
            lines.append(f"{len(self.failures)} jobs failed, the first one {first.name}: {why}")
        return "\n".join(lines)


def evaluation_of(
    norm: str,
    planned: Plan,
    found: Measured,
    of_model: Sequence[str] = (),
    of_data: Sequence[str] = (),
) -> Evaluation:
    """What the rows of a plan's jobs say.

    Args:
        of_model: Warnings of the preflight, which the leaderboard shows too.
        of_data: Warnings of the samples.

    Raises:
        ContradictionError: A sample is proved robust and yet broken.
    """
    asked = pl.from_arrow(to_table(planned))
    assert isinstance(asked, pl.DataFrame)
    rows = {name: _frame(name, found.tables.get(name, [])) for name in ROWS}
    text = "; ".join(of_model)
    seen = dict.fromkeys(asked["model_id"], text) if text else {}
    result = Evaluation(
        norm,
        (),
        rows["predictions"],
        rows["attacks"],
        rows["verification"],
        (*of_model, *of_data),
        found.failed,
        models(asked, lambda key: found.done.get(key, ()), _failures(found.failed), seen),
        rows,
    )
    screens = result._models[0].of("screen")
    balls = [eps for ball, eps in result._models[0].balls() if ball == norm]
    verdicts = final_verdicts(result._read("verification", screens).collect())
    _refuse_contradictions(rows)
    return replace(result, eps=tuple(balls), verification=verdicts)


def _failures(failed: Sequence[Failed]) -> dict[str, Failure]:
    now = datetime.now(UTC)
    rows = [{**vars(one), "status": "failed", "started_at": now} for one in failed]
    return failures_of(pl.DataFrame(rows, schema=polars_schema("jobs")))


def _frame(name: str, pieces: Sequence[pa.Table]) -> pl.DataFrame:
    wanted_schema = polars_schema(name)
    frames = [pl.DataFrame(schema=wanted_schema)]
    for piece in pieces:
        rows = pl.from_arrow(piece)
        assert isinstance(rows, pl.DataFrame)
        frames.append(rows.cast(pl.Schema(wanted_schema)))
    return pl.concat(frames)


def _refuse_contradictions(rows: Mapping[str, pl.DataFrame]) -> None:
    alarms = contradictions(rows["verification"], breaks_from(rows["attacks"].lazy()))
    if alarms.height:
        raise ContradictionError(
            f"{alarms.n_unique(['norm', 'sample'])} samples are proved robust and yet broken: "
            f"a proof or an attack is wrong\n{report.render(alarms, 'text')}"
        )


def _estimate(row: Mapping[str, Any], name: str) -> Estimate:
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_n"] or 0)
