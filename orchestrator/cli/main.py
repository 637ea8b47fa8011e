"""The command line: parse, call, print. stdout carries data, stderr progress and messages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from robsweep.orchestrator.cli.look import data, look
from robsweep.orchestrator.cli.options import DataDir, NetsDir, StoreOption, settings_of

if TYPE_CHECKING:
    from robsweep.orchestrator.run.drive import Summary
    from robsweep.orchestrator.settings import Settings
    from robsweep.orchestrator.spec.spec import SweepSpec

app = typer.Typer(
    help="Robustness sweeps: attacks, OOD detection, calibration and formal verification.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(look)
app.add_typer(data, name="data")

File = Annotated[Path, typer.Argument(help="Sweep file (YAML).")]
Address = Annotated[
    str | None,
    typer.Option(help="local, auto, inline or HOST:PORT [ROBSWEEP_ADDRESS, else local]."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Run at most so many jobs.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop after the first failed job.")]


@app.command()
def plan(
    file: File, store: StoreOption = None, data_dir: DataDir = None, nets_dir: NetsDir = None
) -> None:
    """Show what would run, what is already done, and the expected cost. Runs nothing."""
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.spec import sweep_file

    rows = session.outlook(sweep_file.load(file), settings_of(store, data_dir, nets_dir))
    print(f"{'kind':<10} {'measurements':>12} {'samples':>9} {'covered':>9} {'expected':>12}")
    for row in rows:
        samples = f"{row.samples}+" if row.kind == "solve" else str(row.samples)
        print(
            f"{row.kind:<10} {row.measurements:>12} {samples:>9} {row.covered:>9} "
            f"{row.expected_seconds:>10.0f} s"
        )
    total = sum(row.expected_seconds for row in rows)
    print(f"about {total:.0f} CPU-seconds of work; what the screen leaves open is solved on top")


@app.command()
def run(
    file: File,
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only these kinds, and what they need.")
    ] = None,
    limit: Limit = None,
    fail_fast: FailFast = False,
    rerun: Annotated[
        str | None,
        typer.Option(
            help="Which past solves to do again: never, ambiguous, refine or always "
            "[what the sweep file says, else ambiguous]."
        ),
    ] = None,
) -> None:
    """Run what a sweep still misses, then print its leaderboard."""
    from robsweep.orchestrator.spec import sweep_file

    spec = sweep_file.load(file)
    settings = settings_of(store, data_dir, nets_dir, address)
    _run(spec, settings, only=only or [], limit=limit, fail_fast=fail_fast, rerun=rerun)


@app.command("eval")
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
    _run(spec, settings_of(store, data_dir, nets_dir, address))


@app.command()
def retry(
    name: Annotated[str, typer.Argument(help="Sweep.")],
    statuses: Annotated[
        str, typer.Option("--status", help="Of failed, timeout, unknown, error.")
    ] = "failed",
    store: StoreOption = None,
    data_dir: DataDir = None,
    nets_dir: NetsDir = None,
    address: Address = None,
) -> None:
    """Run a sweep's failed jobs, or undecided samples, again."""
    from robsweep.orchestrator.errors import InputError
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.spec.yaml_file import did_you_mean
    from robsweep.orchestrator.store.store import Store

    wanted = frozenset(statuses.split(","))
    known = {"failed", "timeout", "unknown", "error"}
    for status_name in wanted - known:
        raise InputError(f"--status {status_name!r}{did_you_mean(status_name, known)}")
    settings = settings_of(store, data_dir, nets_dir, address)
    spec, settings = session.recorded(Store.open(settings.store), name, settings)
    _run(spec, settings, again=wanted)


def _run(
    spec: "SweepSpec",
    settings: "Settings",
    *,
    only: "list[str] | tuple[()]" = (),
    limit: int | None = None,
    fail_fast: bool = False,
    again: frozenset[str] = frozenset(),
    rerun: str | None = None,
) -> None:
    from robsweep.orchestrator.errors import ContradictionError, InputError
    from robsweep.orchestrator.results import report
    from robsweep.orchestrator.results.metrics.attacks import FEW
    from robsweep.orchestrator.results.results import Results
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.run.drive import Options
    from robsweep.orchestrator.spec.fields import Rerun
    from robsweep.orchestrator.spec.yaml_file import did_you_mean
    from robsweep.tasks.catalogue import KINDS

    for kind in only:
        if kind not in KINDS:
            raise InputError(f"--only {kind!r}{did_you_mean(kind, KINDS)}")
    policies = {name: name for name in get_args(Rerun)}
    if rerun is not None and rerun not in policies:
        raise InputError(f"--rerun {rerun!r}{did_you_mean(rerun, policies)}")
    policy = None if rerun is None else policies[rerun]
    options = Options(retry=again, rerun=policy, limit=limit, fail_fast=fail_fast)
    try:
        summary = session.run(spec, settings, options, frozenset(only))
    except KeyboardInterrupt:  # before the first job, when there is nothing to drain
        print("stopped; the same command again goes on from here", file=sys.stderr)
        raise typer.Exit(1) from None
    results = Results.open(settings.store)
    print(report.leaderboard_text(results.leaderboard(spec.name)), end="")
    checks = results.table(spec.name, "honesty")
    if dishonest := checks.filter(checks["status"] == "fail").height:
        table = f"robsweep show {spec.name} --table honesty"
        print(f"{dishonest} honesty checks fail: {table}", file=sys.stderr)
    alarms = results.alarms(spec.name)
    if alarms.height:
        raise ContradictionError(
            f"{alarms.n_unique(['model_id', 'norm', 'sample'])} samples are proved robust and yet "
            f"broken: a proof or an attack is wrong\n{report.render(alarms, 'text')}"
        )
    code = _report(summary, spec.name, settings.store)
    bad = results.failed_checks(spec.name)
    for row in bad.head(5).to_dicts():
        names = [row[key] for key in ("model", "training", "seed") if row[key] is not None]
        at = "" if row["eps"] is None else f" at eps {row['eps']:g}"
        print(
            f"attack {row['attack']!r} on {'/'.join(map(str, names))}{at}: {row['samples']} "
            f"samples failed their check ({row['check']}) and do not count; if they are more than "
            f"{FEW:.0%} of an attack's, it gives no number",
            file=sys.stderr,
        )
    raise typer.Exit(code or int(bad.height > 0))


def _report(summary: "Summary", name: str, store: Path) -> int:
    """Says what is left to do, and with which command; the exit code."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if summary.stopped:
        say("stopped; the same command again goes on from here")
    if summary.failures:
        say(f"{len(summary.failures)} of {summary.jobs} jobs failed; the first ones:")
        for job, error in summary.failures[:5]:
            say(f"  {job.name}  {error}")
    if summary.waiting:
        say(f"{summary.waiting} measurements wait for what failed or was not run")
    if summary.left and not summary.failures and not summary.stopped:
        say(f"{summary.left} samples or models are still missing: robsweep status {name}")
        say(f"failed ones are tried again by: robsweep retry {name} --store {store}")
    if summary.failures:
        first = summary.failures[0][0].name
        say(f"try again: robsweep retry {name} --store {store}")
        say(f"reproduce here: robsweep explain {first} --run --store {store}")
    return 1 if summary.stopped or summary.failures or summary.left else 0


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
