"""A user's own data set as the planner sees it: sizes and identity of an .npz file."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.spec.spec import DatasetSpec

SPLITS = ("train", "validation", "test")
_HOW = "needs arrays test_images and test_labels"


def describe(path: Path, classes: int | None = None) -> DatasetSpec:
    """Sizes of an .npz with arrays `<split>_images` and `<split>_labels`.

    Its name in rows is `npz:<start of the file's SHA-256>`: other content, other name.

    Args:
        classes: How many there are, if the last ones have no sample; None: up to the largest label.

    Raises:
        InputError: No such file, no .npz, or arrays missing; less classes than labels.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"data set {path}: {error.strerror or error}") from error
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        with np.load(path, allow_pickle=False) as arrays:
            splits = {s: len(arrays[f"{s}_labels"]) for s in SPLITS if f"{s}_labels" in arrays}
            if "test" not in splits:
                raise InputError(f"data set {path}: {_HOW}, and has {', '.join(arrays.files)}")
            if absent := [s for s in splits if f"{s}_images" not in arrays]:
                raise InputError(
                    f"data set {path}: no array {absent[0]}_images; {_HOW}, and has "
                    f"{', '.join(arrays.files)}"
                )
            shape = arrays["test_images"].shape[1:]
            found = int(max(arrays[f"{split}_labels"].max() for split in splits)) + 1
    except InputError:
        raise
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"data set {path}: not a readable .npz ({error})") from error
    if len(shape) == 2:
        shape = (1, *shape)
    name = f"npz:{hashlib.sha256(content).hexdigest()[:16]}"
    if classes is not None and classes < found:
        raise InputError(f"data set {path}: {classes} classes, but a label {found - 1}")
    if classes is not None and classes > found:
        name += f"-{classes}"  # models of so many outputs are other models
        found = classes
    file = str(path.resolve())
    return DatasetSpec(name=name, splits=splits, shape=shape, classes=found, file=file)
