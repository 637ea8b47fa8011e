"""`robsweep-vnnlib`: the command that VNN-LIB's standard asks of a solver.

Results are on stdout, anything else on stderr. Exit codes: 0 with an answer, 1 where something is
wrong with a file, 2 with the command itself.
Source: VNN-LIB Standard 2.0, chapter "Solver Command-line Interface".
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robsweep.orchestrator.cli import certified
from robsweep.orchestrator.errors import InputError
from robsweep.tasks.catalogue.code.install import how_to_install

if TYPE_CHECKING:
    from robsweep.tasks.verification.instance import Outcome

# The standard has this one in two ways.
_ALSO = {"multiple-inputs-output-theories": "multiple-input-output-theories"}
_ANSWERS = {"sat": "sat", "unsat": "unsat", "unknown": "unknown", "timeout": "timed-out"}
CAPABILITIES = (
    "onnx-opset-versions",
    "onnx-element-types",
    "onnx-operators",
    "onnx-operators-unsat-proofs",
    "vnnlib-versions",
    "hidden-node-theories",
    "multiple-input-output-theories",
    "multiple-network-theories",
    "multiple-node-comparison-theories",
    "arithmetic-complexity-theories",
    "optimised-disjunctive-reasoning",
    "serialise-assignments",
    "unsat-proofs",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Answers one command; its exit code."""
    from robsweep.tasks.errors import RobsweepError

    given = list(arguments)
    if given[:1] == ["supports"]:  # a capability is written with dashes, as if it were an option
        names = [one.removeprefix("--") for one in given[1:] if one != "--help"]
        given[1:] = [_ALSO.get(one, one) for one in names] or ["--help"]
    asked = _parser().parse_args(given)
    try:
        if asked.command == "supports":
            lines = supported(asked.capability)
            sys.stdout.write("".join(f"{line}\n" for line in lines))
        else:
            sys.stdout.write(_verified(asked))
    except (RobsweepError, InputError, OSError) as error:
        print(f"robsweep-vnnlib: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("robsweep-vnnlib", allow_abbrev=False)
    parser.add_argument("--name", action="version", version="robsweep")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="decide a query", allow_abbrev=False)
    verify.add_argument("query", metavar="QUERY.vnnlib")
    verify.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="the file of a network of the query; once for each",
    )
    verify.add_argument("--timeout", type=float, metavar="SECONDS")
    verify.add_argument(
        "--serialise-assignments",
        type=Path,
        metavar="FOLDER",
        help="write what satisfies the query there, a TensorProto for each variable",
    )
    verify.add_argument(
        "--witness", type=Path, metavar="FILE", help="write it there too, as VNN-COMP does"
    )
    verify.add_argument(
        "--certificate", type=Path, metavar="FILE", help="write a proof of unsat there"
    )
    verify.add_argument("--solver", default="scip", help="of mixed-integer programs")
    supports = commands.add_parser("supports", help="say what can be decided")
    supports.add_argument("capability", choices=CAPABILITIES)
    return parser


def _version() -> str:
    try:
        return version("robsweep")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"


def _verified(asked: argparse.Namespace) -> str:
    from robsweep.tasks.verification.instance import verify

    files: dict[str, str] = {}
    for one in asked.network:
        name, sign, file = one.partition("=")
        if not sign or not name or not file:
            raise InputError(f"--network {one!r}: must be NAME=FILE")
        if name in files:
            raise InputError(f"--network {name!r} is given twice")
        files[name] = file
    if not files:
        raise InputError("give --network NAME=FILE for each network of the query")
    try:
        outcome = verify(files, asked.query, asked.timeout, asked.solver)
    except MemoryError as error:
        raise InputError(f"{asked.query}: out of memory: {error}") from error
    if outcome.why is not None:
        print(f"robsweep-vnnlib: {asked.query}: {outcome.why}", file=sys.stderr)
    if asked.certificate is not None and outcome.answer == "unsat":
        certified.write(files, asked.query, asked.timeout, asked.certificate)
    return f"{_ANSWERS[outcome.answer]}\n" + _witness(asked, outcome)


def _witness(asked: argparse.Namespace, outcome: "Outcome") -> str:
    """Writes what was found to where it was asked for; what is to be printed of it."""
    found = outcome.counterexample
    if found is None:
        return ""
    if asked.witness is not None:
        asked.witness.write_text(found.text())
    if asked.serialise_assignments is None:
        return found.assignment()
    asked.serialise_assignments.mkdir(parents=True, exist_ok=True)
    for name, content in found.tensors().items():
        (asked.serialise_assignments / f"{name}.pb").write_bytes(content)
    return ""


def supported(capability: str) -> list[str]:
    """The lines that answer a capability, without its dashes.

    Raises:
        InputError: onnx is not installed.
    """
    from robsweep.tasks.catalogue.onnx_operators import BOUNDED, EXACT, FOLDED

    answers: dict[str, Any] = {
        "onnx-element-types": ["float32", "float64", "real"],
        "onnx-operators": sorted(EXACT | BOUNDED | FOLDED),
        "onnx-operators-unsat-proofs": [],
        "vnnlib-versions": ["1.0", "2.0"],
        "hidden-node-theories": ["NH", "H"],
        "multiple-input-output-theories": ["SIO", "MIO"],
        "multiple-network-theories": ["SNET", "MENET", "MINET", "MNET"],
        "multiple-node-comparison-theories": ["SNC", "MNC"],
        "arithmetic-complexity-theories": ["BND", "OUTC", "LIN"],
        "optimised-disjunctive-reasoning": ["false"],  # disjunctive normal form
        "serialise-assignments": ["true"],
        "unsat-proofs": ["false"],
    }
    if capability != "onnx-opset-versions":
        return list(answers[capability])
    try:
        from onnx import defs
    except ImportError:
        raise InputError(f"onnx is not installed: {how_to_install('verification')}") from None
    return ["7", str(defs.onnx_opset_version())]


if __name__ == "__main__":
    main()
