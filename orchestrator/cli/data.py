"""Commands about public data sets."""

from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import DataDir, settings_of

data = typer.Typer(help="Public data sets.", no_args_is_help=True)


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="e.g. mnist; `robsweep list datasets` has them.")],
    data_dir: DataDir = None,
) -> None:
    """Download a public data set; files, or the archive they come in, are checked by SHA-256."""
    from robsweep.tasks.data.fetch import fetch as fetch_data

    folder = settings_of(data_dir=data_dir).data_dir
    fetch_data(name, str(folder))
    print(f"{name} is in {folder}")
