"""Jobs on the digits."""

from typing import Any

from robsweep.tasks.catalogue import KINDS, TRAININGS
from robsweep.tasks.job import Job, Measurement, ModelRef, Setting

MLP = ModelRef("m", "mlp", {"hidden": (32,)}, (1, 8, 8), 10)
NO_FILES = Setting(data_dir="/nowhere")


def job_of(
    kind: str,
    params: dict[str, Any],
    start: int = 0,
    stop: int = 1,
    *,
    model: ModelRef = MLP,
    dataset: str = "digits",
    split: str = "test",
    seed: int | None = 0,
    setting: Setting = NO_FILES,
) -> Job:
    size = {"group_size": KINDS[kind].group_size, "seed": 0} if KINDS[kind].group_size > 1 else {}
    measurement = Measurement(
        f"{kind}-0", kind, "name", {**size, **params}, model, dataset, split, seed
    )
    return Job(measurement, start, stop, setting)


def train_job(
    training: str = "standard",
    seed: int = 0,
    *,
    model: ModelRef = MLP,
    start: str | None = None,
    **parameters: Any,
) -> Job:
    defaults = {k: v for k, v in TRAININGS[training].parameters.items() if not isinstance(v, type)}
    params = {"training": training, "parameters": defaults | parameters}
    return job_of(
        "train", params if start is None else {**params, "start": start}, model=model, seed=seed
    )
