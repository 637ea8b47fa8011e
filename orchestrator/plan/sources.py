"""A user's own functions as a plan sees them: what their ids hash, and what their jobs load."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from robsweep.orchestrator.source import source_files, source_sha256

Hash = Callable[[str, tuple[str, ...]], str]  # of a user's own function, as in orchestrator.source


@dataclass(frozen=True)
class Source:
    """Of one function."""

    sha256: str  # what an id hashes
    files: Mapping[str, str]  # path -> SHA-256 of the bytes of each file that it is about
    planned: str | None = None  # the hash of what jobs must find and load; a recorded plan has none


Code = Mapping[str, Source]  # `package.module:function` -> its source


def sources(
    names: Iterable[str], paths: tuple[str, ...], hashed: Hash = source_sha256
) -> dict[str, Source]:
    """The user's own functions among the names of catalogue entries.

    Args:
        paths: Folders in which their modules are looked for, before the installed packages.
        hashed: What ids hash.

    Raises:
        InputError: There is no such module.
    """
    found = {}
    for name in names:
        if ":" in name:
            files = {
                path: sha256(Path(path).read_bytes()).hexdigest()
                for path in source_files(name, paths).values()
            }
            found[name] = Source(hashed(name, paths), files, source_sha256(name, paths))
    return found


def hashes(code: Code) -> dict[str, str]:
    """Function -> hash, as an id has it."""
    return {name: source.sha256 for name, source in code.items()}
