"""One Ray cluster for all tests of a process that need one: it takes longer to start than they."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """HOST:PORT of a cluster on this machine, which this process and others join."""
    from robsweep.orchestrator.run import ray_executor

    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    ray_executor.connect("local")
    import ray

    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
