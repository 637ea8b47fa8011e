"""Runs jobs as Ray tasks, on this machine or a cluster."""

import os
import pickle
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import robsweep
from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.run.work import Outcome, Run, Workplace, work
from robsweep.orchestrator.spec.spec import ResourceSpec
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.job import Inputs, Job

# Set before ray is imported: it reads them then.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default

import ray
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import RayError, TaskCancelledError
from ray.job_config import JobConfig


def connect(address: str) -> None:
    """Joins a cluster, or starts one on this machine.

    Args:
        address: `local` (start one here), `auto` (the one this machine is in), or `host:port`.

    Raises:
        InputError: There is no such cluster.
    """
    if address == "local":
        if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in os.environ:
            # One run, one token, in memory only: Ray would write one for all to read.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="WARNING",
            job_config=_job_config(),
        )
        return
    try:
        _knock(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="WARNING",
            job_config=_job_config(),
        )
    except (OSError, ValueError, RuntimeError, RayError) as error:
        reason = str(error).strip().partition("\n")[0].removesuffix(".")
        raise InputError(
            f"no Ray cluster at {address!r} ({reason}): start one, or use --address local"
        ) from error


def _knock(address: str) -> None:
    """Whether somebody listens: Ray itself tries for minutes, and then ends the process.

    Raises:
        OSError: Nobody does.
        ValueError: That is no address.
    """
    if "://" in address:
        return
    place = canonicalize_bootstrap_address(address)
    host, _, port = str(place).rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


_KNOCK_SECONDS = 10.0


class _Only(list[str]):
    """A list that Ray cannot put the working folder into."""

    def extend(self, _: object) -> None:
        pass


def _job_config() -> JobConfig:
    """Workers import robsweep from where it is here, whatever lies in the working folder."""
    here = str(Path.cwd())
    folders = [str(Path(robsweep.__file__).parents[1]), *([here] if here in sys.path else [])]
    return JobConfig(_py_driver_sys_path=_Only(folders))


_COUNT_EVERY_SECONDS = 5.0
_ELASTIC_SLOTS = 64  # so many jobs are asked for at least, for a small cluster to see why to grow


class RayExecutor:
    """Ray tasks behind the executor protocol; `connect` first.

    An `elastic` cluster may grow when more is asked of it than it has: its size is looked at again
    and again, and no wish is refused.
    """

    def __init__(self, resources: Mapping[str, ResourceSpec], *, elastic: bool = False) -> None:
        self._elastic = elastic
        self._counted = -_COUNT_EVERY_SECONDS
        self._slots = 1
        self._remotes = {kind: self._remote(kind, resources.get(kind)) for kind in KINDS}
        self._running: dict[ray.ObjectRef, Job] = {}
        self._shared: dict[str, ray.ObjectRef] = {}  # weights: once per node, not per job
        self._heads: dict[tuple[int, int], tuple[Any, Any, bytes]] = {}

    @property
    def slots(self) -> int:
        now = time.monotonic()
        if now - self._counted > _COUNT_EVERY_SECONDS:
            self._counted = now
            cpus = int(ray.cluster_resources().get("CPU", 0))
            self._slots = max(cpus, _ELASTIC_SLOTS if self._elastic else 1)
        return self._slots

    def submit(self, job: Job, inputs: Inputs, place: Workplace) -> None:
        remote = self._remotes[job.measurement.kind]
        head = self._head(job, place)
        m = job.measurement
        # a training that starts from weights has those of another model
        weights = self._share(m.params.get("start", m.model.model_id), inputs.weights)
        members = [
            self._share(member.model_id, content)
            for member, content in zip(job.setting.members, inputs.members, strict=True)
        ]
        fit = self._share(m.params.get("detector_fit", m.params.get("fit", "")), inputs.fit)
        slice_of = (head, job.start, job.stop, job.attempt)
        ref = remote.remote(*slice_of, weights, inputs.rows, fit, inputs.images, *members)
        self._running[ref] = job

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        if not self._running:
            return []
        refs = list(self._running)
        ready, _ = ray.wait(refs, num_returns=1, timeout=timeout, fetch_local=False)
        if ready and len(refs) > 8:  # whatever else has ended by now, in one go
            count = max(1, len(refs) // 8)
            ready, _ = ray.wait(refs, num_returns=count, timeout=0.02, fetch_local=False)
        try:
            outcomes: list[Outcome] = ray.get(ready)
        except RayError:
            outcomes = [_outcome(ref) for ref in ready]
        return [(self._running.pop(ref), out) for ref, out in zip(ready, outcomes, strict=True)]

    def close(self) -> None:
        for ref in self._running:
            ray.cancel(ref, force=True)
        self._running.clear()
        ray.shutdown()

    def _remote(self, kind: str, spec: ResourceSpec | None) -> Any:
        spec = spec or ResourceSpec()
        cpus = KINDS[kind].num_cpus if spec.num_cpus is None else spec.num_cpus
        if not self._elastic:
            total = ray.cluster_resources()
            cpus = min(cpus, total.get("CPU", 1))  # threads stay: a small machine takes longer
            for name, wish in (("GPU", spec.num_gpus), ("memory", spec.memory or 0)):
                if wish > total.get(name, 0):
                    raise InputError(
                        f"resources.{kind} asks for {wish:g} of {name}, this machine has "
                        f"{total.get(name, 0):g}: ask for less, or use a cluster"
                    )
        run: Run = work
        if kind == "train" and spec.workers > 1:
            if not self._elastic and spec.workers * cpus > ray.cluster_resources().get("CPU", 1):
                raise InputError(
                    f"resources.train asks for {spec.workers} workers of {cpus:g} CPUs, this "
                    f"machine has {ray.cluster_resources().get('CPU', 1):g}: ask for less, or use "
                    "a cluster"
                )
            from robsweep.orchestrator.run.ray_train import together

            run = together(spec.workers, cpus, spec.num_gpus, spec.memory)
            spec, cpus = spec.model_copy(update={"num_gpus": 0, "memory": None}), 0
        options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": spec.num_gpus,
            "max_retries": 0,  # the driver counts attempts: Ray's own retries can be endless
            "max_calls": 0,  # keep GPU workers: they hold loaded models
            "enable_task_events": False,
        }
        if spec.memory is not None:
            options["memory"] = spec.memory
        return ray.remote(**options)(_runner(run))

    def _head(self, job: Job, place: Workplace) -> bytes:
        """What all jobs of a measurement share, pickled once."""
        key = (id(job.measurement), id(job.setting))
        cached = self._heads.get(key)
        if cached is None or cached[1] is not place:
            if len(self._heads) > 4096:
                self._heads.clear()
            head = pickle.dumps((job.measurement, job.setting, place))
            self._heads[key] = cached = (job, place, head)  # the job keeps the ids alive
        return cached[2]

    def _share(self, model_id: str, weights: bytes | None) -> "ray.ObjectRef | None":
        if weights is None:
            return None
        if model_id not in self._shared:
            if len(self._shared) >= 256:
                self._shared.clear()
            self._shared[model_id] = ray.put(weights)
        return self._shared[model_id]


def _runner(run: Run) -> Callable[..., Outcome]:
    def _run(
        head: bytes,
        start: int,
        stop: int,
        attempt: int,
        weights: bytes | None,
        rows: Any,
        fit: bytes | None,
        images: bytes | None,
        *members: bytes | None,
    ) -> Outcome:
        measurement, setting, place = _unpickled(head)
        inputs = Inputs(weights, rows, members, fit, images)
        return run(Job(measurement, start, stop, setting, attempt), inputs, place)

    return _run


@lru_cache(maxsize=64)
def _unpickled(head: bytes) -> Any:
    return pickle.loads(head)  # from our own driver


def _outcome(ref: "ray.ObjectRef") -> Outcome:
    try:
        outcome: Outcome = ray.get(ref)
    except TaskCancelledError as error:
        return Outcome("failed", 0.0, datetime.now(UTC), error=f"cancelled: {error}")
    except RayError as error:
        return Outcome("died", 0.0, datetime.now(UTC), error=f"{type(error).__name__}: {error}")
    return outcome
