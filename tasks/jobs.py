"""Runs any job: the one function that executors call."""

from collections.abc import Callable
from dataclasses import replace

import torch

from robsweep.tasks.attacks.job import attack
from robsweep.tasks.calibration.job import calibrate
from robsweep.tasks.catalogue import VERIFIERS
from robsweep.tasks.catalogue.own_code import importable
from robsweep.tasks.catalogue.resolve import resolve
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.landscape.job import landscape
from robsweep.tasks.models.assemble import assemble
from robsweep.tasks.models.load import forget_all
from robsweep.tasks.ood.features_job import features
from robsweep.tasks.ood.fit_job import fit
from robsweep.tasks.ood.job import score
from robsweep.tasks.own_functions import all_kept, importing
from robsweep.tasks.predict import predict
from robsweep.tasks.preflight.job import preflight
from robsweep.tasks.sensitivity.job import sensitivity
from robsweep.tasks.training.job import train


def screen(job: Job, inputs: Inputs) -> Output:
    path = VERIFIERS[job.measurement.params["verifier"]].screen
    output: Output = resolve(path, "verifier")(job, inputs)
    return output


def solve(job: Job, inputs: Inputs) -> Output:
    path = VERIFIERS[job.measurement.params["verifier"]].solve
    assert path is not None, "nothing plans solves of a verifier that has none"
    output: Output = resolve(path, "verifier")(job, inputs)
    return output


JOBS: dict[str, Callable[[Job, Inputs], Output]] = {
    "preflight": preflight,
    "train": train,
    "ensemble": assemble,
    "predict": predict,
    "attack": attack,
    "features": features,
    "fit": fit,
    "score": score,
    "calibrate": calibrate,
    "screen": screen,
    "solve": solve,
    "sensitivity": sensitivity,
    "landscape": landscape,
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
