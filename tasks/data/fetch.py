"""Downloads the published files of a data set, and believes only their checksums."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.catalogue import DATASETS
from tasks.data.idx import SHA256, verified
from tasks.download import download
from tasks.errors import InputError, RobsweepError

MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "notmnist": ("https://raw.githubusercontent.com/davidflanagan/notMNIST-to-MNIST/master/",),
}


def fetch(name: str, data_dir: str, mirrors: Sequence[str] | None = None) -> list[Path]:
    """Puts a data set's files below `data_dir`; files that are already there and right stay.

    Args:
        mirrors: URLs of folders with the files, tried in turn; None: the well-known ones.

    Returns:
        The files, all of them checked.

    Raises:
        InputError: Nothing to fetch under this name.
        RobsweepError: No mirror gave a file with the right content.
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}; to fetch there are {', '.join(MIRRORS)}")
    if not DATASETS[name].files:
        raise InputError(f"data set {name!r} comes with scikit-learn, there is nothing to fetch")
    sources = MIRRORS[name] if mirrors is None else mirrors
    return [_fetch_file(file, Path(data_dir) / file, sources) for file in DATASETS[name].files]


def _fetch_file(file: str, path: Path, mirrors: Sequence[str]) -> Path:
    if path.is_file() and _problem(path, file) is None:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{path.name}"
        # next to its place, so that the move is atomic; whatever is not moved is removed
        with TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
            part = Path(folder) / path.name
            problem = download(url, part) or _problem(part, file)
            if problem is None:
                part.replace(path)
                return path
        failures.append(f"{url}: {problem}")
    raise RobsweepError(
        f"cannot fetch {file}:\n  "
        + "\n  ".join(failures)
        + f"\nor put the file at {path} yourself"
    )


def _problem(path: Path, file: str) -> str | None:
    try:
        verified(path, SHA256[file])
    except ValueError as error:
        return str(error)
    return None
