"""Takes single files out of .tar.gz and .zip archives."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO


def extract(archive: Path, members: Iterable[str], folder: Path) -> list[Path]:
    """Writes members into a folder under the last part of their names, in their order.

    What else an archive holds (other names, links, paths that lead elsewhere) is never looked at.

    Raises:
        ValueError: It is no such archive, is damaged, or has no such regular file.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                return [_copy(zipped.open, member, folder) for member in members]
        with tarfile.open(archive) as tarred:
            return [_copy(_opener(tarred), member, folder) for member in members]
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"cannot be unpacked ({type(error).__name__}: {error})") from error


def _opener(tarred: tarfile.TarFile) -> Callable[[str], IO[bytes]]:
    def open_member(member: str) -> IO[bytes]:
        # a link would be followed by extractfile
        found = tarred.extractfile(member) if tarred.getmember(member).isreg() else None
        if found is None:
            raise KeyError(f"{member} is no regular file")
        return found

    return open_member


def _copy(open_member: Callable[[str], IO[bytes]], member: str, folder: Path) -> Path:
    path = folder / Path(member).name
    with open_member(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    return path
