"""Downloads one file over HTTP; what it holds is for the caller to check."""

from pathlib import Path

from robsweep.tasks.catalogue.code.resolve import optional

_TIMEOUT_SECONDS = 60


def download(url: str, path: Path) -> str | None:
    """Writes what is at a URL to a file.

    Returns:
        What went wrong; None if nothing did.

    Raises:
        InputError: pooch is not installed.
    """
    pooch = optional("pooch", "data")
    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS)
    try:
        pooch.retrieve(url, None, fname=path.name, path=path.parent, downloader=downloader)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        return f"{type(error).__name__}: {error}"
    return None
