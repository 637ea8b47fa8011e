"""A run of a sweep from the command line, and what is said when it ends."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

import typer

if TYPE_CHECKING:
    from robsweep.orchestrator.run.drive import Summary
    from robsweep.orchestrator.settings import Settings
    from robsweep.orchestrator.spec.fields import Rerun
    from robsweep.orchestrator.spec.spec import SweepSpec


def checked(only: list[str], rerun: str | None) -> "tuple[frozenset[str], Rerun | None]":
    """The options `--only` and `--rerun`, held against what there is.

    Raises:
        InputError: There is no such kind or policy.
    """
    from robsweep.orchestrator.errors import InputError
    from robsweep.orchestrator.spec.fields import Rerun
    from robsweep.orchestrator.spec.yaml_file import did_you_mean
    from robsweep.tasks.catalogue import KINDS

    for kind in only:
        if kind not in KINDS:
            raise InputError(f"--only {kind!r}{did_you_mean(kind, KINDS)}")
    policies = {name: name for name in get_args(Rerun)}
    if rerun is not None and rerun not in policies:
        raise InputError(f"--rerun {rerun!r}{did_you_mean(rerun, policies)}")
    return frozenset(only), None if rerun is None else policies[rerun]


def run_and_tell(
    spec: "SweepSpec",
    settings: "Settings",
    *,
    only: frozenset[str] = frozenset(),
    limit: int | None = None,
    fail_fast: bool = False,
    again: frozenset[str] = frozenset(),
    rerun: "Rerun | None" = None,
) -> NoReturn:
    """Runs what is missing, prints the leaderboard, and ends with the exit code that fits.

    Raises:
        ContradictionError: Results contradict each other.
    """
    from robsweep.orchestrator.errors import ContradictionError
    from robsweep.orchestrator.results import report
    from robsweep.orchestrator.results.metrics.attacks import FEW
    from robsweep.orchestrator.results.results import Results
    from robsweep.orchestrator.run import session
    from robsweep.orchestrator.run.drive import Options

    options = Options(retry=again, rerun=rerun, limit=limit, fail_fast=fail_fast)
    try:
        summary = session.run(spec, settings, options, only)
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
        crossed = (alarms["verified_by"] == "cross_check") | (alarms["broken_by"] == "cross_check")
        wrong = "two engines disagree" if crossed.any() else "a proof or an attack is wrong"
        raise ContradictionError(
            f"{alarms.n_unique(['model_id', 'norm', 'sample'])} samples are proved robust and yet "
            f"broken: {wrong}\n{report.render(alarms, 'text')}"
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
