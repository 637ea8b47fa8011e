"""Certificates of single instances, as files."""

import sys
from collections.abc import Mapping
from pathlib import Path

from robsweep.orchestrator.errors import InputError

Files = str | Mapping[str, str]


def write(networks: Files, vnnlib: str, time_limit: float | None, file: Path) -> None:
    """Writes a proof of what was answered `unsat`, or says on stderr why there is none."""
    from robsweep.tasks.verification.proofs.instance import certificates_of

    found = certificates_of(networks, vnnlib, time_limit)
    if found.content is None:
        print(f"robsweep: {vnnlib}: no certificate: {found.why}", file=sys.stderr)
        return
    file.write_bytes(found.content)
    print(f"robsweep: {file}: {len(found.content)} bytes", file=sys.stderr)


def checked(networks: Files, vnnlib: str, file: Path, aptp: Path | None = None) -> str:
    """What the second program says of a proof that it accepts.

    Args:
        aptp: A folder, to which its trees are written as activation pattern tree proofs.

    Raises:
        InputError: It refuses it, there is no such file, or APTP has no words for it.
    """
    from robsweep.tasks.verification.proofs.instance import as_aptp
    from robsweep.tasks.verification.proofs.instance import checked as check

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    found = check(networks, vnnlib, content)
    if not found.accepted:
        raise InputError(f"{file}: refused: {found.why}")
    if aptp is not None:
        texts = as_aptp(networks, vnnlib, content)
        aptp.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (aptp / name).write_text(text)
    parts = f"{found.leaves} {'leaf' if found.leaves == 1 else 'leaves'}"
    return f"accepted: {parts}, in {found.why}, {found.seconds:.2f} s"
