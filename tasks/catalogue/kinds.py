"""Kinds of jobs, and how they are cut. Torch-free."""

from robsweep.tasks.catalogue.entries import Kind

KINDS: dict[str, Kind] = {
    "preflight": Kind("jobs"),
    "train": Kind("models", version=2),
    "ensemble": Kind("models"),
    "predict": Kind("predictions", group_size=250, slice_groups=8),
    "attack": Kind("attacks", version=5, group_size=250, slice_groups=2),
    "features": Kind("features", group_size=250, slice_groups=8),
    "fit": Kind("fits"),
    "score": Kind("ood_scores", group_size=250, slice_groups=8),
    "calibrate": Kind("calibration", version=2),
    "screen": Kind("verification", version=3, group_size=50, slice_groups=2),
    "solve": Kind("verification", version=3),
    "cross_check": Kind("verification"),
    "sensitivity": Kind("sensitivity", group_size=50, slice_groups=4),
    "landscape": Kind("landscape", slice_groups=1),
}
