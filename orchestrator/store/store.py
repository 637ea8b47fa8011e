"""A store: a folder with parts, the log that makes them count, artifacts and sweeps."""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.files import Files, LocalFiles
from robsweep.orchestrator.store import log
from robsweep.orchestrator.store.log import Part, Snapshot
from robsweep.orchestrator.store.parts import decode

FORMAT = 1
_ABANDONED_SECONDS = 600.0  # nobody writes one checkpoint for so long

__all__ = ["Part", "Snapshot", "Store"]


class Store:
    """Reads and writes one store; `orchestrator.store.writer` commits a sweep's results to it."""

    def __init__(self, files: Files, root: Path, store_id: str) -> None:
        self.files = files
        self.root = root
        self.store_id = store_id

    @classmethod
    def open(cls, location: str | Path) -> "Store":
        """Opens a store that exists.

        Raises:
            StoreError: There is none, or a newer robsweep wrote it.
        """
        root = Path(location).expanduser().resolve()
        marker = root / "store.json"
        if not marker.is_file():
            raise StoreError(
                f"{root} is not a robsweep store (no store.json): "
                "name another with --store, or run a sweep to make one"
            )
        try:
            head = json.loads(marker.read_bytes())
            version, store_id = int(head["format"]), str(head["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{marker} is damaged ({error}): restore it from a backup") from error
        if version > FORMAT:
            raise StoreError(
                f"{root} has store format {version}, this robsweep reads up to {FORMAT}: upgrade it"
            )
        return cls(LocalFiles(root), root, store_id)

    @classmethod
    def create(cls, location: str | Path) -> "Store":
        """Opens a store, making it first where there is nothing yet.

        Raises:
            StoreError: The folder holds something else, or a newer store.
        """
        root = Path(location).expanduser().resolve()
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is a file: name a folder with --store")
        if not (root / "store.json").exists():
            strangers = (
                [p for p in root.iterdir() if p.name[:5] != ".tmp-"] if root.exists() else []
            )
            if strangers and not (root / "store.json").exists():  # another may have just made it
                raise StoreError(
                    f"{root} is not empty and not a robsweep store: name another with --store"
                )
            head = {"format": FORMAT, "id": uuid4().hex}
            LocalFiles(root).put_if_absent("store.json", json.dumps(head).encode())
        return cls.open(root)

    @classmethod
    def existing(cls, location: Path) -> "Store | None":
        """Opens a store; None where a run would make it.

        Raises:
            StoreError: The folder holds something else, or a newer store.
        """
        if (location / "store.json").exists():
            return cls.open(location)
        if location.exists() and (not location.is_dir() or any(location.iterdir())):
            raise StoreError(
                f"{location} is not empty and not a robsweep store: name another with --store"
            )
        return None

    def snapshot(self) -> Snapshot:
        """The log as of now."""
        return log.read(self.files)

    def weights(self, model_id: str) -> bytes:
        """Weights of a model trained or assembled here, as safetensors.

        Raises:
            FileNotFoundError: None are stored.
        """
        return self.files.read(f"artifacts/models/{model_id}.safetensors")

    @property
    def checkpoints(self) -> Path:
        """Folder of what trainings need to go on; nothing there counts as a result."""
        return self.root / "checkpoints"

    def drop_checkpoint(self, measurement_id: str) -> None:
        """Removes what a training kept to go on, and what was being written when it was killed."""
        (self.checkpoints / f"{measurement_id}.pt").unlink(missing_ok=True)
        for path in self.checkpoints.glob(f".{measurement_id}.pt.*"):
            with suppress(FileNotFoundError):  # another sweep may train the same model right now
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def is_here(self) -> bool:
        """Whether this process sees the same store: a worker elsewhere may see another folder."""
        try:
            return bool(json.loads(self.files.read("store.json"))["id"] == self.store_id)
        except (OSError, ValueError, KeyError):
            return False

    def sweeps(self) -> list[str]:
        """Names of the sweeps that have run here."""
        return sorted(
            key.split("/")[1] for key in self.files.list("sweeps") if key.endswith("/plan.parquet")
        )

    def record_plan(self, name: str, content: bytes) -> None:
        """Writes down the plan that a sweep is about to run; those before it stay beside it."""
        last = f"sweeps/{name}/plan.parquet"
        # an older robsweep wrote it there alone; a damaged one says nothing
        with suppress(FileNotFoundError, pa.ArrowException):
            before = self.files.read(last)
            decode(before)
            self.files.put_if_absent(_plan_key(name, before), before)
        self.files.write(_plan_key(name, content), content)  # mends a damaged one
        self.files.write(last, content)

    def has_plan(self, name: str, content: bytes) -> bool:
        """Whether a plan that a sweep has recorded is still there."""
        keys = (f"sweeps/{name}/plan.parquet", _plan_key(name, content))
        return all(self.files.exists(key) for key in keys)

    def plans(self, name: str) -> list[str]:
        """Keys of all plans that a sweep has recorded since it was last forgotten."""
        earlier = sorted(self.files.list(f"sweeps/{name}/plans"))
        return [f"sweeps/{name}/plan.parquet", *earlier]


def _plan_key(name: str, content: bytes) -> str:
    return f"sweeps/{name}/plans/{digest(content)}.parquet"


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
