"""From what a measurement says of its region to the area around each sample."""

import hashlib
import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.catalogue.regions import REGIONS, misfit
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Measurement, Setting
from robsweep.tasks.verification.regions.area import Area


class Regions(NamedTuple):
    """A region around each of some samples."""

    function: Callable[..., Area]
    parameters: Mapping[str, Any]
    arrays: Mapping[str, Tensor] = {}  # parameters too; with one dimension more, one per sample

    def part(self, start: int, stop: int) -> "Regions":
        """Of the samples [start, stop)."""
        cut = {name: one[start:stop] for name, one in self.arrays.items()}
        return self._replace(arrays=cut)

    def of(self, image: Tensor, position: int) -> Area:
        """Of one image, float32 (*shape), of the sample at this position."""
        arrays = {name: one[position] for name, one in self.arrays.items()}
        found: Area = self.function(image, **self.parameters, **arrays)
        return found


def region(name: str, **parameters: Any) -> Regions:
    """One of the catalogue around each sample.

    Raises:
        InputError: There is none of that name.
    """
    if name not in REGIONS:
        raise InputError(f"unknown region {name!r}; known are {', '.join(REGIONS)}")
    return Regions(resolve(REGIONS[name].path, "region"), parameters)


def regions_of(measurement: Measurement, setting: Setting) -> Regions | None:
    """What a measurement names; None where it asks in boxes.

    Raises:
        InputError: A region that is unknown, that these images do not have, or whose file is not
            the one that was planned.
    """
    params = measurement.params
    asked = params.get("region")
    if asked is None:
        if params["norm"] == "linf" or params["eps"] is None:
            return None
        return region(params["norm"], eps=params["eps"])
    parameters = {key: value for key, value in asked.items() if key not in ("name", "file")}
    found = region(asked["name"], **parameters)
    if (why := misfit(asked["name"], parameters, measurement.model.shape)) is not None:
        raise InputError(why)
    if "file" not in asked:
        return found
    arrays = arrays_of(setting.region_file, asked["file"])
    image = len(measurement.model.shape)
    one = {"basis": 1 + image, "lower": 1, "upper": 1, "offset": image}
    each = {name: array for name, array in arrays.items() if array.ndim > one[name]}
    shared = {name: array for name, array in arrays.items() if name not in each}
    return found._replace(parameters={**parameters, **shared}, arrays=each)


@lru_cache(maxsize=8)
def arrays_of(file: str | None, digest: str) -> Mapping[str, Tensor]:
    """The float64 arrays of an .npz whose SHA-256 is part of the measurement.

    Raises:
        InputError: It is not there, or another one.
    """
    if file is None or not Path(file).is_file():
        raise InputError(f"no file {file}, which the sweep names as a region, `box:` or `radius:`")
    content = Path(file).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{file} has changed since the sweep was planned: run it again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float64)) for name in arrays.files}
