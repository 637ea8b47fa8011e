"""Stand-ins for `tasks.jobs:run` without torch: rows that are a pure function of the sample."""

import hashlib
import os
import time

import numpy as np

from robsweep.orchestrator.run.work import LARGE_BYTES
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.rows import Keys, table

WEIGHTS = b"weights"


def rows(job: Job, inputs: Inputs) -> Output:
    """One row per sample in the table of the job's kind, and its predictions for attacks."""
    kind, keys = job.measurement.kind, job.keys(hashlib.sha256(WEIGHTS).hexdigest())
    samples = np.arange(job.start, job.stop)
    if kind == "train":
        assert inputs.weights == (WEIGHTS if "start" in job.measurement.params else None)
        models = table("models", keys, None, {"model": "m", "arch": "a", "training": "t"}, n=1)
        epochs = table("training", keys, None, {"epoch": [1, 2], "loss": [2.0, 1.0]}, n=2)
        key = f"models/{job.measurement.measurement_id}.safetensors"
        return Output({"models": models, "training": epochs}, {key: WEIGHTS})
    if kind == "ensemble":
        members = job.setting.members
        bring_theirs = [m.weights is None and m.model_id[:7] == "import-" for m in members]
        assert inputs.members == tuple(None if own else WEIGHTS for own in bring_theirs)
        models = table("models", keys, None, {"model": "m", "arch": "ensemble"}, n=1)
        return Output(
            {"models": models}, {f"models/{job.measurement.measurement_id}.safetensors": WEIGHTS}
        )
    if kind == "calibrate":
        assert inputs.rows is not None
        columns = {"method": "temperature", "temperature": float(inputs.rows.num_rows)}
        return Output({"calibration": table("calibration", keys, None, columns, n=1)})
    if kind in {"screen", "solve"}:
        return Output({"verification": _verdicts(job, keys, samples)})
    if kind == "score":
        columns = {"scorer": "energy", "ood_set": None, "score": samples / 7.0}
        return Output({"ood_scores": table("ood_scores", keys, samples, columns)})
    predictions = _predictions(job, keys, samples)
    if kind == "predict":
        return Output({"predictions": predictions})
    columns = {"attack": "LinfPGD", "norm": "linf", "eps": 0.1, "success": samples % 3 == 0}
    return Output(
        {"attacks": table("attacks", keys, samples, columns), "predictions": predictions},
        {f"adversarials/{job.name}.safetensors": samples.tobytes()},
    )


def large_rows(job: Job, inputs: Inputs) -> Output:
    """The same rows; those of attacks come with a file too large to send to the driver."""
    output = rows(job, inputs)
    if job.measurement.kind != "attack":
        return output
    return Output(output.tables, {f"adversarials/{job.name}.safetensors": bytes(LARGE_BYTES)})


def failing_rows(job: Job, inputs: Inputs) -> Output:
    """Attacks on the second group raise."""
    if job.measurement.kind == "attack" and job.start == 250:
        raise ArithmeticError("no luck")
    return rows(job, inputs)


def failing_training(job: Job, inputs: Inputs) -> Output:
    """No model is ever trained."""
    if job.measurement.kind == "train":
        raise ArithmeticError("no luck")
    return rows(job, inputs)


def dying_once(job: Job, inputs: Inputs) -> Output:
    """The first attempt at the second group of an attack kills its worker."""
    if job.measurement.kind == "attack" and job.start == 250 and job.attempt == 1:
        os._exit(1)
    return rows(job, inputs)


def hanging(job: Job, inputs: Inputs) -> Output:
    """Attacks never end by themselves."""
    while job.measurement.kind == "attack":
        time.sleep(0.01)
    return rows(job, inputs)


def nothing(_: Job, __: Inputs) -> Output:
    """No work and no rows."""
    return Output({})


def _predictions(job: Job, keys: Keys, samples: "np.ndarray"):  # type: ignore[no-untyped-def]
    logits = np.outer(samples, np.arange(3)).astype(np.float32)
    columns = {"source": "clean", "label": samples % 3, "logits": logits, "confidence": 0.5}
    return table("predictions", keys, samples, columns, classes=3)


def _verdicts(job: Job, keys: Keys, samples: "np.ndarray"):  # type: ignore[no-untyped-def]
    """A screen leaves every tenth sample open; the solver times out on every twentieth."""
    p = job.measurement.params
    solving = job.measurement.kind == "solve"
    hard = samples % (20 if solving else 10) == 0
    limit = job.setting.time_limit_seconds if solving else None
    columns = {
        "property": p["property"],
        "norm": p["norm"],
        "eps": p["eps"],
        "verdict": np.where(hard, "timeout" if solving else "unknown", "verified").tolist(),
        "expected_seconds": np.where(hard, samples / 10.0, 0.0),
        "time_limit_seconds": limit,
    }
    return table("verification", keys, samples, columns)
