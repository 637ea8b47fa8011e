"""The command that measures one existing model."""

import sys
from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import Address, DataDir, NetsDir, StoreOption, settings_of

one = typer.Typer()


@one.command("eval")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="Name of a net or model, package.module:function or FILE.onnx."),
    ],
    dataset: Annotated[str, typer.Option(help="Data set, or npz:FILE.")],
    weights: Annotated[
        str | None, typer.Option(help="FILE.safetensors, FILE.pt or a URL of one.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Of the weights; a URL needs it.")] = None,
    net: Annotated[
        str | None, typer.Option(help="A published network, for another architecture than its own.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Of an npz:FILE whose last classes have no sample.")
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[
        list[str] | None,
        typer.Option(help="Radius [0.1]; may be repeated, may be 8/255. Pixels are 0 to 1."),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Test samples to attack.")] = None,
    verify: Annotated[int, typer.Option(min=0, help="Test samples to verify.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Seconds per verified sample.")] = 60.0,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
) -> None:
    """Attack, calibrate and verify one existing model at once.

    Attacks: LinfPGD, LinfFastGradient and apgd_targeted, or for --norm l2 L2PGD, L2DeepFool and
    apgd_targeted, on the whole test split without --samples. A sweep file chooses freely.
    """
    from robsweep.orchestrator.cli.outcome import run_and_tell
    from robsweep.orchestrator.spec.one_model import spec_for

    spec = spec_for(
        model,
        dataset,
        weights,
        norm,
        eps or ["0.1"],
        samples,
        verify,
        time_limit,
        net=net,
        sha256=sha256,
        classes=classes,
    )
    if spec.models["model"].weights is None:
        print("no --weights: the model is measured as its function returns it", file=sys.stderr)
    print(f"sweep {spec.name}: robsweep show {spec.name} --table attacks", file=sys.stderr)
    run_and_tell(spec, settings_of(store, data_dir, nets_dir, address))
