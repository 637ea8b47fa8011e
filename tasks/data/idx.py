"""Gzipped IDX files, as the MNIST family is published."""

import numpy as np

from robsweep.tasks.data import published


def mnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    return _mnist_like("mnist", "mnist", split, data_dir)


def fashion_mnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    return _mnist_like("fashion_mnist", "fashion-mnist", split, data_dir)


def notmnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    return _mnist_like("notmnist", "notmnist", split, data_dir)


def kmnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes of cursive Japanese characters, in files like MNIST's.

    Source: Clanuwat et al. 2018, section 3.1.
    """
    return _mnist_like("kmnist", "kmnist", split, data_dir)


def emnist_letters(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """26 letters, upper and lower case together; labels are published as 1 to 26.

    Source: Cohen et al. 2017, section II-C.
    """
    images, labels = _emnist("letters", split, data_dir)
    # 0 becomes 255, which is out of range and so is found
    return published.share("emnist_letters", split, images, labels - np.uint8(1))


def emnist_digits(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """Four times MNIST's digits, from the same NIST forms.

    Source: Cohen et al. 2017, section II-C.
    """
    images, labels = _emnist("digits", split, data_dir)
    return published.share("emnist_digits", split, images, labels)


def emnist_balanced(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """Digits and letters, those letters merged whose cases look alike, as many of each class.

    Source: Cohen et al. 2017, section II-C.
    """
    images, labels = _emnist("balanced", split, data_dir)
    return published.share("emnist_balanced", split, images, labels)


def _mnist_like(name: str, folder: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    prefix = "t10k" if split == "test" else "train"
    images = read(name, f"{folder}/{prefix}-images-idx3-ubyte.gz", data_dir)[:, None]
    labels = read(name, f"{folder}/{prefix}-labels-idx1-ubyte.gz", data_dir)
    return published.share(name, split, images, labels)


def _emnist(part: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """EMNIST's images lie on their side in the files: columns first."""
    name, prefix = f"emnist_{part}", "test" if split == "test" else "train"
    images = read(name, f"emnist/emnist-{part}-{prefix}-images-idx3-ubyte.gz", data_dir)
    labels = read(name, f"emnist/emnist-{part}-{prefix}-labels-idx1-ubyte.gz", data_dir)
    return np.ascontiguousarray(images[:, None].swapaxes(2, 3)), labels


def read(name: str, file: str, data_dir: str) -> np.ndarray:
    """The uint8 array in `<data_dir>/<file>`.

    Raises:
        InputError: The file is missing, damaged, or not the published one.
    """
    return published.read(name, file, data_dir, parse)


def parse(content: bytes) -> np.ndarray:
    """Reads the IDX format: two zero bytes, a type code (8: uint8), the rank, the sizes, the data.

    Raises:
        ValueError: Not an IDX file of bytes.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("is not an IDX file of unsigned bytes")
    rank = content[3]
    shape = np.frombuffer(content[4 : 4 + 4 * rank], dtype=">u4")
    body = content[4 + 4 * rank :]
    if len(shape) != rank or len(body) != np.prod(shape, dtype=np.int64):
        raise ValueError(f"has {len(body)} bytes of data for an array of shape {tuple(shape)}")
    return np.frombuffer(body, dtype=np.uint8).reshape([int(size) for size in shape])
