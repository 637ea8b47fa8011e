"""Commands about proofs: single instances, and a sweep's verdicts once more."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from robsweep.orchestrator.cli.options import DataDir, NetsDir, StoreOption, settings_of

proofs = typer.Typer()


@proofs.command()
def recheck(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    sample: Annotated[
        int,
        typer.Option(
            min=0, help="So many proofs, drawn at random, MILPs' first, are derived again."
        ),
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Solver seconds per proof.")] = 60.0,
    every: Annotated[
        bool, typer.Option("--all", help="Check the certificate of each proof that has one.")
    ] = False,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
) -> None:
    """Check verdicts with a second implementation that shares no code with the verifier."""
    # read when numpy is loaded: on matrices this small its threads only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from robsweep.orchestrator.errors import ContradictionError, InputError
    from robsweep.orchestrator.results.results import Results
    from robsweep.orchestrator.run import recheck as again
    from robsweep.tasks.recheck.claims import Budget

    if not 0 < time_limit < float("inf"):
        raise InputError(f"--time-limit must be a positive number of seconds, got {time_limit}")
    settings = settings_of(store, data_dir, nets_dir)
    results, budget = Results.open(settings.store), Budget(sample, seed, time_limit)
    what = again.prepare(results, name, budget, every=every)
    found = []
    for one in again.findings(what, results, name, settings, budget):
        found.append(one)
        if one.what in ("proof", "certificate") or one.outcome != "ok":
            print(f"{again.line(what, one)} ({one.seconds:.1f} s)", file=sys.stderr)
    print(again.summary(what, found, every=every), end="")
    outcomes = {one.outcome for one in found}
    if "wrong" in outcomes:
        raise ContradictionError("some verdicts do not hold: a verdict or this recheck is wrong")
    raise typer.Exit(1 if "open" in outcomes else 0)


@proofs.command()
def verify(
    onnx: Annotated[str | None, typer.Argument(help="Network (ONNX).")] = None,
    vnnlib: Annotated[str | None, typer.Argument(help="Its property (VNN-LIB).")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds; none without it.")] = None,
    solver: Annotated[str, typer.Option(help="scip, highs or gurobi.")] = "scip",
    counterexample: Annotated[
        Path | None, typer.Option(help="Write what was found here, in VNN-COMP's format.")
    ] = None,
    instances: Annotated[
        Path | None, typer.Option(help="CSV of onnx,vnnlib,timeout_seconds instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the verdicts here (CSV).")] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write a proof of `unsat` here, for --check.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Check this proof with the second program instead.")
    ] = None,
    aptp: Annotated[
        Path | None, typer.Option(help="With --check: write its trees to this folder, in APTP.")
    ] = None,
) -> None:
    """Decide whether a network can violate a property: sat, unsat, unknown or timeout."""
    from robsweep.orchestrator.cli import certified
    from robsweep.orchestrator.cli import instances as batch
    from robsweep.orchestrator.errors import InputError

    if (instances is None) == (onnx is None or vnnlib is None) or (instances and onnx):
        raise InputError("give a network and a property, or --instances FILE")
    if instances is not None and (certificate or check):
        raise InputError("--certificate and --check are about one network and property")
    if aptp is not None and check is None:
        raise InputError("--aptp is about a proof: give it with --check FILE")
    if check is not None:
        print(certified.checked(str(onnx), str(vnnlib), check, aptp))
        return
    if instances is None:
        answer = batch.one(str(onnx), str(vnnlib), time_limit, solver, counterexample)
        print(answer, flush=True)
        if certificate is not None and answer == "unsat":
            certified.write(str(onnx), str(vnnlib), time_limit, certificate)
        return
    errors = batch.run(instances, out, solver, print)
    raise typer.Exit(1 if errors else 0)
