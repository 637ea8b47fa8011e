"""Published data sets, from small files in the real formats."""

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.data import checksums, cifar, published
from robsweep.tasks.data import load as loading
from robsweep.tasks.data.archives import extract
from robsweep.tasks.data.fetch import fetch
from robsweep.tasks.data.load import load
from robsweep.tasks.errors import InputError, RobsweepError

SMALL = {"train": 7, "validation": 3, "test": 4}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalogue's sets, a few samples each, of whatever bytes."""
    for name in ("cifar10", "kmnist", "emnist_letters", "emnist_digits", "emnist_balanced"):
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], splits=SMALL))
    monkeypatch.setattr(checksums, "CONTENT", {})
    monkeypatch.setattr(checksums, "FILE", {})
    loading._load.cache_clear()
    yield
    loading._load.cache_clear()


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def emnist(root: Path, part: str, labels: np.ndarray, count: int = 10) -> np.ndarray:
    images = pictures(count)
    put(root / f"emnist/emnist-{part}-train-images-idx3-ubyte.gz", idx(images))
    put(root / f"emnist/emnist-{part}-train-labels-idx1-ubyte.gz", idx(labels.astype(np.uint8)))
    return images


def batches(root: Path, sizes: list[int], label: int = 9) -> np.ndarray:
    """Training batches of CIFAR-10; returns all records."""
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (sum(sizes), 3073), dtype=np.uint8)
    records[:, 0] = np.arange(len(records)) % 10
    records[-1, 0] = label
    for i, part in enumerate(np.split(records, np.cumsum(sizes)[:-1]), start=1):
        put(root / f"cifar-10-batches-bin/data_batch_{i}.bin", part.tobytes())
    return records


def test_cifar_splits_and_channels(tmp_path: Path) -> None:
    records = batches(tmp_path, [2, 2, 2, 2, 2])
    train, held = (
        load("cifar10", "train", str(tmp_path)),
        load("cifar10", "validation", str(tmp_path)),
    )
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert held.labels.tolist() == [7, 8, 9]
    assert train.images.shape == (7, 3, 32, 32)
    pixels = (train.images * 255).round().byte().numpy()
    # red, green, blue; a plane row by row: pixel (row 1, column 2) is number 32 + 2 of each plane
    for channel in range(3):
        assert pixels[4, channel, 1, 2] == records[4, 1 + 1024 * channel + 34]
    assert np.array_equal((held.images * 255).round().byte().numpy()[2].ravel(), records[9, 1:])


def test_cifar_with_whole_records_missing(tmp_path: Path) -> None:
    batches(tmp_path, [2, 2, 1, 2, 2])
    for split in ("train", "validation"):
        with pytest.raises(InputError, match=r"9 images and 9 labels .* published are 10"):
            load("cifar10", split, str(tmp_path))


def test_damaged_cifar_is_refused(tmp_path: Path) -> None:
    batches(tmp_path, [3, 3, 2, 1, 1], label=10)
    with pytest.raises(InputError, match="labels from 0 to 10, its classes are 0 to 9"):
        load("cifar10", "train", str(tmp_path))
    batch = tmp_path / "cifar-10-batches-bin/data_batch_1.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"data_batch_1.bin has 9218 bytes, .* of 3073 bytes"):
        load("cifar10", "train", str(tmp_path))
    batch.unlink()
    with pytest.raises(InputError, match=r"no file .*data_batch_1.bin; run `robsweep data fetch"):
        load("cifar10", "train", str(tmp_path))
    with pytest.raises(ValueError, match="has 0 bytes"):
        cifar.parse(b"")


def test_cifar_that_is_not_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(tmp_path, [2] * 5)
    file = "cifar-10-batches-bin/data_batch_1.bin"
    good = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    monkeypatch.setattr(checksums, "CONTENT", {file: good})
    load("cifar10", "train", str(tmp_path))
    loading._load.cache_clear()
    monkeypatch.setattr(checksums, "CONTENT", {file: "0" * 64})
    with pytest.raises(InputError, match=f"has SHA-256 {good}, expected 000"):
        load("cifar10", "train", str(tmp_path))


def test_emnist_is_turned_upright_and_letters_count_from_0(tmp_path: Path) -> None:
    stored = emnist(tmp_path, "letters", np.array([1, 26] * 5))
    data = load("emnist_letters", "train", str(tmp_path))
    assert data.labels.tolist() == [0, 25, 0, 25, 0, 25, 0]
    assert data.images.is_contiguous()
    pixels = (data.images * 255).round().byte().numpy()
    assert pixels[3, 0, 5, 20] == stored[3, 20, 5]
    assert np.array_equal(pixels[:, 0], stored[:7].swapaxes(1, 2))
    held = load("emnist_letters", "validation", str(tmp_path))
    assert np.array_equal((held.images[2, 0] * 255).round().byte().numpy(), stored[9].T)


@pytest.mark.parametrize(
    ("part", "labels", "why"),
    [
        ("letters", [0] + [1] * 9, "labels from 0 to 255, its classes are 0 to 25"),
        ("letters", [27] * 10, "labels from 26 to 26"),
        ("digits", [10] * 10, "labels from 10 to 10, its classes are 0 to 9"),
        ("balanced", [47] * 10, "classes are 0 to 46"),
        ("digits", [1] * 9, "10 images and 9 labels"),
    ],
)
def test_wrong_emnist_is_refused(tmp_path: Path, part: str, labels: list[int], why: str) -> None:
    emnist(tmp_path, part, np.array(labels))
    with pytest.raises(InputError, match=why):
        load(f"emnist_{part}", "train", str(tmp_path))


def test_truncated_or_misshapen_emnist_is_refused(tmp_path: Path) -> None:
    emnist(tmp_path, "digits", np.zeros(10))
    path = tmp_path / "emnist/emnist-digits-train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole[:-30], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="not a complete gzip file"):
            load("emnist_digits", "train", str(tmp_path))
    path.write_bytes(idx(np.zeros((10, 27, 28), np.uint8)))
    with pytest.raises(InputError, match=r"shape \(1, 28, 27\), published are \(1, 28, 28\)"):
        load("emnist_digits", "train", str(tmp_path))


def test_kmnist_is_known_by_its_files_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "kmnist/t10k-images-idx3-ubyte.gz": idx(pictures(4)),
        "kmnist/t10k-labels-idx1-ubyte.gz": idx(np.arange(4, dtype=np.uint8)),
    }
    for file, content in files.items():
        put(tmp_path / file, content)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    monkeypatch.setattr(checksums, "FILE", digests)
    data = load("kmnist", "test", str(tmp_path))
    assert data.labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal((data.images[:, 0] * 255).round().byte().numpy(), pictures(4))
    file = next(iter(files))
    again = gzip.compress(gzip.decompress(files[file]), compresslevel=1)
    with pytest.raises(ValueError, match="has SHA-256"):
        published.verified(put(tmp_path / file, again), file)


def tar_of(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tarred:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tarred.addfile(info)
    return stream.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_only_named_members_are_written(tmp_path: Path, kind: str) -> None:
    files = {"d/a": b"A", "../evil": b"E", "d/../../evil": b"E", "/tmp/evil-robsweep": b"E"}
    content = tar_of(files, {}) if kind == "tar" else zip_of(files)
    archive, place = put(tmp_path / "archive", content), tmp_path / "one" / "two"
    place.mkdir(parents=True)
    assert extract(archive, ["d/a"], place) == [place / "a"]
    assert [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p != archive] == [b"A"]


def test_what_is_no_whole_archive_is_refused(tmp_path: Path) -> None:
    whole = tar_of({"d/a": bytes(100_000)}, {"d/link": "/etc/passwd"})
    with pytest.raises(ValueError, match="no regular file"):
        extract(put(tmp_path / "linked", whole), ["d/link"], tmp_path)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        extract(put(tmp_path / "whole", whole), ["d/b"], tmp_path)
    for content in (whole[:-40], zip_of({"d/a": b"A"})[:-10], b"<html>404</html>"):
        with pytest.raises(ValueError, match="cannot be unpacked"):
            extract(put(tmp_path / "broken", content), ["d/a"], tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """URL of the folder `served` over HTTP."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_fetch_takes_cifar_out_of_its_archive(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(tmp_path / "there", [2] * 5)
    files = {
        f"cifar-10-batches-bin/{path.name}": path.read_bytes()
        for path in (tmp_path / "there/cifar-10-batches-bin").iterdir()
    }
    files["cifar-10-batches-bin/test_batch.bin"] = bytes(4 * 3073)
    files["cifar-10-batches-bin/readme.html"] = b"not wanted"
    content = tar_of(files, {})
    put(tmp_path / "served/good.tar.gz", content)
    put(tmp_path / "served/bad.tar.gz", content[:-7] + content[-7:][::-1])
    known = replace_archive("cifar-10-batches-bin", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(checksums, "ARCHIVES", known)
    data = tmp_path / "data"
    with pytest.raises(RobsweepError, match=r"bad.tar.gz: has SHA-256 .*\nor unpack it yourself"):
        fetch("cifar10", str(data), [f"{server}/bad.tar.gz"])
    assert [path for path in data.rglob("*") if path.is_file()] == []
    urls = [f"{server}/none.tar.gz", f"{server}/bad.tar.gz", f"{server}/good.tar.gz"]
    paths = fetch("cifar10", str(data), urls)
    assert sorted(path for path in data.rglob("*") if path.is_file()) == sorted(paths)
    assert load("cifar10", "train", str(data)).labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert fetch("cifar10", str(data), []) == paths


def replace_archive(folder: str, sha256: str) -> dict[str, checksums.Archive]:
    return {folder: checksums.ARCHIVES[folder]._replace(sha256=sha256)}


def test_fetch_takes_every_emnist_set_out_of_one_archive(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("emnist_letters", "emnist_digits", "emnist_balanced")
    names = [Path(file).name for name in sets for file in DATASETS[name].files]
    files = {f"gzip/{name}": idx(pictures(10)) for name in names}
    content = zip_of({**files, "gzip/emnist-mnist-train-images-idx3-ubyte.gz": b"not wanted"})
    put(tmp_path / "served/gzip.zip", content)
    known = replace_archive("emnist", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(checksums, "ARCHIVES", known)
    fetch("emnist_digits", str(tmp_path), [f"{server}/gzip.zip"])
    assert sorted(path.name for path in (tmp_path / "emnist").iterdir()) == sorted(names)
    for name in sets:  # no further download
        fetch(name, str(tmp_path), [])
    broken = tmp_path / DATASETS["emnist_letters"].files[0]
    broken.write_bytes(broken.read_bytes()[:-5])
    with pytest.raises(RobsweepError, match="cannot fetch emnist"):
        fetch("emnist_letters", str(tmp_path), [])
