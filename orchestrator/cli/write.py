"""Commands that help to write sweep files."""

import sys
from pathlib import Path
from typing import Annotated

import typer

write = typer.Typer()


@write.command()
def init(
    dataset: Annotated[str, typer.Option(help="Data set, or npz:FILE.")],
    file: Annotated[Path, typer.Argument(help="Sweep file to write.")] = Path("sweep.yaml"),
    name: Annotated[
        str | None, typer.Option(help="Of the sweep [the file's name without .yaml].")
    ] = None,
) -> None:
    """Write a commented starter sweep for a data set; it runs as it is."""
    from robsweep.orchestrator.errors import InputError
    from robsweep.orchestrator.spec import sweep_file
    from robsweep.orchestrator.spec.datasets import dataset_named
    from robsweep.orchestrator.spec.starter import starter
    from robsweep.orchestrator.spec.yaml_file import parse

    folder = file.resolve().parent
    text = starter(name or file.stem, dataset, dataset_named(dataset, folder))
    sweep_file.from_document(parse(text, str(file)), folder)
    try:
        with file.open("x") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError(f"{file} is there already: name another file") from None
    print(f"wrote {file}; next: robsweep plan {file}", file=sys.stderr)


@write.command()
def schema() -> None:
    """Print a JSON schema of sweep files, for editors and checks."""
    import json

    from robsweep.orchestrator.spec.schema.document import schema as schema_of

    print(json.dumps(schema_of(), indent=1))
