"""Networks whose exact distance is known: linear ones, and ones that fall in every pixel."""

import pytest
import torch
from torch import Tensor, nn

from tests.tasks.verification.deciding import margin_at, verdict_of

pytest.importorskip("ortools")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)])
def test_a_linear_model_is_robust_up_to_its_margin_over_the_1_norm(
    shape: tuple[int, ...], seed: int
) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval().requires_grad_(False)
    image = torch.rand(shape) * 0.5 + 0.25
    logits = net(image[None])[0].double()
    label = int(logits.argmax())
    weight = net[1].weight.double()
    norms = (weight[label] - weight).abs().sum(1)
    distance = min(float((logits[label] - logits[c]) / norms[c]) for c in range(4) if c != label)
    assert distance < 0.25  # so that no pixel is clipped
    assert verdict_of(net, image, label, distance * (1 - 1e-3)) == "verified"
    assert verdict_of(net, image, label, distance * (1 + 1e-3)) == "falsified"


class Monotone(nn.Module):
    """The margin of class 0 falls in `x * sign`: the exact minimum is in a corner that is known.

    All weights behind the signs are >= 0, but those to class 0, which are <= 0.
    """

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kind = kind
        self.register_buffer("sign", torch.rand(2, 6, 6).round() * 2 - 1)
        self.first = nn.Conv2d(2, 3, 3, padding=1, stride=1 if kind == "residual" else 2)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.pool = {
            "max": nn.MaxPool2d(2, 1),
            "overlapping": nn.MaxPool2d(3, 2, 1),
            "average": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        }.get(kind, nn.Identity())
        self.hidden, self.out = nn.LazyLinear(6), nn.Linear(6, 3)
        with torch.no_grad():
            self(torch.zeros(1, 2, 6, 6))
            self.image = torch.rand(2, 6, 6) * 0.9 + 0.05
            for layer in (self.first, self.second, self.hidden, self.out):
                layer.weight.abs_()
                layer.bias.zero_()
            for layer in (self.first, self.second, self.hidden):  # half on, half off
                before: list[Tensor] = []
                hook = layer.register_forward_hook(lambda _, __, out, b=before: b.append(out))
                self(self.image[None])
                hook.remove()
                if before:
                    layer.bias -= before[0].transpose(0, 1).flatten(1).median(1).values
            self.out.weight[0] *= -1
            logits = self(self.image[None])[0]
            self.out.bias[0] = logits[1:].max() - logits[0] + 0.5

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.sign * (x - 0.5))
        if self.kind == "residual":
            x = torch.relu(x + self.second(torch.relu(x)))
        else:
            x = torch.relu(self.second(self.pool(torch.relu(x))))
        out: Tensor = self.out(torch.relu(self.hidden(torch.flatten(x, 1))))
        return out

    def worst(self, eps: float) -> float:
        """The exact smallest margin in the ball."""
        corner = (self.image.double() + eps * self.sign).clamp(0, 1)
        return float(margin_at(self, corner[None], 0)[0])

    def distance(self) -> float:
        low, high = 0.0, 1.0
        assert self.worst(low) > 0 >= self.worst(high)
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.worst(middle) > 0 else (low, middle)
        return low


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["conv", "residual", "max", "overlapping", "average"])
def test_a_monotone_network_flips_at_its_exact_distance(kind: str, seed: int) -> None:
    net = Monotone(kind, seed).eval().requires_grad_(False)
    distance = net.distance()
    random = net.image + distance * (2 * torch.rand(1000, 2, 6, 6) - 1)
    assert (margin_at(net, random.clamp(0, 1), 0) > 0).all()
    for share, verdict in ((0.5, "verified"), (0.999, "verified"), (1.001, "falsified")):
        assert verdict_of(net, net.image, 0, share * distance) == verdict, share
