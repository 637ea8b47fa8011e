"""Regions of verifications by name. Torch-free."""

from collections.abc import Mapping
from typing import Any

from robsweep.tasks.catalogue.entries import Region

REGIONS: dict[str, Region] = {
    "linf": Region(
        ".ball:box", {"eps": float}, "each pixel moves by at most eps", "all stages; exact",
        "Tjeng et al. 2019", ball=True,
    ),
    "l1": Region(
        ".verification.regions.shapes:l1", {"eps": float}, "all moves together are at most eps",
        "bounds, branching; exact by the MILP", "Wong & Kolter 2018, section 2", ball=True,
    ),
    "l2": Region(
        ".verification.regions.shapes:l2", {"eps": float}, "the Euclidean distance is at most eps",
        "bounds, branching; exact by the MILP of scip and gurobi; bounds only with highs",
        "Wong & Kolter 2018, section 2", ball=True,
    ),
    "cube": Region(
        ".verification.regions.shapes:cube", {}, "all images in [0, 1]", "all stages; exact",
        "MIPVerify's UnrestrictedPerturbationFamily",
    ),
    "blur": Region(
        ".verification.regions.shapes:blur", {"kernel": 3},
        "the image under each kernel of k x k weights >= 0 of sum 1, zeros around it",
        "bounds, branching; exact by the MILP", "MIPVerify's BlurringPerturbationFamily",
    ),
    "brightness_contrast": Region(
        ".verification.regions.shapes:brightness_contrast", {"brightness": 0.0, "contrast": 0.0},
        "c x + b, clipped to [0, 1], |b| <= brightness, |c - 1| <= contrast", "all stages; exact",
        "Mohapatra et al. 2020 (Semantify-NN), section 3",
    ),
    "patch": Region(
        ".verification.regions.shapes:patch", {"size": 3, "at": ()},
        "any pixels in one square of k x k, wherever it is, or at [row, column]",
        "all stages, position by position; exact", "Chiang et al. 2020, section 3",
    ),
    "affine": Region(
        ".verification.regions.shapes:affine", {"file": str},
        "x + sum of t_i basis_i, clipped to [0, 1], lower_i <= t_i <= upper_i: arrays of an .npz",
        "all stages; exact", "Mohapatra et al. 2020 (Semantify-NN), section 3",
    ),
}


def misfit(name: str, parameters: Mapping[str, Any], shape: tuple[int, ...]) -> str | None:
    """Why images of a shape have no such region."""
    if name == "brightness_contrast" and not (parameters["brightness"] or parameters["contrast"]):
        return "brightness and contrast are both 0: name one of them"
    if name not in ("blur", "patch"):
        return None
    if len(shape) != 3:
        return f"{name} is of images, not of {'x'.join(map(str, shape))} numbers"
    height, width = shape[1:]
    if name == "blur":
        size, what = parameters["kernel"], "kernel"
    else:
        size, what = parameters["size"], "patch"
    if size > min(height, width):
        return f"a {what} of {size}x{size} is larger than images of {height}x{width}"
    at = [*parameters.get("at", ())]
    if at and (len(at) != 2 or not all(type(end) is int for end in at)):
        return f"`at:` is a row and a column, e.g. [0, 4], got {at}"
    if at and not (0 <= at[0] <= height - size and 0 <= at[1] <= width - size):
        return f"a patch of {size}x{size} at {at} leaves the pixels of {height}x{width}"
    return None
