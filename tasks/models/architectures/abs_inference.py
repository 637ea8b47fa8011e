"""Which latents explain an image best: a search among fixed ones, then gradient descent."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LATENTS = 8
RADIUS = 5.0  # of the ball that latents are kept in
PIXELS = 784
_STRIDES = (1, 2, 2, 1)
_SEED = 0  # of the latents that are searched
_DECODED = 500  # images that are decoded at once


@dataclass(frozen=True)
class Generator:
    """The decoder of one class as it is in eval mode, without parameter gradients.

    Batch normalisation is part of the weights, and channels are the last dimension in memory:
    both make a step of descent faster.
    """

    weights: tuple[Tensor, ...]  # of transposed convolutions, (in, out, k, k)
    biases: tuple[Tensor, ...]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, 8) -> pixels (N, 784) in [0, 1]."""
        last = len(self.weights) - 1
        x = latents[:, :, None, None]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.conv_transpose2d(x, weight, bias, stride=_STRIDES[i])
            x = F.elu(x) if i < last else torch.sigmoid(x)
        return x.flatten(1)


@dataclass(frozen=True)
class Library:
    """What the search of one class chooses from."""

    generator: Generator
    latents: Tensor  # (S, 8), the same ones for every class
    pixels: Tensor  # (S, 784), decoded from them
    squares: Tensor  # (S,), ||pixels||^2

    @classmethod
    def of(cls, generator: Generator, samples: int) -> "Library":
        latents = inside(torch.randn(samples, LATENTS, generator=_generator()))
        latents = latents.to(generator.biases[0].device)
        pixels = torch.cat([generator.decode(part) for part in latents.split(_DECODED)])  # type: ignore[no-untyped-call]
        return cls(generator, latents, pixels, pixels.square().sum(1))

    def best(self, pixels: Tensor, beta: float) -> Tensor:
        """The latents (N, 8) whose loss for pixels (N, 784) is lowest."""
        fixed = self.squares + beta / 2 * self.latents.square().sum(1)
        # up to the image's own square, which is the same for all latents
        loss = torch.addmm(fixed, pixels, self.pixels.T, alpha=-2)
        return self.latents[loss.argmin(1)]

    def descended(
        self, pixels: Tensor, start: Tensor, beta: float, *, steps: int, lr: float
    ) -> Tensor:
        """Latents (N, 8) after steps of Adam from `start`, each inside the ball of RADIUS.

        Adam scales each number by itself, so what becomes of an image does not depend on the
        others of its batch, but for rounding.
        """
        with torch.enable_grad():
            latents = start.clone().requires_grad_(True)
            optimizer = torch.optim.Adam([latents], lr=lr)
            for _ in range(steps):
                loss = loss_of(pixels, self.generator.decode(latents), latents, beta)
                (latents.grad,) = torch.autograd.grad(loss.sum(), latents)
                optimizer.step()
                with torch.no_grad():
                    latents.copy_(inside(latents))
        return latents.detach()


def loss_of(pixels: Tensor, decoded: Tensor, latents: Tensor, beta: float) -> Tensor:
    """(||x - G(z)||^2 + beta/2 ||z||^2) / 784 over the last dimension, (...).

    Source: Schott et al. 2019, section 4.
    """
    distance = (pixels - decoded).square().sum(-1)
    return (distance + beta / 2 * latents.square().sum(-1)) / PIXELS


def inside(latents: Tensor) -> Tensor:
    """Latents (..., 8), those outside of the ball of RADIUS on its surface."""
    norm = torch.linalg.vector_norm(latents, dim=-1, keepdim=True)
    result: Tensor = latents * (RADIUS / norm).clamp(max=1)
    return result


def folded(
    weight: Tensor, bias: Tensor, norm: torch.nn.BatchNorm2d | None
) -> tuple[Tensor, Tensor]:
    """A transposed convolution (in, out, k, k) with the batch normalisation behind it."""
    w, b = weight.double(), bias.double()
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        w = w * scale[:, None, None]
        b = (b - norm.running_mean.double()) * scale + norm.bias.double()
    return w.float().contiguous(memory_format=torch.channels_last), b.float()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)


def probability(logits: Tensor, eta: float) -> Tensor:
    """Largest of (exp(l) + eta) / sum(exp(l) + eta), float64 (N,); logits (N, K) are at most 0.

    Far from all that was seen every exp(l) is far below eta, and the result is near 1 / K.
    Source: Schott et al. 2019, section 4, equation 8.
    """
    floor = torch.tensor(eta, dtype=torch.float64, device=logits.device).log()
    return torch.softmax(torch.logaddexp(logits.double(), floor), dim=1).amax(1)
