"""Certificates of one property of ONNX networks: one for each case, in one file."""

import time
import zipfile
import zlib
from io import BytesIO
from typing import NamedTuple

import torch

from robsweep.tasks.certificates import network as certified
from robsweep.tasks.certificates.aptp import exported
from robsweep.tasks.certificates.certificate import RefusedError, decoded
from robsweep.tasks.certificates.check import Checked, check
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.proofs.branching import NotShownError
from robsweep.tasks.verification.proofs.layers import chain_of
from robsweep.tasks.verification.proofs.prove import certified as certificate_of
from robsweep.tasks.verification.proofs.stored import archive
from robsweep.tasks.verification.softmax import of_logits
from robsweep.tasks.verification.system import Files, system_of


class Certificates(NamedTuple):
    content: bytes | None
    why: str | None = None  # there is none


def certificates_of(onnx: Files, vnnlib: str, limit: float | None = None) -> Certificates:
    """Proves a property again, so that others can check it.

    Args:
        limit: Seconds for everything together.
    """
    until = time.monotonic() + (limit or 3600.0)
    contents: dict[str, bytes] = {}
    try:
        network, questions = posed(onnx, vnnlib)
    except NotShownError as error:
        return Certificates(None, str(error))
    for i, question in enumerate(questions):
        made = certificate_of(network, question, max(0.0, until - time.monotonic()))
        if made.content is None:
            return Certificates(None, made.why)
        contents[str(i)] = made.content
    return Certificates(archive(contents))


def checked(onnx: Files, vnnlib: str, content: bytes) -> Checked:
    """Whether such a file proves a property.

    Raises:
        InputError: The network or the property is wrong, or no certificate can be about it.
    """
    started, leaves, how = time.monotonic(), 0, set()
    try:
        network, questions = posed(onnx, vnnlib)
    except NotShownError as error:
        raise InputError(f"{vnnlib}: {error}") from error
    for i, question in enumerate(questions):
        one = _read(content, f"{i}.json")
        if one is None:
            return Checked(False, f"no certificate of case {i} of the property")
        found = check(network, question, one)
        if not found.accepted:
            return found
        leaves += found.leaves
        how.add(found.why)
    seconds = time.monotonic() - started
    return Checked(True, ", ".join(sorted(how)) or "nothing to prove", leaves, seconds)


def as_aptp(onnx: Files, vnnlib: str, content: bytes) -> dict[str, str]:
    """The trees of such a file, by name, as activation pattern tree proofs.

    Raises:
        InputError: Files are wrong, or the format has no words for what is proved.
    """
    found = {}
    try:
        network, questions = posed(onnx, vnnlib)
        for i, question in enumerate(questions):
            one = decoded(_read(content, f"{i}.json") or b"")
            for j, text in enumerate(exported(network, question, one)):
                found[f"{i}-{j}.aptp"] = text
    except (NotShownError, RefusedError) as error:
        raise InputError(f"{vnnlib}: {error}") from error
    return found


def posed(onnx: Files, vnnlib: str) -> tuple[certified.Network, list[certified.Question]]:
    """What certificates of a property are about.

    Raises:
        NotShownError: Its network has layers that no certificate is about.
    """
    system = system_of(onnx, vnnlib)
    if system.asked.empty is not None:
        return chain_of(system.network), []
    shape = (1, *system.network.shapes[0])
    questions = []
    for case in system.asked.cases:
        box = Bounds(*(torch.from_numpy(end).reshape(shape) for end in (case.lower, case.upper)))
        unsafe = of_logits(system.network, box, case, system.query.file).unsafe
        rows = (part[0].numpy() for part in unsafe)
        questions.append(certified.question(case.lower, case.upper, *rows))
    return chain_of(system.network), questions


def _read(archived: bytes, name: str) -> bytes | None:
    try:
        with zipfile.ZipFile(BytesIO(archived)) as files:
            return files.read(name)
    except (zipfile.BadZipFile, KeyError, zlib.error, NotImplementedError, EOFError):
        return None
