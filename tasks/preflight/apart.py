"""Whether a user's OOD set holds images of the very data that it is to be told from."""

from pathlib import Path

from robsweep.tasks.catalogue.words import base_of
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Job
from robsweep.tasks.load import data_for


def check_apart(job: Job) -> None:
    """Compares images byte by byte.

    Params: apart_from, a list of (data set, split).

    Raises:
        InputError: Some are the same, and which.
    """
    m = job.measurement
    base = base_of(m.dataset)  # whatever is done to its images
    images = data_for(m.model, base, m.split, job.setting).images.numpy()
    own = {image.tobytes(): i for i, image in reversed([*enumerate(images)])}
    for dataset, split in m.params["apart_from"]:
        others = data_for(m.model, dataset, split, job.setting).images.numpy()
        found = [(own[key], i) for i, image in enumerate(others) if (key := image.tobytes()) in own]
        if found:
            shared = len({mine for mine, _ in found})
            mine, other = found[0]
            raise InputError(
                f"{shared} of {len(images)} images of {_named(job, base, m.split)} are in "
                f"{_named(job, dataset, split)} too (e.g. its image {mine} is image {other} there):"
                " they are not out of distribution; leave them out"
            )


def _named(job: Job, dataset: str, split: str) -> str:
    file = job.setting.data_files.get(base_of(dataset))
    return f"{dataset if file is None else Path(file).name}:{split}"
