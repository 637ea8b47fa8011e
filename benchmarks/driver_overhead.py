"""What the driver adds to a job: 20,000 no-op jobs through the Ray executor, and bare Ray tasks.

    python benchmarks/driver_overhead.py [--jobs 20000]

Both keep the same window of tasks in flight. The driver's side includes cutting the jobs, their
rows of the jobs table, and the batched parts and log entries on disk.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from robsweep.orchestrator.plan.plan import Plan, Planned
from robsweep.orchestrator.run import ray_executor
from robsweep.orchestrator.run.drive import WINDOW, Options, drive
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.spec.spec import ResourceSpec
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Writer
from robsweep.tasks.job import Inputs, Job, Measurement, ModelRef, Output, Setting


def nothing(_: Job, __: Inputs) -> Output:
    """The no-op job."""
    return Output({})


ray = ray_executor.ray


@ray.remote(num_cpus=1, max_retries=0, enable_task_events=False)
def _bare(_: int) -> None:
    return None


def bare_loop(jobs: int) -> float:
    """Seconds for a plain Ray loop with the driver's window, waiting for tasks in batches."""
    start = time.perf_counter()
    running: set[ray.ObjectRef] = set()
    submitted = 0
    while submitted < jobs or running:
        while submitted < jobs and len(running) < WINDOW:
            running.add(_bare.remote(submitted))
            submitted += 1
        ready, _ = ray.wait(
            list(running), num_returns=max(1, len(running) // 8), timeout=0.02, fetch_local=False
        )
        ray.get(ready)
        running.difference_update(ready)
    return time.perf_counter() - start


def noop_plan(jobs: int, name: str) -> Plan:
    """One measurement whose every sample is a job."""
    ref = ModelRef("import-0", "mlp", {}, (1, 8, 8), 10)
    measurement = Measurement(f"predict-{name}", "predict", "clean", {}, ref, "digits", "test", 0)
    setting = Setting(".", import_paths=(str(Path(__file__).parent),))
    planned = Planned(
        measurement, "clean", "clean", "mlp", None, ((0, jobs),), jobs, 1, 1, (), setting,
        ResourceSpec(),
    )  # fmt: skip
    return Plan(f"noop{name}", {measurement.measurement_id: planned}, ())


def through_the_driver(jobs: int, name: str) -> float:
    """Seconds for the same number of no-op jobs through plan, driver, executor and store."""
    plan = noop_plan(jobs, name)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store")
        writer = Writer(store, plan.name)
        executor = ray_executor.RayExecutor({})
        reader = InputReader(plan, store, writer.snapshot)
        start = time.perf_counter()
        options = Options(runner=f"{Path(__file__).stem}:nothing")
        summary = drive(plan, writer, executor, reader, [], options=options)
        seconds = time.perf_counter() - start
        assert summary.jobs == jobs
        assert not summary.failures
        recorded = sum(part.rows for part in store.snapshot().parts("jobs"))
        assert recorded == jobs, f"{recorded} rows for {jobs} jobs"
    return seconds


def memory() -> float:
    """Peak resident memory of the driver in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=3)
    jobs = (arguments := parser.parse_args()).jobs
    ray_executor.connect("local")
    bare_loop(2000)
    through_the_driver(2000, "warm")
    at_start = memory()
    for pair in range(arguments.pairs):
        bare, driven = bare_loop(jobs), through_the_driver(jobs, str(pair))
        print(
            f"bare {1000 * bare / jobs:.3f} ms a job, driver {1000 * driven / jobs:.3f} ms, "
            f"added {1000 * (driven - bare) / jobs:+.3f} ms; "
            f"driver memory +{memory() - at_start:.0f} MB since the warm-up",
            flush=True,
        )


if __name__ == "__main__":
    main()
