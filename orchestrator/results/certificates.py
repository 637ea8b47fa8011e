"""The certificates that a store keeps, `artifacts/certificates/<job>.zip`."""

import hashlib
import zipfile
from io import BytesIO
from zlib import error as ZlibError

from robsweep.orchestrator.store.store import Store

_LONGEST = 2**28  # bytes of one, unpacked


class Certificates:
    """Those of a store, by measurement and sample."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.paths: dict[str, list[str]] = {}
        for path in sorted(store.files.list("artifacts/certificates")):
            measurement_id = path.rsplit("/", 1)[1].rsplit("-", 2)[0]
            self.paths.setdefault(measurement_id, []).append(path)

    def of(self, measurement_id: str, sample: int, sha256: str) -> bytes | None:
        """The one that a row names; None where it is not there, or not as it was stored."""
        for path in self.paths.get(measurement_id, ()):
            start, stop = path.removesuffix(".zip").rsplit("-", 2)[1:]
            if int(start) <= sample < int(stop):
                content = _read(self.store.files.read(path), f"{sample}.json")
                if content is not None and hashlib.sha256(content).hexdigest() == sha256:
                    return content
        return None


def _read(archive: bytes, name: str) -> bytes | None:
    try:
        with zipfile.ZipFile(BytesIO(archive)) as files:
            if files.getinfo(name).file_size > _LONGEST:
                return None
            return files.read(name)
    except (zipfile.BadZipFile, KeyError, ZlibError, NotImplementedError, EOFError):
        return None
