"""Runs any job: the one function that executors call."""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import torch

from robsweep.tasks.catalogue import VERIFIERS
from robsweep.tasks.catalogue.code.own_code import importable
from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.catalogue.entries import Question, Verifier
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.models.load import forget_all
from robsweep.tasks.own_functions import all_kept, importing


def _asked(job: Job) -> Verifier | Question:
    """The screen and the solve of a job's question."""
    params = job.measurement.params
    verifier = VERIFIERS[params["verifier"]]
    named = params.get("question")
    return verifier if named is None else verifier.questions[named]


def screen(job: Job, inputs: Inputs) -> Output:
    path = _asked(job).screen
    output: Output = resolve(path, "verifier")(job, inputs)
    return output


def solve(job: Job, inputs: Inputs) -> Output:
    path = _asked(job).solve
    assert path is not None, "nothing plans solves of a verifier that has none"
    output: Output = resolve(path, "verifier")(job, inputs)
    return output


def cross_check(job: Job, inputs: Inputs) -> Output:
    """A solve by another engine than the one that decided, so `decided_by` says so."""
    output = solve(job, inputs)
    rows = output.tables["verification"]
    at = rows.schema.get_field_index("decided_by")
    by = [None if one is None else "cross_check" for one in rows["decided_by"].to_pylist()]
    rows = rows.set_column(at, rows.schema.field(at), pa.array(by, pa.string()))
    return replace(output, tables={**output.tables, "verification": rows})


def _of(path: str) -> Callable[[Job, Inputs], Output]:
    """A job whose module is imported when it first runs: those of a score are few."""

    def call(job: Job, inputs: Inputs) -> Output:
        output: Output = resolve(path, "job")(job, inputs)
        return output

    return call


JOBS: dict[str, Callable[[Job, Inputs], Output]] = {
    "preflight": _of(".preflight.job:preflight"),
    "train": _of(".training.job:train"),
    "ensemble": _of(".models.assemble:assemble"),
    "predict": _of(".predict:predict"),
    "attack": _of(".attacks.job:attack"),
    "features": _of(".ood.features_job:features"),
    "fit": _of(".ood.fit_job:fit"),
    "score": _of(".ood.job:score"),
    "calibrate": _of(".calibration.job:calibrate"),
    "screen": screen,
    "solve": solve,
    "cross_check": cross_check,
    "sensitivity": _of(".sensitivity.job:sensitivity"),
    "landscape": _of(".landscape.job:landscape"),
}


def run(job: Job, inputs: Inputs) -> Output:
    """Runs one job with its number of threads, its import paths and fixed seeds.

    Afterwards all these, and torch's global modes, are what they were before. A model that a user's
    own code has made, or was given, is not kept for later jobs.

    Raises:
        InputError: The measurement names something that is not there or does not fit.
        Exception: Whatever the computation raises; the caller records it as the job's failure.
    """
    if inputs.images is not None:
        job = replace(job, setting=replace(job.setting, images=inputs.images))
    m, setting = job.measurement, job.setting
    with all_kept(), importable(setting.import_paths, setting.code, importing) as own:
        torch.set_num_threads(setting.threads)
        # torch's default would compute in 10-bit mantissas
        torch.backends.cudnn.allow_tf32 = False
        seed_everything(m.seed or 0, m.kind, job.start)
        try:
            return JOBS[m.kind](job, inputs)
        finally:
            if own.used:
                forget_all()
