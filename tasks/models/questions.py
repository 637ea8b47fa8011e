"""Whether a model is what everything here takes it for: a pure function, from images to logits.

What gives numbers that mean nothing is refused; what gives numbers that mean something else than
they say is warned of.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robsweep.tasks.groups import seeded

ASKED = 8  # images that are enough to ask with

# Below, answers are the same: shares of how far a sample's logits lie apart, for the same batch and
# for another one, and of the largest logit, whose last bits are rounding.
_SAME_BATCH, _OTHER_BATCH, _LAST_BITS = 1e-3, 1e-2, 1e-5
_SUM = 1e-3  # how far probabilities of float32 may be from a sum of 1

RANDOM = (
    "answers the same images differently each time: its numbers are single draws, and its "
    "gradients noise; give attacks `eot:` (passes that are averaged), or switch off what draws "
    "(dropout in eval mode?)"
)
WRITES = (
    "writes into the images that it is given (sub_, clamp_, images[...] = ...), which does no harm "
    "only where these are copies; write `x = x - m` in place of `x.sub_(m)`"
)
DEPENDS = (
    "its answer to an image depends on the other images of its batch: the numbers hold for these "
    "batches alone, and one image can attack another; take statistics from training "
    "(batch normalisation in eval mode), not from the batch"
)
SOFTMAX = (
    "its outputs are probabilities (rows sum to 1, as after a softmax): confidences and ECE are "
    "wrong, OOD scores and attacks weaker than they are; return the logits, the layer before the "
    "softmax"
)
SIGMOID = (
    "its outputs all lie in [0, 1], as after a sigmoid: confidences and ECE are wrong, OOD scores "
    "and attacks weaker than they are; return the logits, the layer before the sigmoid"
)
LOG_SOFTMAX = (
    "its outputs are log-probabilities: nothing is wrong with accuracies, attacks and calibration, "
    "but the energy score is 0 for every image, and max_logit says what max_softmax says; for "
    "these two return the logits, the layer before the log-softmax"
)


@dataclass(frozen=True)
class Findings:
    """What is wrong with a model, in words that follow its name."""

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str | None:
        """All of it, as one cell of a table."""
        return "; ".join([*self.refusals, *self.warnings]) or None


def ask(model: nn.Module, images: Tensor) -> Findings:
    """Asks a model in eval mode, which is as before when this returns.

    Three forward passes: its answer, that with other random numbers, and that for half of the
    batch, turned round; and one of two images, to see what becomes of these.

    Args:
        images: (N, *shape) in [0, 1], of which the first few are taken.
    """
    some = images[:ASKED]
    # darker copies first, so that no half of the batch has the largest pixel of the whole
    batch = torch.cat([some / 2, some])
    state = _state(model)
    with torch.no_grad():
        given = some[:2].clone()
        model.forward(given)  # past hooks, which may make copies
        writes = not torch.equal(given, some[:2])
        _restore(model, state)
        first = _answer(model, batch, 0)
        changed = _changed(state, model)
        moved = bool(changed) and _moved(model, state, batch, first)
        _restore(model, state)
        random = _differ(first, _answer(model, batch, 1))
        _restore(model, state)
        depends = False
        if not random:
            half = len(some)
            turned = _answer(model, batch[:half].flip(0), 0).flip(0)
            # in single samples rounding may tip a step of the model, where a batch is another one
            depends = _differ(first[:half], turned, apart=_OTHER_BATCH, share=0.25)
        _restore(model, state)
    refusals, warnings = [], []
    if not torch.isfinite(first[len(some) :]).all():
        refusals.append(f"gave logits that are not finite for some of {len(some)} images")
    if changed:
        names = ", ".join(changed[:3]) + (" ..." if len(changed) > 3 else "")
        if moved:
            refusals.append(
                f"changes its own state ({names}) when it is asked in eval mode, and its answers "
                "with it: what is measured would depend on what was asked before; change nothing "
                "in `forward` unless `self.training`"
            )
        else:
            warnings.append(
                f"changes its own state ({names}) when it is asked in eval mode; its answers do "
                "not seem to change with it; change nothing in `forward` unless `self.training`"
            )
    if writes:
        warnings.append(WRITES)
    if random and not refusals:
        warnings.append(RANDOM)
    if depends and not refusals:
        warnings.append(DEPENDS)
    if (scale := scale_of(first[len(some) :])) is not None:
        warnings.append(scale)
    return Findings(tuple(refusals), tuple(warnings))


def ask_trained(model: nn.Module, images: Tensor) -> Findings:
    """The same of a model that has just been made here: whatever happens, its weights are kept."""
    try:
        return ask(model, images)
    except Exception as error:  # noqa: BLE001  any kind: a user's model
        return Findings((f"cannot be asked about itself: {type(error).__name__}: {error}",))


def scale_of(outputs: Tensor) -> str | None:
    """What outputs (N, K) are, if they are no logits."""
    values = outputs.double()
    if not torch.isfinite(values).all() or len(torch.unique(values)) < 3 or values.shape[1] < 2:
        return None  # says nothing, e.g. of a model that has yet to be fitted
    ones = torch.ones(len(values), dtype=torch.float64, device=values.device)
    if values.min() >= 0 and values.max() <= 1:
        summed = torch.allclose(values.sum(dim=1), ones, atol=_SUM, rtol=0)
        return SOFTMAX if summed else SIGMOID
    if values.max() <= _SUM and torch.allclose(values.exp().sum(dim=1), ones, atol=_SUM, rtol=0):
        return LOG_SOFTMAX
    return None


def _answer(model: nn.Module, images: Tensor, draw: int) -> Tensor:
    with seeded(draw, "preflight", 1):
        logits: Tensor = model(images.clone())
    return logits.detach().clone()


def _moved(model: nn.Module, state: dict[str, Tensor], batch: Tensor, first: Tensor) -> bool:
    """Whether a model answers otherwise in the state that its first answer has left it in."""
    second = _answer(model, batch, 0)
    _restore(model, state)
    again = _answer(model, batch, 0)  # it may draw from a generator of its own
    return _differ(first, second) and not _differ(first, again)


def _differ(one: Tensor, other: Tensor, *, apart: float = _SAME_BATCH, share: float = 0) -> bool:
    """Whether answers (N, K) differ by more than rounding, in more than a share of the samples."""
    if one.shape != other.shape:
        return True
    one, other = one.nan_to_num(), other.nan_to_num()
    spread = (one.amax(dim=1) - one.amin(dim=1)).max()
    least = apart * spread + _LAST_BITS * one.abs().max()
    return bool(((one - other).abs().amax(dim=1) > least).float().mean() > share)


def _state(model: nn.Module) -> dict[str, Tensor]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def _changed(before: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Names of the parameters and buffers that are no longer what they were."""
    now = dict([*model.named_parameters(), *model.named_buffers()])
    return sorted(
        name
        for name in before.keys() | now.keys()
        if name not in before or name not in now or not _same(before[name], now[name])
    )


def _same(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and torch.equal(one.nan_to_num(), other.detach().nan_to_num())


def _restore(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Only what has changed: models keep things that hang on a tensor's version."""
    now = dict([*model.named_parameters(), *model.named_buffers()])
    for name, tensor in now.items():
        if name in state and not _same(state[name], tensor) and state[name].shape == tensor.shape:
            with torch.no_grad():
                tensor.copy_(state[name])
