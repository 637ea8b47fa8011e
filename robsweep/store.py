"""A store, as scripts and notebooks read it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import polars as pl

from robsweep.images import Adversarials, Chosen, Counterexamples, Kept
from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.metrics.planned import Asked
from robsweep.orchestrator.results.results import TABLES, Results
from robsweep.orchestrator.results.wanted import wanted
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.rows import TABLES as ROWS


def open_store(
    store: str | PathLike[str] | None = None, *, data_dir: str | PathLike[str] | None = None
) -> "OpenStore":
    """Opens a store for reading, as it is now; open it again to see what came later.

    Args:
        store: Its folder; without one, `ROBSWEEP_STORE`, else `./results`.
        data_dir: Where data sets lie, for images; without one, `ROBSWEEP_DATA_DIR`, else where the
            sweep that is asked about had them.

    Raises:
        StoreError: There is none, or a newer robsweep wrote it.
    """
    given = [None if path is None else str(path) for path in (store, data_dir)]
    settings = Settings.read(*given)
    return OpenStore(Results.open(settings.store), settings)


@dataclass(frozen=True, repr=False)
class OpenStore:
    """A store as of one moment: all that is read from it agrees."""

    _results: Results
    _settings: Settings = field(compare=False)

    @property
    def path(self) -> Path:
        return self._results.store.root

    def sweeps(self) -> list[str]:
        """Names of the sweeps that have run here."""
        return self._results.sweeps()

    def plan(self, sweep: str) -> pl.DataFrame:
        """What a sweep asked for, one row per measurement.

        Raises:
            InputError: There is no such sweep.
        """
        self._check(sweep)
        return self._results.plan(sweep)

    def progress(self, sweep: str) -> pl.DataFrame:
        """Per kind of job: samples wanted, done and failed.

        Raises:
            InputError: There is no such sweep.
        """
        self._check(sweep)
        return self._results.progress(sweep)

    def table(self, sweep: str, name: str = "leaderboard", *, by_seed: bool = True) -> pl.DataFrame:
        """A table of `robsweep show`: metrics with their n and interval, shares in [0, 1].

        A metric `m` has the columns `m`, `m_low` and `m_high` (95 %), `m_n`, and `m_wanted`, the
        samples that were asked for. What has not been run is null with n = 0.

        Args:
            by_seed: A row for each training seed; else one row over seeds, where `m` is the mean,
                `m_spread` the standard deviation between seeds, `m_sampling` the standard error of
                one seed's number by the luck of its samples, and `m_seeds` their number.
                `comparisons` and `tiers` test these means.

        Raises:
            InputError: There is no such sweep or table, or no mean over seeds of it.
        """
        self._check(sweep)
        known = {table: table for table in TABLES}
        if name not in known:
            raise InputError(f"no table {name!r}{did_you_mean(name, TABLES)}")
        return self._results.table(sweep, known[name], by_seed=by_seed)

    def comparisons(
        self,
        sweep: str,
        metric: str | None = None,
        *,
        baseline: str | None = None,
        by_seed: bool = True,
    ) -> pl.DataFrame:
        """Pairs of models on the same samples: difference, interval, p-value, and that after Holm.

        Args:
            metric: One of those in the column `metric`; all that are between models without it.
                `scorer_auroc` is between the scorers of each model.
            baseline: `MODEL[/TRAINING[/SEED]]`, or a scorer: pairs with it alone.
            by_seed: Every trained model by itself; else models that differ by their seed alone as
                one, where the test knows of seeds and of samples.

        Raises:
            InputError: There is no such sweep, metric or model.
        """
        self._check(sweep)
        return self._results.comparisons(sweep, metric, baseline, by_seed=by_seed)

    def tiers(self, sweep: str, metric: str | None = None, *, by_seed: bool = True) -> pl.DataFrame:
        """Models, or scorers, in tiers of those that cannot be told apart, the best first.

        Args:
            metric: One of those in the column `metric`; all that are between models without it.
                `scorer_auroc` is between the scorers of each model.
            by_seed: As of `comparisons`.

        Raises:
            InputError: There is no such sweep or metric.
        """
        self._check(sweep)
        return self._results.tiers(sweep, metric, by_seed=by_seed)

    def rows(self, table: str, sweep: str | None = None) -> pl.DataFrame:
        """Stored rows: predictions, attacks, verification, ood_scores, jobs, models and so on.

        Args:
            sweep: Only what counts for this sweep: of its measurements, on the samples that it
                wants. Of `verification`, every row that answers one of its questions, whichever
                sweep wrote it, at the eps that it is asked about; a sample may have several.

        Raises:
            InputError: There is no such table or sweep.
        """
        if table not in ROWS:
            raise InputError(f"no table {table!r}{did_you_mean(table, ROWS)}")
        if sweep is None:
            return self._results.rows(table).collect()
        self._check(sweep)
        if table == "verification":
            return self._results.verdicts(sweep)
        if table == "jobs":
            return self._results.rows(table).filter(pl.col("sweep") == sweep).collect()
        planned = self._results.models(sweep)
        if table == "models":  # an imported one has its row from a preflight
            ids = [model.model_id for model in planned]
            return self._results.rows(table).filter(pl.col("model_id").is_in(ids)).collect()
        asked = [a for model in planned for a in model.asked if _writes(a, table)]
        return wanted(self._results.rows, table, asked).collect()

    def adversarials(
        self,
        sweep: str,
        attack: str,
        *,
        model: str | None = None,
        training: str | None = None,
        seed: int | None = None,
        eps: float | str | None = None,
    ) -> Adversarials:
        """What an attack of a sweep made of its images, successful or not.

        Args:
            attack: Its name in the sweep.
            model: Needed where the attack ran on several, as are `training` and `seed`.
            eps: One radius, e.g. 0.1 or "8/255"; without one, all that the attack was run at.

        Raises:
            InputError: There is no such sweep, attack, model or radius, or it has not run yet; the
                sweep keeps no adversarials; or its data are not where they were.
        """
        self._check(sweep)
        return self._kept(sweep).adversarials(attack, Chosen(model, training, seed), eps)

    def counterexamples(
        self,
        sweep: str,
        *,
        model: str | None = None,
        training: str | None = None,
        seed: int | None = None,
        eps: float | str | None = None,
        property: str | None = None,  # noqa: A002 (as the column)
        dataset: str | None = None,
    ) -> Counterexamples:
        """The verifier's counterexamples to the sweep's questions, one per falsified sample.

        Args:
            model: Needed where several were verified, as are `training` and `seed`.
            eps: One radius, e.g. 0.1 or "8/255"; without one, all that were asked about.
            property: As in the column of the verification table; without one, all.
            dataset: What was verified on; without one, the sweep's own, or else the first.

        Raises:
            InputError: There is no such sweep, model, radius or property, or its data are not
                where they were.
        """
        self._check(sweep)
        chosen = Chosen(model, training, seed)
        return self._kept(sweep).counterexamples(chosen, eps, property, dataset)

    def _kept(self, sweep: str) -> Kept:
        return Kept(self._results, sweep, self._settings)

    def _check(self, sweep: str) -> None:
        names = self.sweeps()
        if sweep not in names:
            hint = did_you_mean(sweep, names) or ": none has run yet"
            raise InputError(f"{self.path} has no sweep {sweep!r}{hint}")

    def __repr__(self) -> str:
        return f"robsweep.open({str(self.path)!r}): {_listed(self.sweeps())}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no sweeps yet"


def _writes(asked: Asked, table: str) -> bool:
    if table == "training":
        return asked.kind == "train"
    return KINDS[asked.kind].table == table or (table == "predictions" and asked.kind == "attack")
