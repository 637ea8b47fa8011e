"""The command line: parse, call, print. stdout carries data, stderr progress and messages."""

import sys
from typing import Annotated

import typer

from robsweep.orchestrator.cli.data import data
from robsweep.orchestrator.cli.evaluate import one
from robsweep.orchestrator.cli.keep import keep
from robsweep.orchestrator.cli.look import look
from robsweep.orchestrator.cli.proofs import proofs
from robsweep.orchestrator.cli.sweep import sweep
from robsweep.orchestrator.cli.write import write

app = typer.Typer(
    help="Robustness sweeps: attacks, OOD detection, calibration and formal verification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (write, sweep, one, look, proofs, keep):
    app.add_typer(group)
app.add_typer(data, name="data")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"robsweep {version('robsweep')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it, and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: wrong input ends with one message and exit code 2, contradictions with 3."""
    from robsweep.tasks.errors import InputError, RobsweepError

    try:
        app()
    except OSError as error:
        print(f"robsweep: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except InputError as error:
        print(f"robsweep: {error}", file=sys.stderr)
        sys.exit(2)
    except RobsweepError as error:
        from robsweep.orchestrator.errors import ContradictionError

        print(f"robsweep: {error}", file=sys.stderr)
        sys.exit(3 if isinstance(error, ContradictionError) else 1)
