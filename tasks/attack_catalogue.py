"""Every attack by name: foolbox's and our own. Torch-free."""

from tasks.entries import Attack
from tasks.foolbox_catalogue import FOOLBOX

OWN: dict[str, Attack] = {
    "evasion": Attack(
        "tasks.attacks.evasion:evade", ("linf", "l2"), "fixed_eps",
        {"steps": 200, "rel_step_size": 0.1, "how": "orthogonal"},
        "selective and orthogonal PGD on model and detector, Bryniarski et al. 2022, section 4",
        "white_box",
    ),
    "latent_descent": Attack(
        "tasks.attacks.latent_descent:latent_descent", ("linf", "l2", "l0"), "min_norm",
        {"steps": 50, "rel_step_size": 0.05},
        "latent descent, Schott et al. 2019, section 5", "white_box",
        needs=frozenset({"analysis by synthesis"}),
    ),
    "sigma_zero": Attack(
        "tasks.attacks.sigma_zero:sigma_zero", ("l0",), "min_norm",
        {"steps": 1000, "lr": 1.0, "sigma": 1e-3, "tau": 0.3, "t": 0.01},
        "sigma-zero, Cinà et al. 2025, section 3, algorithm 1", "white_box",
    ),
}  # fmt: skip

ATTACKS: dict[str, Attack] = {**FOOLBOX, **OWN}
