import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.data import checksums, idx
from robsweep.tasks.data.fetch import fetch
from robsweep.tasks.data.load import load
from robsweep.tasks.errors import InputError, RobsweepError

IDX = b"\0\0\x08\x01\0\0\0\x03" + bytes([7, 8, 9])
FILE = "notmnist/t10k-labels-idx1-ubyte.gz"


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["digits", "photo_patches", "iris"])
def test_embedded_sets_are_as_the_catalogue_says(name: str) -> None:
    entry = DATASETS[name]
    for split, size in entry.splits.items():
        data = load(name, split, "")
        assert data.images.shape == (size, *entry.shape)
        assert data.images.dtype == torch.float32
        assert data.labels.shape == (size,)
        assert data.images.min() >= 0
        assert data.images.max() <= 1
        assert set(data.labels.tolist()) == set(range(entry.classes))
        assert data.images.std() > 0.05


def test_digits_splits_do_not_overlap() -> None:
    images = torch.cat([load("digits", split, "").images for split in DATASETS["digits"].splits])
    assert len(images) == 1797
    assert len(torch.unique(images.flatten(1), dim=0)) == 1797


def test_iris_splits_are_stratified_and_hold_all_150() -> None:
    from sklearn.datasets import load_iris

    found = []
    for split, size in DATASETS["iris"].splits.items():
        data = load("iris", split, "")
        assert torch.bincount(data.labels).tolist() == [size // 3] * 3
        assert set(data.labels[:3].tolist()) == {0, 1, 2}
        low, high = np.array([4.3, 2, 1, 0.1]), np.array([7.9, 4.4, 6.9, 2.5])
        found.append(data.images.double().numpy() * (high - low) + low)
    everything = np.concatenate(found).round(4)
    raw = load_iris().data
    assert sorted(map(tuple, everything)) == sorted(map(tuple, raw.round(4)))
    assert np.concatenate(found).min(0) == pytest.approx(raw.min(0))


def test_photo_patches_are_the_same_each_time() -> None:
    from robsweep.tasks.data.embedded import photo_patches

    assert np.array_equal(photo_patches("test", "")[0], photo_patches("test", "")[0])


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "notmnist"])
def test_idx_sets_are_as_the_catalogue_says(name: str, data_dir: Path) -> None:
    entry = DATASETS[name]
    for split, size in entry.splits.items():
        data = load(name, split, str(data_dir))
        assert data.images.shape == (size, *entry.shape)
        assert data.images.max() == 1
        assert set(data.labels.tolist()) == set(range(10))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="unknown data set 'mnst'"):
        load("mnst", "test", "")
    with pytest.raises(InputError, match="has no split 'train'; it has test"):
        load("notmnist", "train", "")


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*robsweep data fetch mnist.*ROBSWEEP_DATA_DIR"):
        load("mnist", "test", str(tmp_path))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(IDX, mtime=0), "expected 5f8e"),
        (gzip.compress(IDX, mtime=0)[:-9], "not a complete gzip file"),
        (b"<html>404</html>", "not a complete gzip file"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    put(tmp_path / FILE, content)
    with pytest.raises(InputError, match=why):
        idx.read("notmnist", FILE, str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\0\0\x0d\x01\0\0\0\x03abc", IDX[:-1], IDX + b"!"])
def test_malformed_idx_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"unsigned bytes|array of shape"):
        idx.parse(content)


def test_idx_is_parsed() -> None:
    assert idx.parse(IDX).tolist() == [7, 8, 9]


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two mirrors of notMNIST over HTTP: one serves damaged files, one the right ones."""
    digest = hashlib.sha256(IDX).hexdigest()
    monkeypatch.setattr(checksums, "CONTENT", dict.fromkeys(checksums.CONTENT, digest))
    for file in DATASETS["notmnist"].files:
        put(tmp_path / "bad" / Path(file).name, gzip.compress(IDX[:-1]))
        put(tmp_path / "good" / Path(file).name, gzip.compress(IDX))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield [f"http://127.0.0.1:{server.server_port}/{name}/" for name in ("bad", "good")]
        server.shutdown()
        thread.join()


def test_fetch_tries_mirrors_in_turn(tmp_path: Path, mirrors: list[str]) -> None:
    missing = mirrors[0].replace("bad", "none")
    files = fetch("notmnist", str(tmp_path / "data"), [missing, *mirrors])
    assert [gzip.decompress(file.read_bytes()) for file in files] == [IDX, IDX]
    assert sorted((tmp_path / "data" / "notmnist").iterdir()) == sorted(files)
    # with the files in place no mirror is asked
    assert fetch("notmnist", str(tmp_path / "data"), []) == files


def test_fetch_leaves_nothing_wrong_behind(tmp_path: Path, mirrors: list[str]) -> None:
    with pytest.raises(RobsweepError, match="has SHA-256"):
        fetch("notmnist", str(tmp_path / "data"), mirrors[:1])
    assert list((tmp_path / "data" / "notmnist").iterdir()) == []


def test_fetch_of_what_cannot_be_fetched() -> None:
    with pytest.raises(InputError, match="nothing to fetch"):
        fetch("digits", "")
    with pytest.raises(InputError, match="unknown data set"):
        fetch("imagenet", "")


def save(path: Path, images: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    np.savez(path, test_images=images, test_labels=labels)
    return {"own": str(path)}


def test_npz_set(tmp_path: Path) -> None:
    images = np.array([0, 255, 51, 102], dtype=np.uint8).reshape(2, 1, 2)
    files = save(tmp_path / "own.npz", images, np.array([0, 2], dtype=np.int32))
    data = load("own", "test", "", files)
    assert data.images.flatten().tolist() == pytest.approx([0, 1, 0.2, 0.4])
    assert data.images.shape == (2, 1, 1, 2)
    assert data.labels.tolist() == [0, 2]


ONES = np.ones((2, 4, 4), dtype=np.float32)
LABELS = np.array([0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (ONES * 255, LABELS, r"lie in \[255, 255\], not in \[0, 1\]"),
        (ONES * np.float32(np.nan), LABELS, "not all finite"),
        (ONES.astype(np.int64), LABELS, "neither uint8 nor a float"),
        (ONES[:, 0, 0], LABELS, r"images have shape \(2,\)"),
        (ONES, LABELS[:1], r"labels have shape \(1,\) for 2 images"),
        (ONES, LABELS * 0.5, "labels are float64"),
        (ONES, LABELS - 1, "counted from 0"),
        (np.array([object(), object()]), LABELS, "allow_pickle"),
    ],
)
def test_wrong_npz_is_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, why: str
) -> None:
    files = save(tmp_path / "own.npz", images, labels)
    with pytest.raises(InputError, match=why):
        load("own", "test", "", files)


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", ONES)
    (tmp_path / "text.npz").write_text("hello")
    for file in ("array.npy", "text.npz"):
        with pytest.raises(InputError, match=r"not an \.npz file"):
            load("own", "test", "", {"own": str(tmp_path / file)})
    with pytest.raises(InputError, match="no file"):
        load("own", "test", "", {"own": str(tmp_path / "none.npz")})
    files = save(tmp_path / "own.npz", ONES, LABELS)
    with pytest.raises(InputError, match="has no split 'train'; it has test"):
        load("own", "train", "", files)
