"""Trains one model in several Ray workers at once, each with its share of every batch."""

import tempfile
import traceback
from datetime import UTC, datetime
from typing import Any

from robsweep.orchestrator.run.work import JobTimeoutError, Outcome, Run, Workplace, deadline, work
from robsweep.tasks.job import Inputs, Job


def together(workers: int, num_cpus: float, num_gpus: float, memory: int | None) -> Run:
    """A function that runs a training job in so many workers, each with these resources."""
    resources = {"CPU": num_cpus, "GPU": num_gpus, "memory": float(memory or 0)}

    def run(job: Job, inputs: Inputs, place: Workplace) -> Outcome:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer  # brings torch, which only workers need

        started_at = datetime.now(UTC)
        with tempfile.TemporaryDirectory(prefix="robsweep-train-") as folder:
            trainer = TorchTrainer(
                _one_of_them,
                train_loop_config={"job": job, "inputs": inputs, "place": place},
                scaling_config=ScalingConfig(
                    num_workers=workers,
                    use_gpu=num_gpus > 0,
                    resources_per_worker={name: n for name, n in resources.items() if n},
                ),
                # the driver counts attempts, and a new one goes on from the checkpoint
                run_config=RunConfig(
                    storage_path=folder, failure_config=FailureConfig(max_failures=0)
                ),
            )
            try:
                with deadline(place.deadline_seconds):
                    outcome: Outcome = trainer.fit().return_value
            except JobTimeoutError as error:
                return Outcome("timeout", _since(started_at), started_at, error=str(error))
            except Exception as error:  # noqa: BLE001 (whatever Ray makes of a worker's failure)
                return _failed(error, started_at)
        return outcome

    return run


class _TrainingError(Exception):
    """A worker's failed outcome, as an exception: the others must not wait for its gradients."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def _one_of_them(config: dict[str, Any]) -> Outcome:
    import torch
    from ray.train.torch import get_device

    if torch.cuda.is_available():
        torch.cuda.set_device(get_device())
    outcome = work(config["job"], config["inputs"], config["place"])
    if outcome.status != "done":
        raise _TrainingError(outcome)
    return outcome


def _failed(error: Exception, started_at: datetime) -> Outcome:
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "_base_exc", failure)  # as Ray wraps what a worker raised
        if isinstance(cause, _TrainingError):
            return cause.outcome
    text = "".join(traceback.format_exception(error))
    return Outcome("died", _since(started_at), started_at, error=text)


def _since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
