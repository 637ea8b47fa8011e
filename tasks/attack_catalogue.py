"""Every attack by name: foolbox's and our own. Torch-free."""

from tasks.entries import Attack
from tasks.foolbox_catalogue import FOOLBOX

OWN: dict[str, Attack] = {
    "sigma_zero": Attack(
        "tasks.attacks.sigma_zero:sigma_zero", ("l0",), "min_norm",
        {"steps": 1000, "lr": 1.0, "sigma": 1e-3, "tau": 0.3, "t": 0.01},
        "sigma-zero, Cinà et al. 2025, section 3, algorithm 1", "white_box",
    ),
}  # fmt: skip

ATTACKS: dict[str, Attack] = {**FOOLBOX, **OWN}
