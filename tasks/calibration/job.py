"""The calibrate job."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robsweep.tasks.calibration.fit import Fit
from robsweep.tasks.catalogue import CALIBRATIONS
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.models.weights import sha256
from robsweep.tasks.own_functions import function_of
from robsweep.tasks.rows import table


def calibrate(job: Job, inputs: Inputs) -> Output:
    """One `calibration` row, fitted on the clean predictions given as `inputs.rows`.

    Params: method, parameters; of members that are scaled before the vote also members, vote and
    predictions, the ids of their measurements in the order of the members. Each then has a fit of
    its own, and likelihoods are means over them.
    """
    m = job.measurement
    name = m.params["method"]
    rows = inputs.rows
    if rows is None or not rows.num_rows:
        raise InputError(f"calibration {name!r} of {m.model.model_id} has no predictions to fit")
    method = function_of(CALIBRATIONS[name].path if name in CALIBRATIONS else name, "calibration")

    def fitted(of: pa.Table) -> Fit:
        logits = np.array(of["logits"].to_pylist(), dtype=np.float64)
        return _as_fit(method(logits, of["label"].to_numpy(), **m.params["parameters"]))

    if m.params.get("members") == "before":
        parts = [
            rows.filter(pc.equal(rows["measurement_id"], key)) for key in m.params["predictions"]
        ]
        models = [part["model_id"][0].as_py() for part in parts]
        fit = _together([fitted(part) for part in parts], models, m.params["vote"])
        weights = None if inputs.weights is None else sha256(inputs.weights)
    else:
        fit = fitted(rows)
        weights = rows["weights_sha256"][0].as_py()
    columns = {
        "method": name,
        "temperature": fit.temperature,
        "fitted_on": rows["split"][0].as_py(),
        "nll_before": fit.nll_before,
        "nll_after": fit.nll_after,
        "at_bound": fit.at_bound,
        "parameters_json": None if fit.parameters is None else json.dumps(fit.parameters),
        "why": fit.why,
    }
    return Output({"calibration": table("calibration", job.keys(weights), None, columns, n=1)})


def _as_fit(made: Any) -> Fit:
    """What a method gives, a user's own too, whose fit may be of before there was more to say."""
    later: dict[str, Any] = {
        name: getattr(made, name, default) for name, default in Fit._field_defaults.items()
    }
    return Fit(made.temperature, made.nll_before, made.nll_after, **later)


def _together(fits: list[Fit], models: list[str], vote: str) -> Fit:
    """The fits of an ensemble's members as one; not defined where one of them is not."""
    whys = [f"member {i}: {fit.why}" for i, fit in enumerate(fits) if fit.why]
    before = float(np.mean([fit.nll_before for fit in fits]))
    after = [fit.nll_after for fit in fits if fit.nll_after is not None]
    defined = len(after) == len(fits)
    parameters = {
        "map": "members",
        "vote": vote,
        "models": models,
        "fits": [{"temperature": f.temperature, "parameters": f.parameters} for f in fits],
    }
    return Fit(
        None,
        before,
        float(np.mean(after)) if defined else None,
        at_bound=any(fit.at_bound for fit in fits),
        parameters=parameters if defined else None,
        why="; ".join(whys) or None,
    )
