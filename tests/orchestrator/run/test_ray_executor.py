"""What reaches a worker, without a cluster."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pyarrow as pa
import pytest

from robsweep.tasks.job import Inputs, Job, Measurement, ModelRef, Setting

pytest.importorskip("ray")


def test_a_job_has_all_its_inputs_on_a_worker(monkeypatch):
    from robsweep.orchestrator.run import ray_executor

    seen = []
    run = ray_executor._runner(lambda job, inputs, place: seen.append((job, inputs, place)))
    executor = object.__new__(ray_executor.RayExecutor)
    executor._remotes = {"score": SimpleNamespace(remote=run)}
    executor._running, executor._shared, executor._heads = {}, {}, {}
    monkeypatch.setattr(ray_executor.ray, "put", lambda content: content)
    ref = ModelRef("train-0", "mlp", {}, (1, 8, 8), 10)
    measurement = Measurement("score-0", "score", "knn", {"fit": "fit-0"}, ref, "digits", "test", 0)
    job = Job(measurement, 0, 5, Setting("", members=(replace(ref, model_id="train-1"),)))
    given = Inputs(b"weights", pa.table({"sample": [0]}), (b"member",), b"fit", b"images")
    assert all(getattr(given, field.name) for field in fields(given))  # so that none is overlooked
    executor.submit(job, given, None)
    ((there, inputs, place),) = seen
    assert (there.measurement, there.setting, there.start, there.stop) == (
        measurement, job.setting, 0, 5,
    )  # fmt: skip
    assert (inputs, place) == (given, None)
