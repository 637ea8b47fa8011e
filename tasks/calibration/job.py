"""The calibrate job."""

import json

import numpy as np

from robsweep.tasks.calibration.fit import Fit
from robsweep.tasks.catalogue import CALIBRATIONS
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.own_functions import function_of
from robsweep.tasks.rows import table


def calibrate(job: Job, inputs: Inputs) -> Output:
    """One `calibration` row, fitted on the clean predictions given as `inputs.rows`.

    Params: method, parameters.
    """
    m = job.measurement
    name = m.params["method"]
    rows = inputs.rows
    if rows is None or not rows.num_rows:
        raise InputError(f"calibration {name!r} of {m.model.model_id} has no predictions to fit")
    logits = np.array(rows["logits"].to_pylist(), dtype=np.float64)
    labels = rows["label"].to_numpy()
    method = function_of(CALIBRATIONS[name].path if name in CALIBRATIONS else name, "calibration")
    fit: Fit = method(logits, labels, **m.params["parameters"])
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
    keys = job.keys(rows["weights_sha256"][0].as_py())
    return Output({"calibration": table("calibration", keys, None, columns, n=1)})
