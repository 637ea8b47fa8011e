"""A table with one row over training seeds in place of one row per seed."""

import polars as pl
from scipy.special import ndtri

from robsweep.orchestrator.results.intervals import LEVEL
from robsweep.orchestrator.results.metrics.extent import DONE

# What tells rows of one model apart; the seed, and what follows from it, is not among these.
KEYS = (
    "model", "training", "dataset", "question", "metric", "norm", "eps", "attack", "scaling",
    "scorer", "ood_set", "group", "evasion", "seen", "entry", "corruption", "parameters",
    "severity", "property", "method", "landscape", "measure",
)  # fmt: skip
# Floats that are no estimate, or not one that may be averaged.
_NOT = frozenset({"temperature", "seconds", "chains"})
_BESIDE = (
    "missing_attacks", "honesty", "why", "baseline", "seen_by", "auroc_of", "warnings",
)  # fmt: skip
_PARTS = ("_low", "_high", "_clean")


def over_seeds(table: pl.DataFrame) -> pl.DataFrame:
    """One row for what differs by its seed alone.

    Of each metric `m` it has the mean over seeds, `m_spread`, the standard deviation between seeds
    (n - 1 in the denominator; null for one seed), `m_sampling`, the standard error of one seed's
    number by the samples that it is measured on, `m_seeds`, how many have a number, and `m_n`, on
    how many samples, of the seed that has the fewest. All seeds are measured on the same samples: a
    spread is of training, and of what luck in the samples does not do to all seeds alike.
    """
    keys = [name for name in KEYS if name in table.columns]
    measured = [name for name, kind in table.schema.items() if kind == pl.Float64]
    metrics = [
        name for name in measured if name not in {*keys, *_NOT} and not name.endswith(_PARTS)
    ]
    pieces: list[pl.Expr] = [pl.len().alias("seeds")]
    for name in metrics:
        pieces += _pieces(name, table.columns)
    if "bracket_low" in table.columns:  # two bounds around no estimate
        pieces += [pl.col("bracket_low", "bracket_high").mean(), pl.col("bracket_n").min()]
        pieces.append(_status("bracket"))
    beside = [name for name in table.columns if name in _BESIDE or name.endswith("_why")]
    pieces += [_said(name) for name in beside]
    return table.group_by(keys, maintain_order=True).agg(pieces)


def _said(name: str) -> pl.Expr:
    """What stands beside any of the seeds, each once; of the honesty checks, failures first."""
    said = pl.col(name).drop_nulls().unique(maintain_order=True)
    if name == "honesty":
        failing = said.filter(said.str.starts_with("fail"))
        return pl.coalesce(failing.first(), said.first()).alias(name)
    return pl.when(said.len() > 0).then(said.str.join("; ")).alias(name)


def _status(name: str) -> pl.Expr:
    """The first that is not done."""
    status = pl.col(f"{name}_status")
    late = status.filter(status != DONE).first()
    return pl.coalesce(late, status.first()).alias(f"{name}_status")


def _pieces(name: str, columns: list[str]) -> list[pl.Expr]:
    value = pl.col(name)
    finite = value.is_finite().fill_null(value=True).all()
    found = [
        pl.when(finite).then(value.mean()).alias(name),
        pl.when(finite).then(value.std()).alias(f"{name}_spread"),
        value.count().cast(pl.Int64).alias(f"{name}_seeds"),
    ]
    if {f"{name}_low", f"{name}_high"} <= {*columns}:
        half = (pl.col(f"{name}_high") - pl.col(f"{name}_low")) / 2
        error = ((half / _z()) ** 2).mean().sqrt()
        found.append(pl.when(error.is_finite()).then(error).alias(f"{name}_sampling"))
    if f"{name}_n" in columns:
        found.append(pl.col(f"{name}_n").min())
    if f"{name}_n_id" in columns:
        found.append(pl.col(f"{name}_n_id").min())
    if f"{name}_status" in columns:
        found.append(_status(name))
    return found


def _z() -> float:
    return float(ndtri((1 + LEVEL) / 2))
