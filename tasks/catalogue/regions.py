"""Regions of verifications by name. Torch-free."""

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
        "bounds and branching only: what is left once all ReLUs are decided is bounded, not solved",
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
