"""Published networks by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Net

_ABS = "Schott et al. 2019, the authors' weights"
_MIPVERIFY = "as converted for Tjeng et al. 2019"

NETS: dict[str, Net] = {
    "wk17a_linf0.1": Net(
        "wk17a_linf0.1.safetensors", "wk17a",
        "847e160ddaadbec79b5e4291b63b5ff857a0cb21ba88069ef1362c491e56f124",
        f"Wong & Kolter 2018, {_MIPVERIFY}",
    ),
    "rsl18a_linf0.1": Net(
        "rsl18a_linf0.1.safetensors", "rsl18a",
        "2f436b574886de8e810e2c8ef616db1c09df1f77f22880554bfe3d5a98179654",
        f"Raghunathan et al. 2018, {_MIPVERIFY}",
    ),
    "abs_vanilla_cnn": Net(
        "abs_vanilla_cnn.safetensors", "abs_cnn",
        "dd137d99ae1a5aebf9d6609bc14d9dbaf2ac251330f07f43dbac095d0e581643", _ABS,
    ),
    "abs_binary_cnn": Net(
        "abs_binary_cnn.safetensors", "abs_binary_cnn",
        "f8c4312bde3cee5c2eb98f30326572be51d2531322f4e00eae64bfd128934d1e", _ABS,
    ),
    "abs_transfer_cnn": Net(
        "abs_transfer_cnn.safetensors", "abs_transfer_cnn",
        "2d46d5acb9e11f83cdd051a80b70dd22f93caceeb0f3f4feef888b18ef55dd80", _ABS,
    ),
    "abs_authors": Net(
        "abs_authors.safetensors", "abs",
        "2ef832473e49a06738eb7793bd9f73f4dde0abe81d237576327782b83fc79c47",
        f"{_ABS}, for arch abs and binary_abs",
    ),
}
