"""Networks and properties as files, which may be gzipped: `net.onnx`, or `net.onnx.gz`."""

import gzip
import io
import zlib
from pathlib import Path

from robsweep.tasks.errors import InputError

_GZIP = b"\x1f\x8b"
_MOST = 2**31  # bytes, so that a small file that unpacks to a huge one fills no memory


def content_of(file: str) -> bytes:
    """The bytes of a file, unpacked if they are gzipped; `file.gz` stands in for an absent `file`.

    Raises:
        InputError: No such file, or it cannot be read or unpacked.
    """
    path = Path(file)
    packed = path.with_name(path.name + ".gz") if path.name else path
    try:
        if not path.exists() and packed.is_file():
            path = packed
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise InputError(f"{file}: cannot be read: {error}") from None
    return _unpacked(content, file) if content.startswith(_GZIP) else content


def _unpacked(content: bytes, file: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            unpacked = stream.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: is gzipped, but cannot be unpacked: {error}") from None
    if len(unpacked) > _MOST:
        raise InputError(f"{file}: unpacks to more than {_MOST} bytes")
    return unpacked


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."
