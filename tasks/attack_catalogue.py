"""Every attack by name: foolbox's and our own. Torch-free."""

from tasks.entries import Attack
from tasks.foolbox_catalogue import FOOLBOX

OWN: dict[str, Attack] = {}

ATTACKS: dict[str, Attack] = {**FOOLBOX, **OWN}
