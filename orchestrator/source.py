"""A user's own code, as it enters measurement ids."""

import hashlib

from robsweep.tasks.catalogue.code.sources import Sources


def source_sha256(name: str, paths: tuple[str, ...]) -> str:
    """Hash of the code behind a user's `package.module:function`, as it lies there now.

    Of the file that defines it and of all local modules that it imports, comments and docstrings
    aside; of a file that has none of them, the SHA-256 of its bytes.

    Args:
        paths: Folders that come before the Python path.

    Raises:
        InputError: There is no such module.
    """
    return Sources(paths).sha256(name)


def file_sha256(name: str, paths: tuple[str, ...]) -> str:
    """As ids of stores of 0.1.0 have it: of the file's bytes; of code with local imports, as now.

    Raises:
        InputError: There is no such module.
    """
    sources = Sources(paths)
    if len(files := sources.covered(name)) > 1:
        return sources.sha256(name)
    return hashlib.sha256(sources.read(*files.values())).hexdigest()


def source_files(name: str, paths: tuple[str, ...]) -> dict[str, str]:
    """Module -> file of all that this hash covers.

    Raises:
        InputError: There is no such module.
    """
    return Sources(paths).covered(name)
