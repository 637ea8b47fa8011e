"""One live model: attacked, calibrated and verified by the jobs and metrics of sweeps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from robsweep import live
from robsweep.orchestrator.errors import ContradictionError, InputError
from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.next_jobs import next_jobs
from robsweep.orchestrator.plan.plan import Places, Plan, plan
from robsweep.orchestrator.plan.table import to_table
from robsweep.orchestrator.ranges import Ranges, union
from robsweep.orchestrator.results import report
from robsweep.orchestrator.results.metrics.attacks import breaks_from
from robsweep.orchestrator.results.metrics.planned import Asked, Model, models
from robsweep.orchestrator.results.metrics.verification import contradictions, final_verdicts
from robsweep.orchestrator.results.results import MAKERS, TABLES, polars_schema
from robsweep.orchestrator.results.wanted import wanted
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.spec import one_model, yaml_file
from robsweep.orchestrator.spec.spec import DatasetSpec, ModelSpec, SweepSpec
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.running import undisturbed
from robsweep.tasks.catalogue import ATTACKS
from robsweep.tasks.catalogue.values import NORMS
from robsweep.tasks.job import Inputs, Job, Live, ModelRef
from robsweep.tasks.rows import TABLES as ROWS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Array = Any  # a tensor, a numpy array, or what numpy makes one of
    Samples = tuple[Tensor, Tensor]

_ARCH = "live"
_VERIFIER = "milp"


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
        return report.leaderboard_text(self._board).rstrip()


def evaluate(
    model: "nn.Module",
    images: "Array",
    labels: "Array",
    *,
    norm: str = "linf",
    eps: float | str | Sequence[float | str] = (0.1,),
    attacks: str | Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None,
    verify: int = 0,
    time_limit_seconds: float = 60.0,
    calibration: bool = True,
    validation: "tuple[Array, Array] | None" = None,
    device: "str | torch.device" = "auto",
    threads: int = 1,
) -> Evaluation:
    """Attacks, calibrates and verifies a live model on samples in memory.

    What `robsweep eval` does with the same model, samples and options, it does with the same jobs,
    and the numbers are the same. Nothing is written; the model is borrowed, neither copied as a
    whole nor pickled, and is afterwards as it was. So are the global random generators.

    Args:
        model: From images (N, ...) in [0, 1] to logits float32 (N, K); normalisation is inside.
        images: Floats in [0, 1], (N, C, H, W), (N, D), or (N, H, W), which the model gets as
            (N, 1, H, W).
        labels: Integers (N,), from 0 to K - 1.
        norm: linf, l2, l1 or l0.
        eps: Radius or radii; pixels are 0 to 1, and "8/255" is allowed.
        attacks: Names of the catalogue, or entries as in a sweep file by names of your own, e.g.
            `{"long": {"attack": "LinfPGD", "steps": 200}}`; radii are `eps` where an entry has
            none. None: those of `robsweep eval`, for linf and l2. Empty: none.
        verify: How many of the first samples to verify at each radius; linf only.
        time_limit_seconds: Of each verified sample and radius.
        calibration: Whether to fit a temperature on `validation`, where that is given. The ECE of
            the clean predictions is always there.
        validation: Further images and labels, which nothing else is measured on.
        device: `auto` is where the model is.
        threads: Of a job on a CPU; another number than 1 may change last bits.

    Raises:
        InputError: The model, the samples or an option is wrong; the model is to be verified and
            cannot be read as layers.
        ContradictionError: A sample is proved robust and yet broken: a proof or an attack is wrong.
        Exception: What an attack raises on all of its samples.
    """
    if norm not in NORMS:
        raise InputError(f"norm={norm!r}{did_you_mean(norm, NORMS)}")
    if verify and norm != "linf":
        raise InputError(f"verify={verify} needs norm='linf', got {norm!r}")
    splits = {"test": live.samples_of("images, labels", images, labels)}
    if validation is not None:
        splits["validation"] = live.samples_of("validation", *validation)
    if splits.get("validation", splits["test"])[0].shape[1:] != splits["test"][0].shape[1:]:
        raise InputError("validation: its images have another shape than those to evaluate on")
    if not 0 <= verify <= len(splits["test"][0]):
        raise InputError(f"verify={verify}: there are {len(splits['test'][0])} samples")
    radii = list(eps) if isinstance(eps, Sequence) and not isinstance(eps, str) else [eps]
    body: dict[str, Any] = {"name": "evaluate", "attacks": _entries(attacks, norm, radii)}
    if calibration and validation is not None:
        body["calibration"] = {"temperature": None}
    if verify:
        body["verification"] = {
            norm: {
                "verifier": _VERIFIER,
                "eps": radii,
                "samples": verify,
                "time_limit_seconds": time_limit_seconds,
            }
        }
    place = live.device_for(model, device)
    with undisturbed(), live.borrowed(model, place):
        sha256 = live.weights_sha256(model)
        spec = _spec(body, model, sha256, splits, live.classes_of(model, _on(place, splits)))
        setting = {"live": Live(model, sha256, splits), "device": str(place), "threads": threads}
        planned = _for(plan(spec, Places(Path())), setting)
        _check(planned, model, verify)
        rows = _measured(planned)
    found = _evaluation(spec, norm, planned, rows)
    _refuse_contradictions(found)
    return found


def _on(place: Any, splits: "Mapping[str, Samples]") -> "Tensor":
    return splits["test"][0][:2].to(place)


def _entries(
    attacks: str | Iterable[str] | Mapping[str, Mapping[str, Any]] | None,
    norm: str,
    radii: list[float | str],
) -> dict[str, dict[str, Any]]:
    """The section `attacks` of a sweep file."""
    if attacks is None:
        if norm not in one_model.ATTACKS:
            raise InputError(f"norm={norm!r} has no attacks by default: name some by attacks=")
        attacks = one_model.ATTACKS[norm]
    elif isinstance(attacks, str):
        attacks = [attacks]
    named = attacks if isinstance(attacks, Mapping) else {name: {} for name in attacks}
    entries = {}
    for name, given in named.items():
        entry = {"attack": name, **(given or {})}
        called = entry["attack"]
        known = ATTACKS.get(called)
        gives = entry.get("gives", "fixed_eps") if known is None else known.gives
        if gives == "fixed_eps":
            entry.setdefault("eps", radii)
        if known is None or norm in known.norms:
            entry.setdefault("norm", norm)
        # a name of ours, as a user's own has a colon, which is no name of an entry
        entries[name.replace(":", "_").replace(".", "_")] = entry
    return entries


def _spec(
    body: dict[str, Any],
    model: "nn.Module",
    weights_sha256: str,
    splits: "dict[str, Samples]",
    classes: int,
) -> SweepSpec:
    dataset = DatasetSpec(
        name=f"live:{live.data_sha256(splits)[:16]}",
        splits={name: len(labels) for name, (_, labels) in splits.items()},
        shape=tuple(splits["test"][0].shape[1:]),
        classes=classes,
    )
    described = {"class": type(model).__qualname__, "weights": weights_sha256}
    only = ModelSpec(name=_ARCH, train=False, parameters=described)
    document = yaml_file.from_mapping(body, "evaluate")
    return from_document(document, Path.cwd(), dataset=dataset, models={"model": only})


def _for(planned: Plan, setting: dict[str, Any]) -> Plan:
    """A plan whose jobs run here, on what is in memory."""

    def here(one: Any) -> Any:
        return replace(one, setting=replace(one.setting, keep_adversarials=False, **setting))

    return replace(
        planned,
        measurements={key: here(one) for key, one in planned.measurements.items()},
        preflights=tuple(here(one) for one in planned.preflights),
    )


def _check(planned: Plan, model: "nn.Module", verify: int) -> None:
    """The preflight of a sweep; and whether the model can be verified, if it is to be."""
    from robsweep.tasks.jobs import run

    for one in planned.preflights:
        params = {k: v for k, v in one.measurement.params.items() if k != "engines"}
        run(Job(replace(one.measurement, params=params), 0, 1, one.setting), Inputs())
        if verify:
            _check_readable(model, one.measurement.model, verify)


def _check_readable(model: "nn.Module", ref: ModelRef, verify: int) -> None:
    from robsweep.tasks.verification.optimise.solver import solver_named
    from robsweep.tasks.verification.search.counterexamples import subject_of

    try:
        subject_of(model, ref.shape)
    except Exception as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"verify={verify}: the model cannot be verified: {reason}; with verify=0 it is "
            "attacked and calibrated all the same"
        ) from error
    solver_named("scip")


def _measured(planned: Plan) -> dict[str, list[pa.Table]]:
    """Runs all jobs of a plan, one by one, and gives their rows by table."""
    from robsweep.tasks.jobs import run

    tables: dict[str, list[pa.Table]] = {}
    done: dict[str, Ranges] = {}
    open_rows = OpenRows(planned)

    def covered(key: str) -> Ranges:
        return done.get(key, ())

    while jobs := list(next_jobs(planned, covered, done, open_rows.open, Costs().expected)):
        for job in jobs:
            m = job.measurement
            if m.kind == "solve" and job.start not in open_rows.open[m.measurement_id]:
                continue  # another radius has decided it meanwhile
            output = run(job, _inputs(planned, job, tables))
            key = m.measurement_id
            done[key] = union([*covered(key), (job.start, job.stop)])
            for name, rows in output.tables.items():
                tables.setdefault(name, []).append(rows)
            if "verification" in output.tables:
                open_rows.add(output.tables["verification"], past=False)
    return tables


def _inputs(planned: Plan, job: Job, tables: Mapping[str, list[pa.Table]]) -> Inputs:
    if job.measurement.kind != "calibrate":
        return Inputs()
    fitted_on = planned.measurements[job.measurement.measurement_id].needs[-1]
    rows = pa.concat_tables(tables["predictions"])
    return Inputs(rows=rows.filter(pc.equal(rows["measurement_id"], fitted_on)).sort_by("sample"))


def _evaluation(
    spec: SweepSpec, norm: str, planned: Plan, tables: Mapping[str, list[pa.Table]]
) -> Evaluation:
    asked = pl.from_arrow(to_table(planned))
    assert isinstance(asked, pl.DataFrame)
    rows = {name: _frame(name, tables.get(name, [])) for name in ROWS}
    found = Evaluation(
        norm,
        (),
        rows["predictions"],
        rows["attacks"],
        rows["verification"],
        models(asked),
        rows,
    )
    screens = found._models[0].of("screen")
    balls = [eps for ball, eps in found._models[0].balls() if ball == norm]
    verdicts = final_verdicts(found._read("verification", screens).collect())
    return replace(found, eps=tuple(balls), verification=verdicts)


def _frame(name: str, pieces: list[pa.Table]) -> pl.DataFrame:
    wanted_schema = polars_schema(name)
    frames = [pl.DataFrame(schema=wanted_schema)]
    for piece in pieces:
        rows = pl.from_arrow(piece)
        assert isinstance(rows, pl.DataFrame)
        frames.append(rows.cast(pl.Schema(wanted_schema)))
    return pl.concat(frames)


def _refuse_contradictions(found: Evaluation) -> None:
    alarms = contradictions(found._rows["verification"], breaks_from(found._rows["attacks"].lazy()))
    if alarms.height:
        raise ContradictionError(
            f"{alarms.n_unique(['norm', 'sample'])} samples are proved robust and yet broken: "
            f"a proof or an attack is wrong\n{report.render(alarms, 'text')}"
        )


def _estimate(row: Mapping[str, Any], name: str) -> Estimate:
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_n"] or 0)
