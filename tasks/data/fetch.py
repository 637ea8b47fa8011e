"""Downloads the published files of a data set, and believes only their checksums."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.data import archives, checksums
from robsweep.tasks.data.download import download
from robsweep.tasks.data.published import verified
from robsweep.tasks.errors import InputError, RobsweepError

# Folders with the files of a folder below the data dir, one by one.
MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "notmnist": ("https://raw.githubusercontent.com/davidflanagan/notMNIST-to-MNIST/master/",),
    "kmnist": (
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    ),
}


def fetch(name: str, data_dir: str, mirrors: Sequence[str] | None = None) -> list[Path]:
    """Puts a data set's files below `data_dir`; files that are already there and right stay.

    Args:
        mirrors: URLs of folders with the files, or of the archive, tried in turn; None: the
            well-known ones.

    Returns:
        The files, all of them checked.

    Raises:
        InputError: Nothing to fetch under this name.
        RobsweepError: No mirror gave a file with the right content.
    """
    if name not in DATASETS:
        known = ", ".join(one for one, entry in DATASETS.items() if entry.files)
        raise InputError(f"unknown data set {name!r}; to fetch there are {known}")
    files = DATASETS[name].files
    if not files:
        raise InputError(f"data set {name!r} comes with scikit-learn, there is nothing to fetch")
    folder = Path(files[0]).parent.name
    paths = [Path(data_dir) / file for file in files]
    left = [
        (file, path)
        for file, path in zip(files, paths, strict=True)
        if not path.is_file() or _problem(path, file) is not None
    ]
    if left and folder in checksums.ARCHIVES:
        urls = checksums.ARCHIVES[folder].urls if mirrors is None else mirrors
        _fetch_archive(folder, Path(data_dir), urls)
    elif left:
        sources = MIRRORS[folder] if mirrors is None else mirrors
        for file, path in left:
            _fetch_file(file, path, sources)
    return paths


def _fetch_file(file: str, path: Path, mirrors: Sequence[str]) -> None:
    def take(part: Path) -> str | None:
        problem = _problem(part, file)
        if problem is None:
            part.replace(path)
        return problem

    urls = [f"{mirror.rstrip('/')}/{path.name}" for mirror in mirrors]
    _first(urls, path.parent, take, f"fetch {file}", f"put the file at {path} yourself")


def _fetch_archive(folder: str, data_dir: Path, urls: Sequence[str]) -> None:
    """Takes all that data sets have in a folder out of its archive, and then moves it there."""
    archive, place = checksums.ARCHIVES[folder], data_dir / folder
    files = {
        file: archive.prefix + Path(file).name
        for entry in DATASETS.values()
        for file in entry.files
        if Path(file).parent.name == folder
    }

    def take(part: Path) -> str | None:
        if (digest := checksums.of_file(part)) != archive.sha256:
            return f"has SHA-256 {digest}, expected {archive.sha256}"
        try:
            taken = archives.extract(part, files.values(), part.parent)
        except ValueError as error:
            return str(error)
        for (file, member), path in zip(files.items(), taken, strict=True):
            if problem := _problem(path, file):
                return f"its member {member} {problem}"
        for file, path in zip(files, taken, strict=True):
            path.replace(data_dir / file)
        return None

    instead = f"unpack it yourself, so that its files lie in {place}"
    _first(urls, place, take, f"fetch {folder}", instead)


def _first(
    urls: Sequence[str],
    folder: Path,
    take: Callable[[Path], str | None],
    what: str,
    instead: str,
) -> None:
    """Downloads from the first URL whose file is taken; `take` says what is wrong with it."""
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        # next to its place, so that the move is atomic; whatever is not moved is removed
        with TemporaryDirectory(prefix=".fetch-", dir=folder) as place:
            part = Path(place) / url.rsplit("/", maxsplit=1)[-1]
            problem = download(url, part) or take(part)
        if problem is None:
            return
        failures.append(f"{url}: {problem}")
    raise RobsweepError(f"cannot {what}:\n  " + "\n  ".join(failures) + f"\nor {instead}")


def _problem(path: Path, file: str) -> str | None:
    try:
        verified(path, file)
    except ValueError as error:
        return str(error)
    return None
