"""AutoAttack: parameter-free attacks one after the other, each on what the others left."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.averaged import Averaged
from robsweep.tasks.attacks.count import on
from robsweep.tasks.attacks.methods.apgd import apgd_ce, apgd_dlr, apgd_targeted
from robsweep.tasks.attacks.methods.fab import fab, fab_targeted
from robsweep.tasks.attacks.methods.square import square
from robsweep.tasks.errors import InputError
from robsweep.tasks.logits import margin, raw_logits

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]

_RESTARTS = 5  # of the untargeted ones, in `plus`
_EOT = 20  # passes per gradient, in `rand`


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    norm: str,
    version: str = "standard",
) -> Tensor:
    """The first adversarial inside the ball that any of the attacks finds, (N, ...).

    Where none does, the image for which the label wins by least.

    Args:
        images: (N, ...) in [0, 1], classified correctly.
        norm: linf, l2 or l1.
        version: `standard`: APGD-CE, targeted APGD, targeted FAB, Square. `plus`: five restarts of
            APGD-CE, APGD-DLR and FAB, then Square and the targeted ones. `rand`, for models that
            answer at random: APGD-CE and APGD-DLR on the mean of 20 passes.

    Raises:
        InputError: There is no such version.
    Source: Croce & Hein 2020, section 6; for l1 Croce & Hein 2021 (Mind the box), section 5.
    """
    result = images.clone()
    lowest = margin(raw_logits(model, images), labels)
    left = lowest > 0
    for attack in _attacks(version, norm, eps):
        which = left.nonzero().flatten()
        if not len(which):
            break
        part, x, y = on(model, which), images[which], labels[which]
        found = ball.pull_inside(x, attack(part, x, y), norm, eps)
        judge = Averaged(part, _EOT) if version == "rand" else part
        reached = margin(raw_logits(judge, found), y)
        better = reached < lowest[which]
        result[which[better]], lowest[which[better]] = found[better], reached[better]
        left[which] = lowest[which] > 0
    return result


def _attacks(version: str, norm: str, eps: float) -> list[Attack]:
    ce, dlr, targeted = (
        partial(attack, eps=eps, norm=norm) for attack in (apgd_ce, apgd_dlr, apgd_targeted)
    )
    closest, closest_targeted = partial(fab, norm=norm), partial(fab_targeted, norm=norm)
    queries = partial(square, eps=eps, norm=norm)
    match version:
        case "standard":
            return [ce, targeted, closest_targeted, queries]
        case "plus":
            again = [attack for attack in (ce, dlr, closest) for _ in range(_RESTARTS)]
            return [*again, queries, targeted, closest_targeted]
        case "rand":
            return [partial(ce, eot=_EOT), partial(dlr, eot=_EOT)]
    raise InputError(f"unknown version {version!r} of autoattack: standard, plus or rand")
