"""Where a store's bytes lie. A local folder here; an object store needs the same six calls."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from uuid import uuid4


class Files(Protocol):
    """Keys are `/`-separated paths below the store's root."""

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError."""

    def write(self, key: str, content: bytes) -> None:
        """Creates or replaces a file: readers see the old content or all of the new."""

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Creates a file unless it is there; exactly one of several writers gets True."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a folder, unordered."""

    def remove(self, key: str) -> None:
        """Removes a file if it is there."""


class LocalFiles:
    """A folder on a local or shared POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        path = self.root / key
        temporary = self._temporary(path, content)
        temporary.replace(path)
        _sync_folder(path.parent)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        path = self.root / key
        temporary = self._temporary(path, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_folder(path.parent)
        return True

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def list(self, prefix: str) -> Iterator[str]:
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                if not name.startswith(".tmp-"):
                    yield (Path(folder) / name).relative_to(self.root).as_posix()

    def remove(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def _temporary(self, path: Path, content: bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".tmp-{uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk leaves no litter
            raise
        return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
