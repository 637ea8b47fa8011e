"""Analysis by synthesis: the class whose variational autoencoder explains the image best."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.abs_inference import (
    LATENTS,
    Generator,
    Library,
    folded,
    loss_of,
    probability,
)
from robsweep.tasks.models.architectures.abs_nets import Threshold, check_shape, layers

_PUBLISHED = (1.0, 0.96, 1.001, 1.06, 0.98, 0.96, 1.03, 1.0, 1.0, 1.0)
_SEARCHED = 1000  # training images that the line search of the class weights looks at
_FACTORS = tuple(0.9 + 0.005 * i for i in range(41))  # 0.9 to 1.1
_DESCENDED = 50  # images that are explained at once there


def analysis_by_synthesis(
    shape: tuple[int, ...],
    classes: int,
    *,
    samples: int = 8000,
    steps: int = 50,
    lr: float = 0.05,
    beta: float = 1.0,
    alpha: float = 440.0,
    eta: float = 3.9e-5,
) -> nn.Module:
    """One variational autoencoder per class; minus the loss of the best explanation by each.

    (N, 1, 28, 28) in [0, 1] -> logits (N, classes), at most 0.

    Args:
        samples: Latents that are drawn once, and decoded by every class.
        steps: Of gradient descent (Adam) from the best of them.
        lr: Of these steps.
        beta: Weight of the prior, ||z||^2 / 2, against the squared distance.
        alpha: Factor on the loss per pixel.
        eta: Makes the confidence of what no class explains uniform.

    Source: Schott et al. 2019, section 4.
    """
    check_shape("abs", shape)
    return ABS(classes, Inference(samples, steps, lr, beta, alpha, eta))


def binary_analysis_by_synthesis(
    shape: tuple[int, ...],
    classes: int,
    *,
    samples: int = 8000,
    steps: int = 50,
    lr: float = 0.05,
    beta: float = 1.0,
    alpha: float = 440.0,
    eta: float = 3.9e-5,
) -> nn.Module:
    """The same on images whose pixels are set to 0 or 1 first, with a weight per class.

    The weights are the published ones where there are ten classes and the file has none.
    Source: Schott et al. 2019, section 4, Binary ABS.
    """
    check_shape("binary_abs", shape)
    return BinaryABS(classes, Inference(samples, steps, lr, beta, alpha, eta))


class Inference(NamedTuple):
    """How an explanation is sought and read; see `analysis_by_synthesis`."""

    samples: int
    steps: int
    lr: float
    beta: float
    alpha: float
    eta: float


class Explanations(NamedTuple):
    """What every class makes of N images."""

    latents: Tensor  # (N, K, 8)
    pixels: Tensor  # (N, K, 784), decoded from them
    loss: Tensor  # (N, K), per pixel; differentiable in the images


class Encoder(nn.Module):
    """Images (N, 1, 28, 28) -> means and log-variances of the latents, (N, 8) each."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in layers((32, 32, 64, 2 * LATENTS)).items():
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images
        for layer in self.children():
            x = layer(x)
        mean, log_variance = x.chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Latents (N, 8) -> images (N, 1, 28, 28) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_0 = nn.ConvTranspose2d(LATENTS, 32, 4)
        self.bn_0 = nn.BatchNorm2d(32)
        self.conv_1 = nn.ConvTranspose2d(32, 16, 5, stride=2)
        self.bn_1 = nn.BatchNorm2d(16)
        self.conv_2 = nn.ConvTranspose2d(16, 16, 5, stride=2)
        self.bn_2 = nn.BatchNorm2d(16)
        self.conv_3 = nn.ConvTranspose2d(16, 1, 4)

    def forward(self, latents: Tensor) -> Tensor:
        x = F.elu(self.bn_0(self.conv_0(latents[:, :, None, None])))
        x = F.elu(self.bn_1(self.conv_1(x)))
        x = F.elu(self.bn_2(self.conv_2(x)))
        return torch.sigmoid(self.conv_3(x))

    def frozen(self) -> Generator:
        """The decoder of eval mode, whatever mode it is in."""
        pairs = (
            (self.conv_0, self.bn_0),
            (self.conv_1, self.bn_1),
            (self.conv_2, self.bn_2),
            (self.conv_3, None),
        )
        weights, biases = [], []
        for conv, norm in pairs:
            assert conv.bias is not None
            weight, bias = folded(conv.weight, conv.bias, norm)
            weights.append(weight)
            biases.append(bias)
        return Generator(tuple(weights), tuple(biases))


class VAE(nn.Module):
    """The variational autoencoder of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()


class ABS(nn.Module):
    """Its forward pass searches and descends: hundreds of decodings an image, also without grad.

    The gradient in the images is that of the loss with the explanation held fixed, which is exact
    where the explanation is a minimum (envelope theorem).
    """

    def __init__(self, classes: int, inference: Inference) -> None:
        super().__init__()
        if inference.samples < 1:
            raise InputError(
                f"analysis by synthesis needs samples of at least 1, got {inference.samples}"
            )
        self.classes, self.inference = classes, inference
        for c in range(classes):
            self.add_module(f"vae{c}", VAE())
        self._kept: tuple[tuple[tuple[int, int], ...], tuple[Library, ...]] = ((), ())

    def vae(self, label: int) -> VAE:
        return self.get_submodule(f"vae{label}")  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Tensor:
        return -self.inference.alpha * self.explain(images).loss

    def confidence(self, logits: Tensor) -> Tensor:
        """Largest class probability of logits (N, K), float64 (N,)."""
        return probability(logits, self.inference.eta)

    def explain(
        self, images: Tensor, *, beta: float | None = None, steps: int | None = None
    ) -> Explanations:
        """The best explanation of images (N, 1, 28, 28) by every class.

        Args:
            beta: Weight of the prior, if not the model's.
            steps: Of descent, if not the model's.
        """
        lr = self.inference.lr
        beta = self.inference.beta if beta is None else beta
        steps = self.inference.steps if steps is None else steps
        x = images.flatten(1)
        with torch.no_grad():
            pixels = x.detach()
            latents, decoded = [], []
            for library in self.libraries():
                start = library.best(pixels, beta)
                latents.append(library.descended(pixels, start, beta, steps=steps, lr=lr))
                decoded.append(library.generator.decode(latents[-1]))
            z, g = torch.stack(latents, 1), torch.stack(decoded, 1)
        return Explanations(z, g, loss_of(x[:, None], g, z, beta))

    def libraries(self) -> tuple[Library, ...]:
        """What each class searches: decoded once, and again after the weights have changed."""
        tensors = [
            tensor
            for c in range(self.classes)
            for tensor in self.vae(c).decoder.state_dict(keep_vars=True).values()
        ]
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if self._kept[0] != state:
            with torch.no_grad():
                libraries = tuple(
                    Library.of(self.vae(c).decoder.frozen(), self.inference.samples)
                    for c in range(self.classes)
                )
            self._kept = (state, libraries)
        return self._kept[1]


class BinaryABS(ABS):
    """Analysis by synthesis of images that are black and white."""

    has_default = frozenset({"class_weights"})
    class_weights: Tensor  # (K,), factors on the classes' losses

    def __init__(self, classes: int, inference: Inference) -> None:
        super().__init__(classes, inference)
        self.threshold = Threshold()
        ones = torch.ones(classes)
        known = classes == len(_PUBLISHED)
        self.register_buffer("class_weights", torch.tensor(_PUBLISHED) if known else ones)

    def forward(self, images: Tensor) -> Tensor:
        loss = self.explain(self.threshold(images)).loss
        return -self.inference.alpha * self.class_weights * loss

    def finish(self, train: Labelled) -> None:
        """Fits the class weights to the accuracy on the first 1,000 training images.

        One class after the other, each on a line from 0.9 to 1.1; a weight moves only where that
        makes more images right, so that the accuracy on these images never falls.
        Source: Schott et al. 2019, section 4, and appendix.
        """
        device = self.class_weights.device
        images, labels = (part[:_SEARCHED].to(device) for part in train)
        with torch.no_grad():
            loss = torch.cat(
                [self.explain(self.threshold(part)).loss for part in images.split(_DESCENDED)]  # type: ignore[no-untyped-call]
            )
            # from ones: the published weights belong to other autoencoders
            start = torch.ones_like(self.class_weights)
            self.class_weights.copy_(line_search(loss, labels, start))


def line_search(loss: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weights (K,) under which the smallest weighted loss (N, K) is the label's more often."""

    def correct(tried: Tensor) -> int:
        return int(((loss * tried).argmin(1) == labels).sum())

    best, most = weights.clone(), correct(weights)
    for c in range(len(weights)):
        for factor in sorted(_FACTORS, key=lambda factor: abs(factor - 1)):
            tried = best.clone()
            tried[c] = factor
            if (count := correct(tried)) > most:
                best, most = tried, count
    return best
