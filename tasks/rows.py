"""The tables: one Arrow schema each. Imports only pyarrow, so that anyone can read them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 1

_TEXT, _FLOAT, _INT, _BOOL = pa.string(), pa.float64(), pa.int64(), pa.bool_()

KEY_COLUMNS: dict[str, pa.DataType] = {
    "measurement_id": _TEXT,
    "model_id": _TEXT,  # of the measurement that makes it, or of the import (code and weights)
    "weights_sha256": _TEXT,
    "dataset": _TEXT,  # the data set that `sample` indexes
    "split": _TEXT,
    "sample": _INT,  # 0-based index in the data set's split; null where a row is not about one
    "seed": _INT,  # training seed; null for imported models
}

COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "jobs": {
        "sweep": _TEXT,
        "kind": _TEXT,
        "name": _TEXT,  # catalogue entry, e.g. the attack
        "start": _INT,
        "stop": _INT,
        "status": _TEXT,  # done | failed | timeout | cancelled
        "attempt": _INT,
        "started_at": pa.timestamp("us", tz="UTC"),
        "seconds": _FLOAT,
        "host": _TEXT,
        "gpu": _TEXT,
        "peak_memory_bytes": _INT,  # of the worker process, over its life so far
        "error": _TEXT,
        "library_versions": _TEXT,  # JSON object
    },
    "models": {
        "model": _TEXT,
        "arch": _TEXT,
        "training": _TEXT,
        "parameters": _INT,
        "spec_json": _TEXT,
        "warnings": _TEXT,  # short ones, joined by "; "
    },
    "training": {
        "epoch": _INT,  # 1-based
        "loss": _FLOAT,
        "train_accuracy": _FLOAT,
        "val_accuracy": _FLOAT,
        "seconds": _FLOAT,
        "loss_terms": pa.list_(pa.struct([("name", _TEXT), ("value", _FLOAT)])),
    },
    "predictions": {
        "source": _TEXT,  # clean | corruption:<name>:<severity> | ood:<set> | attack:<id>:<eps>
        "label": _INT,
        "logits": pa.list_(pa.float32()),  # stored with a fixed size: the number of classes
        "predicted": _INT,
        "confidence": _FLOAT,
    },
    "attacks": {
        "attack": _TEXT,
        "norm": _TEXT,
        "eps": _FLOAT,  # null: a min-norm attack
        "success": _BOOL,  # a misclassified sample counts as broken at distance 0
        "inferred_from_eps": _FLOAT,  # the smaller eps whose success this row carries over
        # of a random tenth of those: whether it broke when attacked at this eps all the same
        "broken_again": _BOOL,
        "distance": _FLOAT,  # null where no adversarial was found
        "adversarial_predicted": _INT,
        "source_model_id": _TEXT,
        "n_forward": _INT,
        "n_backward": _INT,
        "bad_gradients": _INT,  # backward passes with an input gradient of zero, or not finite
        "seconds": _FLOAT,
        "restarts": _INT,
        "check": _TEXT,  # ok, or what failed
    },
    "features": {
        "source": _TEXT,  # clean | ood:<set>
        "label": _INT,
        "features": pa.list_(pa.float32()),
        "logits": pa.list_(pa.float32()),  # the model's
        "member_logits": pa.list_(pa.float32()),  # of an ensemble's members, one after the other
        "members": _INT,  # how many; null: it is no ensemble
    },
    "fits": {
        "fit": _TEXT,
        "fitted_on": _TEXT,  # the split
        "samples": _INT,
        "facts_json": _TEXT,  # what there is to say of it: sizes, what a search found
        "artifact_sha256": _TEXT,  # of artifacts/fits/<measurement_id>.safetensors
    },
    "ood_scores": {
        "scorer": _TEXT,
        "ood_set": _TEXT,
        "score": _FLOAT,  # higher = more OOD
        "norm": _TEXT,  # of the ball that an image was pushed in towards low scores, if it was
        "eps": _FLOAT,
    },
    "calibration": {
        "method": _TEXT,
        "temperature": _FLOAT,
        "fitted_on": _TEXT,
        "nll_before": _FLOAT,
        "nll_after": _FLOAT,
        "at_bound": _BOOL,  # of the temperatures; no finite one is best
        "parameters_json": _TEXT,  # what is fitted, where it is not one temperature
        "why": _TEXT,  # the fit is at its bound, or there is none
    },
    "sensitivity": {"method": _TEXT, "eps": _FLOAT, "log_volume": _FLOAT, "mean_width": _FLOAT},
    "verification": {
        "property": _TEXT,
        "norm": _TEXT,
        "eps": _FLOAT,
        "verdict": _TEXT,  # verified falsified misclassified unknown timeout error
        "decided_by": _TEXT,
        "lower_bound": _FLOAT,  # on the smallest margin in the ball, as the network runs
        "upper_bound": _FLOAT,
        "distance_lower": _FLOAT,
        "distance_upper": _FLOAT,
        "boundary": _BOOL,
        "time_limit_seconds": _FLOAT,
        "seconds": _FLOAT,
        "solver": _TEXT,
        "solver_status": _TEXT,
        "nodes": _INT,
        "attack_steps": _INT,
        "alpha_bounds": _INT,
        "branches": _INT,
        "unstable_relus": _INT,
        "expected_seconds": _FLOAT,
        "counterexample_check": _TEXT,  # null without a counterexample; ok, or what failed
        # what a proof is about: float32, as the network runs, in every order of its sums; reals,
        # where rounding could decide, which is not verified. Null: none, or from before this was.
        "arithmetic": _TEXT,
        "rounding_error": _FLOAT,  # what was taken off lower_bound for rounding in float32
        "boxes": _INT,  # parts of the region that were bounded; null without input splitting
        # of the recipe `mipverify`; null elsewhere
        "lp_calls": _INT,
        "interval_unstable_relus": _INT,  # that intervals left to linear programs
        # of the questions `worst` and `closest`: whether both sides of the number meet
        "exact": _BOOL,
        "distance_lower_reals": _FLOAT,  # as distance_lower, over the reals: never below it
        "carried_from_eps": _FLOAT,  # the eps whose verdict decides this one too; null: its own
        "certificate": _TEXT,  # SHA-256 of the proof that is stored; null without one
        "certificate_bytes": _INT,
        "certificate_seconds": _FLOAT,  # that making it took
        "certificate_missing": _TEXT,  # why a verified row that was to have one has none
    },
    "landscape": {
        "step": _INT,
        "loss": _FLOAT,
        "sensitivity": _FLOAT,
        "accuracy": _FLOAT,
        "robust_accuracy": _FLOAT,
        "gradient_norm": _FLOAT,
        "accepted": _BOOL,
    },
}

TABLES = tuple(COLUMNS)


class Keys(NamedTuple):
    """What all rows of one job share."""

    measurement_id: str
    model_id: str | None
    weights_sha256: str | None
    dataset: str | None
    split: str | None
    seed: int | None


def schema(name: str, classes: int | None = None) -> pa.Schema:
    """Arrow schema of a table; `classes` fixes the length of `logits` in `predictions`."""
    columns = {**KEY_COLUMNS, **COLUMNS[name]}
    if name == "predictions" and classes is not None:
        columns["logits"] = pa.list_(pa.float32(), classes)
    return pa.schema(list(columns.items()))


def table(
    name: str,
    keys: Keys,
    samples: Sequence[int] | None,
    columns: Mapping[str, Any],
    *,
    n: int | None = None,
    classes: int | None = None,
) -> pa.Table:
    """Builds rows of a table from columns.

    Args:
        samples: The `sample` of each row; None leaves it null, and then `n` gives the row count.
        columns: Column name -> a scalar (repeated) or a sequence or array of row values, all 1-D;
            `logits` is (rows, classes) float32, as are other lists. Columns left out are null.

    Raises:
        KeyError: A column that the table does not have.
    """
    if samples is not None:
        n = len(samples)
    if n is None:
        raise ValueError("give samples or n")
    if unknown := set(columns) - set(COLUMNS[name]):
        raise KeyError(f"table {name!r} has no column {sorted(unknown)}")
    wanted = schema(name, classes)
    values = {**keys._asdict(), "sample": samples, **columns}
    return pa.table([_column(values.get(f.name), f.type, n) for f in wanted], schema=wanted)


def _column(value: Any, kind: pa.DataType, n: int) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(value.reshape(-1), type=pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    if pa.types.is_list(kind) and getattr(value, "ndim", 1) == 2:
        offsets = pa.array(range(0, value.size + 1, value.shape[1]), pa.int32())
        flat = pa.array(value.reshape(-1), type=pa.float32())
        return pa.ListArray.from_arrays(offsets, flat)
    if value is None or isinstance(value, str | int | float | bool):
        return pa.repeat(pa.scalar(value, type=kind), n)
    column = pa.array(value, type=kind)
    if len(column) != n:
        raise ValueError(f"{len(column)} values for {n} rows")
    return column
