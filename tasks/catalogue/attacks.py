"""Every attack by name: foolbox's and our own. Torch-free."""

from robsweep.tasks.catalogue.entries import Attack
from robsweep.tasks.catalogue.foolbox import FOOLBOX

OWN: dict[str, Attack] = {
    "apgd_ce": Attack(
        ".attacks.methods.apgd:apgd_ce", ("linf", "l2", "l1"), "fixed_eps",
        {"steps": 100}, "Croce & Hein 2020, section 3; 2021", "white_box",
    ),
    "apgd_dlr": Attack(
        ".attacks.methods.apgd:apgd_dlr", ("linf", "l2", "l1"), "fixed_eps",
        {"steps": 100}, "Croce & Hein 2020, section 4; 2021", "white_box",
    ),
    "apgd_targeted": Attack(
        ".attacks.methods.apgd:apgd_targeted", ("linf", "l2", "l1"), "fixed_eps",
        {"steps": 100, "classes": 9},
        "Croce & Hein 2020, section 4.2; 2021", "white_box",
    ),
    "fab": Attack(
        ".attacks.methods.fab:fab", ("linf", "l2", "l1"), "min_norm",
        {"steps": 100},
        "Croce & Hein 2020 (FAB), algorithm 1", "white_box",
    ),
    "fab_targeted": Attack(
        ".attacks.methods.fab:fab_targeted", ("linf", "l2", "l1"), "min_norm",
        {"steps": 100, "classes": 9},
        "Croce & Hein 2020 (AutoAttack), section 5", "white_box",
    ),
    "square": Attack(
        ".attacks.methods.square:square", ("linf", "l2", "l1"), "fixed_eps",
        {"queries": 5000, "p_init": 0.8},
        "Andriushchenko et al. 2020, algorithms 1 to 3", "black_box",
    ),
    "autoattack": Attack(
        ".attacks.methods.autoattack:autoattack", ("linf", "l2", "l1"), "fixed_eps",
        {"version": "standard"}, "Croce & Hein 2020, section 6; 2021", "white_box",
    ),
    "evasion": Attack(
        ".attacks.methods.evasion:evade", ("linf", "l2"), "fixed_eps",
        {"steps": 200, "rel_step_size": 0.1, "how": "orthogonal"},
        "selective and orthogonal PGD on model and detector, Bryniarski et al. 2022, section 4",
        "white_box", detects=True,
    ),
    "latent_descent": Attack(
        ".attacks.methods.latent_descent:latent_descent", ("linf", "l2", "l0"), "min_norm",
        {"steps": 50, "rel_step_size": 0.05},
        "latent descent, Schott et al. 2019, section 5", "white_box",
        needs=frozenset({"analysis by synthesis"}),
    ),
    "sigma_zero": Attack(
        ".attacks.methods.sigma_zero:sigma_zero", ("l0",), "min_norm",
        {"steps": 1000, "lr": 1.0, "sigma": 1e-3, "tau": 0.3, "t": 0.01},
        "sigma-zero, Cinà et al. 2025, section 3, algorithm 1", "white_box",
    ),
}

ATTACKS: dict[str, Attack] = {**FOOLBOX, **OWN}
