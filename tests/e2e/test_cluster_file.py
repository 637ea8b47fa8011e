"""The cluster file is valid, as far as that can be told offline."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config():
    pytest.importorskip("ray")
    from ray.autoscaler._private.util import prepare_config, validate_config

    raw = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    prepared = prepare_config(raw)
    validate_config(prepared)
    return prepared


def test_the_head_is_cpu_only_and_runs_no_jobs(config):
    assert config["head_node_type"] == "head"
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_workers_have_several_gpus_and_scale_from_zero(config):
    worker = config["available_node_types"]["gpu_worker"]
    assert worker["node_config"]["InstanceType"] == "g5.12xlarge"
    assert worker["min_workers"] == 0 < worker["max_workers"] <= config["max_workers"]


def test_every_start_of_ray_asks_for_a_token_and_stays_off_the_network(config):
    for where in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config[where] if "ray start" in command]
        assert starts
        assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert any("--dashboard-host=127.0.0.1" in c for c in config["head_start_ray_commands"])


def test_what_the_commands_name_is_mounted(config):
    assert set(config["file_mounts"]) == {"~/robsweep", "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    for name in ("pyproject.toml", "constraints.txt", "sweeps/mnist.yaml"):
        assert (ROOT / name).is_file()
