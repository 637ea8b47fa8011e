"""Output boxes of a model in training: the verifier's bounds in float32, with gradients.

They are as tight as the verifier's, but not lowered by what float32 rounds: to train, not to prove.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from robsweep.tasks.verification.bounds.backward import PLAIN, chosen_bounds
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.bounds.margins import last_affine
from robsweep.tasks.verification.reading.layers import Network
from robsweep.tasks.verification.reading.torch.module import operations_of, read, read_at

Method = Literal["interval", "crown"]


class Bounded(NamedTuple):
    """One batch: the logits of its images, and intervals on each value over their linf balls."""

    logits: Tensor  # (N, K), of the model in the mode that it is in
    network: Network
    bounds: list[Bounds]


class BoundedModel:
    """A model whose outputs are bounded again in every step, with the weights of that step.

    In training mode, the logits are those of a normal forward pass. The bounds know dropout as the
    identity, and batch normalisation with the statistics of the batch of unchanged images (in
    evaluation mode: with the running ones).
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """Raises: InputError: A layer that the verifier does not know."""
        read(model, shape)
        self.model = model
        self._operations: dict[bool, fx.GraphModule] = {}  # by mode, on which code may depend

    def __call__(self, images: Tensor, eps: float) -> Bounded:
        """Bounds over the linf balls around images (N, *shape), clipped to [0, 1]."""
        mode = self.model.training
        if mode not in self._operations:
            self._operations[mode] = operations_of(self.model)
        with _in_float32(images):
            reading = read_at(self._operations[mode], type(self.model).__name__, images)
            box = Bounds((images - eps).clamp(min=0), (images + eps).clamp(max=1))
            return Bounded(reading.logits, reading.network, interval(reading.network, box))


def output_box(bounded: Bounded, method: Method) -> Bounds:
    """Bounds on the logits, (N, K) each.

    Source: Gowal et al. 2018, section 3 (`interval`); Zhang et al. 2020, section 3.2 (`crown`:
    one backward pass over interval bounds).
    """
    if method == "interval":
        return bounded.bounds[-1]
    count, classes = bounded.logits.shape
    one = torch.eye(classes, device=bounded.logits.device, dtype=bounded.logits.dtype)
    lower = _lower(bounded, torch.cat([one, -one]).expand(count, -1, -1), 0)
    return Bounds(lower[:, :classes], -lower[:, classes:])


def margins(bounded: Bounded, labels: Tensor, method: Method) -> Tensor:
    """Lower bounds (N, K) on by how much the label's logit exceeds each other one; 0 for its own.

    Source: as `output_box`; intervals with the last affine layers joined to the difference, as in
    Gowal et al. 2018, section 3, equation 9.
    """
    classes = bounded.logits.shape[1]
    one = torch.eye(classes, device=labels.device, dtype=bounded.logits.dtype)
    rows = one[labels][:, None] - one
    back_to = last_affine(bounded.network) if method == "interval" else 0
    return _lower(bounded, rows, back_to)


def _lower(bounded: Bounded, rows: Tensor, back_to: int) -> Tensor:
    """Lower bounds (N, R) on linear forms (N, R, K) on the logits."""
    count, forms = rows.shape[:2]
    owner = torch.arange(count, device=rows.device).repeat_interleave(forms)
    flat = rows.reshape(count * forms, -1)
    with _in_float32(rows):
        carried = chosen_bounds(
            bounded.network, bounded.bounds, flat, owner, PLAIN, None, back_to=back_to
        )
    return carried.lower.deployed.reshape(count, forms)


def _in_float32(x: Tensor) -> torch.autocast:
    """Switches mixed precision off: in half precision, widths are mostly rounding."""
    return torch.autocast(x.device.type, enabled=False)
