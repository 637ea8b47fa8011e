"""Fixtures for all tests: where real data lies, and what a test without it does."""

import os
import sys
from pathlib import Path

import pytest

# Before any test imports ray, which reads it then; the program sets the same.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if value and Path(value).is_dir():
        return Path(value).resolve()
    reason = f"{what} not found: set {variable} to the folder that holds them"
    if os.environ.get("REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real data sets (mnist/, fashion-mnist/, notmnist/)."""
    return _folder("ROBSWEEP_DATA_DIR", "real data sets")


@pytest.fixture(scope="session")
def nets_dir() -> Path:
    """Folder with published networks (*.safetensors)."""
    return _folder("ROBSWEEP_NETS_DIR", "published networks")


@pytest.fixture(scope="session")
def vnncomp_dir() -> Path:
    """Folder with verification instances of known verdicts (instances.csv, *.onnx, *.vnnlib)."""
    return _folder("ROBSWEEP_VNNCOMP_DIR", "verification instances")


@pytest.fixture
def robsweep(tmp_path, monkeypatch, capsys):
    """Runs a command in this process, in a folder of its own: (exit code, stdout, stderr)."""
    from robsweep.orchestrator.cli import main as cli

    monkeypatch.chdir(tmp_path)
    for name in ("STORE", "DATA_DIR", "NETS_DIR"):
        monkeypatch.delenv(f"ROBSWEEP_{name}", raising=False)
    monkeypatch.setenv("ROBSWEEP_ADDRESS", "inline")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["robsweep", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call
