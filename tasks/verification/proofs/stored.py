"""The certificates of a job's verified rows: made as they come, stored as one file."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from torch import nn

from robsweep.tasks.certificates import network as certified
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Job
from robsweep.tasks.recheck.chain import as_certified
from robsweep.tasks.recheck.network import read
from robsweep.tasks.verification.proofs.prove import Made
from robsweep.tasks.verification.proofs.prove import certified as certificate_of
from robsweep.tasks.verification.question import Posed
from robsweep.tasks.verification.verdicts import Row

_LIMIT = 60.0  # seconds per sample, where the job has no limit of its own
_FIRST = (1980, 1, 1, 0, 0, 0)  # the time of all files in an archive, so that bytes repeat


class Certifier:
    """Makes certificates where a measurement asks for them; otherwise does nothing."""

    def __init__(self, job: Job, model: nn.Module) -> None:
        self.job, self.model = job, model
        self.wanted = bool(job.measurement.params.get("certificates"))
        self.limit = job.setting.time_limit_seconds or _LIMIT
        self.contents: dict[str, bytes] = {}
        self.network: certified.Network | None = None
        self.unreadable: str | None = None

    def certified(self, sample: int, posed: Posed, i: int, row: Row) -> Row:
        """A verified row with its certificate, or with why there is none.

        Args:
            sample: In the split; what it is asked is row `i` of `posed`.
        """
        if not self.wanted or row.verdict != "verified":
            return row
        made = self._made(posed, i)
        row = row._replace(certificate_seconds=made.seconds, certificate_missing=made.why)
        if made.content is None:
            return row
        self.contents[str(sample)] = made.content
        digest, packed = hashlib.sha256(made.content), zlib.compress(made.content, 9)
        return row._replace(certificate=digest.hexdigest(), certificate_bytes=len(packed))

    def artifacts(self) -> dict[str, bytes]:
        """What is to be stored, by its path."""
        if not self.contents:
            return {}
        job = self.job
        name = f"certificates/{job.measurement.measurement_id}-{job.start}-{job.stop}.zip"
        return {name: archive(self.contents)}

    def _made(self, posed: Posed, i: int) -> Made:
        if self.network is None and self.unreadable is None:
            try:
                shape = self.job.measurement.model.shape
                self.network = as_certified(read(self.model, shape), int(np.prod(shape)))
            except InputError as error:
                self.unreadable = str(error)
        if self.network is None:
            return Made(None, self.unreadable)
        box, unsafe = posed.box.rows(torch.tensor([i])), posed.unsafe.rows([i])
        ends = (end.cpu().numpy() for end in box)
        rows = (part[0].cpu().numpy() for part in unsafe)
        return certificate_of(self.network, certified.question(*ends, *rows), self.limit)


def archive(contents: Mapping[str, bytes]) -> bytes:
    """Certificates by name as a zip file of `NAME.json`."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as files:
        for name, content in contents.items():
            files.writestr(_entry(name), content)
    return stream.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{name}.json", _FIRST)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
