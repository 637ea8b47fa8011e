"""Options that several commands share, and the settings that they give."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robsweep.orchestrator.settings import Settings

File = Annotated[Path, typer.Argument(help="Sweep file (YAML).")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="In place of what the file says, e.g. trainings.fgsm.eps=0.2; may be repeated.",
    ),
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Store folder [ROBSWEEP_STORE, else ./results].")
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Data sets [ROBSWEEP_DATA_DIR, else ./data].")
]
NetsDir = Annotated[
    str | None, typer.Option("--nets-dir", help="Imported weights [ROBSWEEP_NETS_DIR].")
]
Address = Annotated[
    str | None,
    typer.Option(help="local, auto, inline or HOST:PORT [ROBSWEEP_ADDRESS, else local]."),
]


def settings_of(
    store: str | None = None,
    data_dir: str | None = None,
    nets_dir: str | None = None,
    address: str | None = None,
) -> "Settings":
    from robsweep.orchestrator.settings import Settings

    return Settings.read(store, data_dir, nets_dir, address)
