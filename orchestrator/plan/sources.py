"""A user's own functions as an id sees them: the hash of their source, and where it lies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robsweep.orchestrator.identity import source_file, source_sha256


@dataclass(frozen=True)
class Source:
    """Of one function."""

    sha256: str  # what an id hashes
    files: Mapping[str, str]  # path -> SHA-256 of each file that it hashes


Code = Mapping[str, Source]  # `package.module:function` -> its source


def sources(names: Iterable[str], paths: tuple[str, ...]) -> dict[str, Source]:
    """The user's own functions among the names of catalogue entries.

    Args:
        paths: Folders in which their modules are looked for, before the installed packages.

    Raises:
        InputError: There is no such module.
    """
    found = {}
    for name in names:
        if ":" in name:
            digest = source_sha256(name, paths)
            found[name] = Source(digest, {str(source_file(name, paths)): digest})
    return found


def hashes(code: Code) -> dict[str, str]:
    """Function -> SHA-256, as an id hashes it."""
    return {name: source.sha256 for name, source in code.items()}
