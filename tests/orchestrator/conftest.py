"""The command line, called in this process."""

import sys

import pytest

from orchestrator import cli


@pytest.fixture
def robsweep(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a job adds the sweep's folder
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
