"""Every attack by name: foolbox's and our own. Torch-free."""

from tasks.entries import Attack
from tasks.foolbox_catalogue import FOOLBOX

OWN: dict[str, Attack] = {
    "apgd_ce": Attack(
        "tasks.attacks.apgd:apgd_ce", ("linf", "l2", "l1"), "fixed_eps",
        {"steps": 100, "eot": 1}, "Croce & Hein 2020, section 3; 2021", "white_box",
    ),
    "apgd_dlr": Attack(
        "tasks.attacks.apgd:apgd_dlr", ("linf", "l2", "l1"), "fixed_eps",
        {"steps": 100, "eot": 1}, "Croce & Hein 2020, section 4; 2021", "white_box",
    ),
    "apgd_targeted": Attack(
        "tasks.attacks.apgd:apgd_targeted", ("linf", "l2", "l1"), "fixed_eps",
        {"steps": 100, "classes": 9, "eot": 1},
        "Croce & Hein 2020, section 4.2; 2021", "white_box",
    ),
}

ATTACKS: dict[str, Attack] = {**FOOLBOX, **OWN}
