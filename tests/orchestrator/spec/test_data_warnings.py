"""What is said of a user's own data, and that nothing is said of sound ones."""

import numpy as np
import pytest

from robsweep.orchestrator.spec.data_warnings import data_warnings
from tests.sweeps import spec_of

N = 40
RNG = np.random.default_rng(0)


def of(folder, dataset="npz:mine.npz", **arrays):
    np.savez(folder / "mine.npz", **arrays)
    text = f"name: a\ndataset: {dataset}\nmodels: {{mine: {{arch: mlp, train: false}}}}\n"
    return data_warnings(spec_of(text, folder))


def sound(shape=(8, 8), kind=np.uint8):
    """Smooth images, as real ones are: no two splits share one."""
    rough = RNG.random((3, N, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    images = rough.reshape(3, N, *shape) if shape != (8, 8) else rough
    images = (images * 255).astype(np.uint8) if kind == np.uint8 else images.astype(kind)
    arrays = {}
    for split, of_split in zip(("train", "validation", "test"), images, strict=True):
        arrays |= {f"{split}_images": of_split, f"{split}_labels": np.arange(N) % 10}
    return arrays


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(8, 8), (64,), (1, 8, 8)])
def test_nothing_is_said_of_sound_data(tmp_path, shape, kind):
    assert of(tmp_path, **sound(shape, kind)) == []


def test_channels_last(tmp_path):
    images = RNG.random((10, 32, 32, 3), np.float32)
    (text,) = of(tmp_path, test_images=images, test_labels=np.arange(10))
    assert text.startswith("data set mine.npz: images have shape (N, 32, 32, 3)")
    assert "transpose(0, 3, 1, 2)" in text
    assert not of(tmp_path, test_images=images.transpose(0, 3, 1, 2), test_labels=np.arange(10))


def test_labels(tmp_path):
    def said(train, test, dataset="npz:mine.npz"):
        arrays = sound()
        del arrays["validation_images"], arrays["validation_labels"]
        arrays["train_labels"] = np.resize(train, N)
        arrays["test_labels"] = np.resize(test, N)
        return of(tmp_path, dataset, **arrays)

    (one,) = said(range(1, 11), range(1, 11))
    assert "from 1 to 10, and none is 0" in one
    (empty,) = said([0, 1, 3], [0, 1, 3])
    assert "no sample of class 2, of 4" in empty
    (unseen,) = said(range(9), range(10))
    assert "class 9 in test, but not in train" in unseen
    (untested,) = said(range(10), range(8))
    assert "classes 8, 9 in train, but not in test" in untested
    # whoever says that there are ten knows of those without samples
    assert said(range(9), range(9), "{npz: mine.npz, classes: 10}") == []


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_in_two_splits(tmp_path, kind):
    arrays = sound(kind=kind)
    arrays["test_images"][:3] = arrays["train_images"][5:8]
    noise = RNG.integers(-1, 2, (4, 8, 8))
    white = 255 if kind == np.uint8 else 1
    near = arrays["train_images"][10:14] + noise * white / 255
    arrays["test_images"][20:24] = near.clip(0, white).astype(kind)
    exact, nearly = of(tmp_path, **arrays)
    assert "3 of 40 test images are also in train (e.g. test 0 = train 5)" in exact
    assert "of 40 test images are nearly" in nearly
    assert "test 20 = train 10" in nearly
