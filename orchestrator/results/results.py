"""The read side of a store: its live rows, and every table that is made of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import polars as pl

from robsweep.orchestrator.errors import InputError, StoreError
from robsweep.orchestrator.results.comparisons.metrics import METRICS
from robsweep.orchestrator.results.comparisons.standings import recipe_tier_table, tier_table
from robsweep.orchestrator.results.comparisons.tables import comparison_table, recipe_table
from robsweep.orchestrator.results.metrics.attacks import breaks_from
from robsweep.orchestrator.results.metrics.planned import Asked, Model, failures_of, models
from robsweep.orchestrator.results.metrics.progress import progress
from robsweep.orchestrator.results.metrics.verification import contradictions
from robsweep.orchestrator.results.seeds import over_seeds
from robsweep.orchestrator.results.tables.attacks import attack_table, failed_checks
from robsweep.orchestrator.results.tables.boxes import landscape_table, sensitivity_table
from robsweep.orchestrator.results.tables.calibration import calibration_table
from robsweep.orchestrator.results.tables.columns import Read
from robsweep.orchestrator.results.tables.honesty import honesty_table
from robsweep.orchestrator.results.tables.joint.table import joint_table
from robsweep.orchestrator.results.tables.leaderboard import leaderboard
from robsweep.orchestrator.results.tables.ood import ood_table
from robsweep.orchestrator.results.tables.optimality import optimality_table
from robsweep.orchestrator.results.tables.shift import shift_table
from robsweep.orchestrator.results.tables.verification import verification_table
from robsweep.orchestrator.results.wanted import verdicts, wanted
from robsweep.orchestrator.store.log import Part
from robsweep.orchestrator.store.store import Snapshot, Store
from robsweep.tasks.rows import schema

TableName = Literal[
    "leaderboard", "attacks", "calibration", "ood", "shift", "verification", "sensitivity",
    "landscape", "honesty", "joint", "comparisons", "tiers", "optimality",
]  # fmt: skip
TABLES: tuple[TableName, ...] = get_args(TableName)

MAKERS: dict[TableName, Callable[[Sequence[Model], Read], pl.DataFrame]] = {
    "leaderboard": leaderboard,
    "attacks": attack_table,
    "calibration": calibration_table,
    "ood": ood_table,
    "shift": shift_table,
    "verification": verification_table,
    "sensitivity": sensitivity_table,
    "landscape": landscape_table,
    "honesty": honesty_table,
    "joint": joint_table,
    "comparisons": comparison_table,
    "tiers": tier_table,
    "optimality": optimality_table,
}
# Those that test means over seeds, in place of taking means over rows.
_OF_RECIPES: dict[TableName, Callable[[Sequence[Model], Read], pl.DataFrame]] = {
    "comparisons": recipe_table,
    "tiers": recipe_tier_table,
}


@dataclass(frozen=True)
class Results:
    """A store as of one moment: all that is read from it agrees."""

    store: Store
    snapshot: Snapshot

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Opens a store for reading.

        Raises:
            StoreError: There is none, or a newer robsweep wrote it.
        """
        store = Store.open(location)
        return cls(store, store.snapshot())

    def sweeps(self) -> list[str]:
        """Names of the sweeps that have run on this store."""
        return self.store.sweeps()

    def plan(self, sweep: str) -> pl.DataFrame:
        """A sweep's plan, one row per measurement.

        Raises:
            InputError: There is no such sweep.
        """
        path = self.store.root / "sweeps" / sweep / "plan.parquet"
        if not path.is_file():
            known = ", ".join(self.sweeps()) or "none yet: start one with `robsweep run FILE`"
            raise InputError(f"{self.store.root} has no sweep {sweep!r}; its sweeps: {known}")
        return pl.read_parquet(path)

    def rows(self, table: str, measurement_ids: Iterable[str] | None = None) -> pl.LazyFrame:
        """Live rows of a table, of these measurements or of all.

        Raises:
            StoreError: A part has not the size that the log says.
        """
        parts = self.snapshot.parts(table)
        if measurement_ids is None:
            return self._scan(table, parts)
        ids = set(measurement_ids)
        live = self._scan(table, [part for part in parts if ids & part.covers.keys()])
        return live.filter(pl.col("measurement_id").is_in(list(ids)))

    def table(self, sweep: str, name: TableName, *, by_seed: bool = True) -> pl.DataFrame:
        """One of `TABLES`; what has not been run yet is null with n = 0.

        Args:
            by_seed: A row for each training seed; else one over seeds.

        Raises:
            InputError: There is no such sweep, or no mean over seeds of this table.
        """
        if not by_seed and name == "honesty":
            raise InputError("there is no mean over seeds of honesty: it is about single models")
        own = MAKERS if by_seed or name not in _OF_RECIPES else _OF_RECIPES
        found = own[name](self.models(sweep), self._wanted)
        return found if by_seed or name in _OF_RECIPES else over_seeds(found)

    def shift(
        self, sweep: str, baseline: str | None = None, *, by_seed: bool = True
    ) -> pl.DataFrame:
        """The table `shift`, with errors against a baseline where one is named.

        Raises:
            InputError: There is no such sweep, or no such model.
        """
        found = shift_table(self.models(sweep), self._wanted, baseline)
        return found if by_seed else over_seeds(found)

    def comparisons(
        self,
        sweep: str,
        metric: str | None = None,
        baseline: str | None = None,
        *,
        by_seed: bool = True,
    ) -> pl.DataFrame:
        """The table `comparisons` of one metric, or with one model alone; or of means over seeds.

        Raises:
            InputError: There is no such sweep, metric or model.
        """
        _check_metric(metric)
        make = comparison_table if by_seed else recipe_table
        return make(self.models(sweep), self._wanted, metric, baseline)

    def tiers(self, sweep: str, metric: str | None = None, *, by_seed: bool = True) -> pl.DataFrame:
        """The table `tiers` of one metric; or of means over seeds.

        Raises:
            InputError: There is no such sweep or metric.
        """
        _check_metric(metric)
        make = tier_table if by_seed else recipe_tier_table
        return make(self.models(sweep), self._wanted, metric)

    def leaderboard(self, sweep: str) -> pl.DataFrame:
        return self.table(sweep, "leaderboard")

    def progress(self, sweep: str) -> pl.DataFrame:
        """Per kind: samples wanted, done and failed."""
        return progress(self.models(sweep), self.verdicts(sweep))

    def models(self, sweep: str) -> list[Model]:
        """The models of a sweep, what was asked of them, and how far that is.

        Raises:
            InputError: There is no such sweep.
        """
        plan = self.plan(sweep)
        bad = self.rows("jobs").filter(
            pl.col("sweep") == sweep,
            pl.col("status").is_in(["failed", "timeout"]),
            pl.col("measurement_id").is_in(plan["measurement_id"].implode()),
        )
        failures = failures_of(bad.collect())
        return models(plan, self.snapshot.coverage, failures, self._warnings(plan))

    def verdicts(self, sweep: str) -> pl.DataFrame:
        """All rows about the samples that a sweep verifies, whichever sweep wrote them."""
        screens = [asked for model in models(self.plan(sweep)) for asked in model.of("screen")]
        return verdicts(self.rows, [(screen, screen.wanted) for screen in screens]).collect()

    def alarms(self, sweep: str) -> pl.DataFrame:
        """Samples of the sweep's models that are proved robust and yet broken; should be empty.

        All rows of these models count, whichever sweep wrote them.
        """
        names = self.plan(sweep).select("model_id", "model", "training", "seed")
        names = names.unique("model_id", keep="first", maintain_order=True)
        ids = names["model_id"].to_list()
        of_these = pl.col("model_id").is_in(ids)
        verdicts = self.rows("verification").filter(of_these).collect()
        balls = ["model_id", "dataset", "split", "norm", "sample"]
        proves = (pl.col("verdict") == "verified") | (pl.col("distance_lower") > 0)
        proved = verdicts.filter(proves.fill_null(value=False)).select(balls).unique()
        hit = self.rows("attacks").filter(of_these).join(proved.lazy(), on=balls, how="semi")
        found = contradictions(verdicts, breaks_from(hit))
        return names.join(found, on="model_id", how="inner", maintain_order="left_right")

    def failed_checks(self, sweep: str) -> pl.DataFrame:
        """Attacks whose adversarials did not pass their check; should be empty."""
        return failed_checks(self.models(sweep), self._wanted)

    def _warnings(self, plan: pl.DataFrame) -> dict[str, str]:
        """Model id -> the warnings of its rows in `models`, each once."""
        rows = self.rows("models").filter(
            pl.col("warnings").is_not_null(), pl.col("model_id").is_in(plan["model_id"].implode())
        )
        found: dict[str, list[str]] = {}
        for model_id, text in rows.select("model_id", "warnings").collect().iter_rows():
            found.setdefault(model_id, []).extend(text.split("; "))
        return {model_id: "; ".join(dict.fromkeys(all_)) for model_id, all_ in found.items()}

    def _wanted(self, table: str, measurements: Iterable[Asked]) -> pl.LazyFrame:
        return wanted(self.rows, table, measurements)

    def _scan(self, table: str, parts: Sequence[Part]) -> pl.LazyFrame:
        """Exactly these files, as one table."""
        wanted = polars_schema(table)
        alike: dict[str, list[Path]] = {}
        for part in parts:
            path = self.store.root / part.path
            # polars takes an empty file for no rows
            if not path.is_file() or path.stat().st_size != part.bytes:
                raise StoreError(
                    f"{path} is damaged or missing (the log says {part.bytes} bytes): "
                    "run `robsweep check`"
                )
            alike.setdefault(part.schema, []).append(path)
        frames = [pl.LazyFrame(schema=wanted)]
        for paths in alike.values():
            scanned = pl.scan_parquet(paths, glob=False, hive_partitioning=False)
            here = scanned.collect_schema()
            frames.append(
                scanned.select(
                    pl.col(name).cast(kind) if name in here else pl.lit(None, kind).alias(name)
                    for name, kind in wanted.items()
                )
            )
        return pl.concat(frames)


def _check_metric(metric: str | None) -> None:
    if metric is not None and metric not in METRICS:
        raise InputError(f"no metric {metric!r} to compare by; there are: {', '.join(METRICS)}")


def polars_schema(table: str) -> dict[str, pl.DataType]:
    """A table's columns; `logits` is a list, whatever the number of classes."""
    empty = pl.from_arrow(schema(table).empty_table())
    assert isinstance(empty, pl.DataFrame)
    return dict(empty.schema)
