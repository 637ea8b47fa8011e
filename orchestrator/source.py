"""A user's own code, as it enters measurement ids."""

from robsweep.tasks.catalogue.sources import Sources


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


def source_files(name: str, paths: tuple[str, ...]) -> dict[str, str]:
    """Module -> file of all that this hash covers.

    Raises:
        InputError: There is no such module.
    """
    return Sources(paths).covered(name)
