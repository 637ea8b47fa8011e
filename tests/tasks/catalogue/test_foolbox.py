"""The catalogue against foolbox itself."""

import inspect

import pytest

from robsweep.tasks.attacks.foolbox_attacks import foolbox_class, foolbox_name
from robsweep.tasks.catalogue.foolbox import FOOLBOX

foolbox = pytest.importorskip("foolbox")

# Parameters that are not offered, and why.
NOT_OFFERED = {
    "distance": "the job measures",
    "init_attack": "the job gives the starting points",
    "tensorboard": "no logs beside the store",
    "channel_axis": "images are (N, C, H, W)",
}
# Entries that are older than the rule that defaults are foolbox's.
OTHER_DEFAULTS = {
    "LinfHopSkipJump": {"steps", "initial_gradient_eval_steps", "max_gradient_eval_steps"},
    "L2Boundary": {"steps"},
}


def test_every_class_of_foolbox_is_listed() -> None:
    bases = {foolbox.attacks.Attack}
    classes = {
        kind
        for kind in vars(foolbox.attacks).values()
        if inspect.isclass(kind) and issubclass(kind, foolbox.attacks.Attack)
    }
    assert classes - bases == {foolbox_class(attack.path) for attack in FOOLBOX.values()}


@pytest.mark.parametrize("name", FOOLBOX)
def test_parameters_and_defaults_are_foolboxs(name: str) -> None:
    attack = FOOLBOX[name]
    kind = foolbox_class(attack.path)
    fixed_eps = issubclass(kind, foolbox.attacks.base.FixedEpsilonAttack)
    assert attack.gives == ("fixed_eps" if fixed_eps else "min_norm")
    theirs = {p.name: p.default for p in inspect.signature(kind).parameters.values()}
    ours = {foolbox_name(key): value for key, value in attack.parameters.items()}
    needs_starts = {"binary_search_steps"} if "FMN" in name else set()  # of no use without
    assert theirs.keys() == ours.keys() | attack.fixed.keys() | needs_starts | (
        NOT_OFFERED.keys() & theirs.keys()
    )
    assert attack.later <= attack.parameters.keys()
    for key, default in ours.items():
        if key == "rel_stepsize" and name.endswith("PGD"):
            assert default * ours["steps"] >= 2 > theirs[key] * theirs["steps"]  # across the ball
        elif key in OTHER_DEFAULTS.get(name, ()):
            assert default < theirs[key]
        elif theirs[key] is None:
            assert default in (0.0, ()) or (key, default) == ("threshold", 0.5)
        else:
            assert default == (int if theirs[key] is inspect.Parameter.empty else theirs[key])
            assert not isinstance(theirs[key], bool) or isinstance(default, bool)
