"""What the program says of itself."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FIRST = [
    "plan", "run", "eval", "status", "retry", "show", "explain", "list", "verify", "recheck",
    "check", "compact", "delete", "init", "schema", "data", "dash",
]  # fmt: skip


def test_its_version_is_the_projects(robsweep):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert robsweep("--version") == (0, f"robsweep {project['version']}\n", "")


def test_help_names_every_command(robsweep):
    code, out, _ = robsweep("--help")
    assert code == 0
    for command in FIRST:
        assert f"\n  {command} " in out, command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell):
    """In a process of its own, as shells do it, and without loading what commands need."""
    words = {"COMP_WORDS": "robsweep run --dry", "COMP_CWORD": "2"}
    words |= {
        "_TYPER_COMPLETE_ARGS": "robsweep run --dry",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    code = "import sys; sys.argv[0] = 'robsweep'\n"
    code += "from robsweep.orchestrator.cli.main import main\n"
    code += "try: main()\n"
    code += "finally: print(*(n for n in ('numpy', 'polars', 'torch', 'ray') if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words, "_ROBSWEEP_COMPLETE": f"complete_{shell}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--dry-run" in done.stdout, done.stderr
    assert "numpy" not in done.stdout
