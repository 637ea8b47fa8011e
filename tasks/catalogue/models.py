"""Architectures by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Entry, Parameters

_AN: Parameters = {"activation": "relu", "conv_bias": False}
_EXPLAINING: Parameters = {
    "samples": 8000, "steps": 50, "lr": 0.05, "beta": 1.0, "alpha": 440.0, "eta": 3.9e-5,
}

MODELS: dict[str, Entry] = {
    "mlp": Entry(
        ".models.architectures.mlp:mlp",
        {"hidden": (64, 64), "activation": "relu"}, "fully connected net",
        later=frozenset({"activation"}),
    ),
    "cnn_small": Entry(
        ".models.architectures.cnn:cnn_small", {"channels": (8, 16), "hidden": 32},
        "two strided convolutions, no pooling: small enough to verify exactly",
    ),
    "cnn": Entry(
        ".models.architectures.cnn:cnn", {"dropout": 0.5},
        "LeCun-style net of the PyTorch MNIST example; 21,840 parameters on 28x28",
    ),
    "madry": Entry(".models.architectures.cnn:madry", {}, "Madry et al. 2018, MNIST"),
    "resnet": Entry(
        ".models.architectures.resnet:resnet",
        {"blocks": 1, "width": 16}, "He et al. 2016, section 4.2"
    ),
    "an_k3": Entry(
        ".models.architectures.an2020:an_k3", _AN, "An et al. 2020: ten 3x3 convolutions"
    ),
    "an_k5": Entry(
        ".models.architectures.an2020:an_k5", _AN, "An et al. 2020: five 5x5 convolutions"
    ),
    "an_k7": Entry(
        ".models.architectures.an2020:an_k7", _AN, "An et al. 2020: four 7x7 convolutions"
    ),
    "an_k3_shallow": Entry(
        ".models.architectures.an2020:an_k3_shallow", _AN, "the first five convolutions of an_k3"
    ),
    "an_k5_shallow": Entry(
        ".models.architectures.an2020:an_k5_shallow", _AN, "the first three convolutions of an_k5"
    ),
    "wk17a": Entry(
        ".models.architectures.imported:wk17a", {}, "Wong & Kolter 2018, MNIST, Linf 0.1"
    ),
    "rsl18a": Entry(
        ".models.architectures.imported:rsl18a", {}, "Raghunathan et al. 2018, MNIST, Linf 0.1"
    ),
    "abs_cnn": Entry(
        ".models.architectures.abs_nets:abs_cnn",
        {}, "CNN of Schott et al. 2019; 249,228 parameters"
    ),
    "abs_binary_cnn": Entry(
        ".models.architectures.abs_nets:abs_binary_cnn", {}, "Binary CNN of Schott et al. 2019"
    ),
    "abs_transfer_cnn": Entry(
        ".models.architectures.abs_nets:abs_transfer_cnn", {},
        "source of transfer attacks in Schott et al. 2019",
    ),
    "nearest_neighbour": Entry(
        ".models.architectures.nearest_neighbour:nearest_neighbour", {"samples": 0},
        "nearest training image in l2; Schott et al. 2019",
    ),
    "abs": Entry(
        ".models.architectures.abs:analysis_by_synthesis", _EXPLAINING,
        "one VAE per class, searched and descended; Schott et al. 2019, section 4",
        traits=frozenset({"analysis by synthesis"}),
    ),
    "binary_abs": Entry(
        ".models.architectures.abs:binary_analysis_by_synthesis", _EXPLAINING,
        "ABS of black and white images, with class weights; Schott et al. 2019, section 4",
        traits=frozenset({"analysis by synthesis"}),
    ),
    "onnx": Entry(".models.onnx_file:onnx", {}, "an ONNX file, given as `weights:`"),
    "ensemble": Entry(
        ".models.ensemble:ensemble", {"vote": "mean_logits", "members": ()},
        "models of the same sweep, given as `members:`",
    ),
}
