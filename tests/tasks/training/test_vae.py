"""The training of analysis by synthesis, on images that two numbers decide."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.abs import ABS, BinaryABS, Inference
from robsweep.tasks.training.losses.vae import kl_weight, reconstruction_and_kl, vae
from tests.tasks.trainings import setup_of, trained_with

FEW = Inference(samples=50, steps=3, lr=0.05, beta=1.0, alpha=440.0, eta=3.9e-5)


def bars(n: int = 64) -> Labelled:
    """Class 0: an upright bar, class 1: a level one; somewhere."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    images = torch.zeros(n, 1, 28, 28)
    for image, label in zip(images, labels.tolist(), strict=True):
        at = int(torch.randint(2, 22, (), generator=generator))
        if label:
            image[:, at : at + 4] = 1
        else:
            image[:, :, at : at + 4] = 1
    return Labelled(images, labels)


def fresh(*, binary: bool = False) -> ABS:
    torch.manual_seed(0)
    return (BinaryABS if binary else ABS)(2, FEW)


@pytest.fixture(scope="module")
def trained() -> ABS:
    model = fresh(binary=True)
    loss = vae(setup_of(model, bars()), kl_start=1.0, kl_end=0.1, kl_epochs=5)
    history = trained_with(model, bars(), loss, epochs=10, batch_size=16, lr=6e-3)
    assert history[-1].loss < history[0].loss / 2
    assert all(torch.isnan(torch.tensor(epoch.train_accuracy)) for epoch in history)
    assert set(history[0].loss_terms) == {"reconstruction", "kl"}
    return model


def squares(images: Tensor, guess: Tensor) -> float:
    return float((images - guess).square().flatten(1).sum(dim=1).mean())


def test_the_explanations_beat_the_mean_image_of_the_class(trained: ABS) -> None:
    images, labels = bars()
    found = trained.explain(images, steps=20)
    for c in range(2):
        own = images[labels == c]
        pixels = found.pixels[labels == c, c].reshape(own.shape)
        assert squares(own, pixels) < 0.9 * squares(own, own.mean(dim=0))
    assert float((found.loss.argmin(dim=1) == labels).float().mean()) > 0.9


def test_the_line_search_never_lowers_the_training_accuracy(trained: ABS) -> None:
    images, labels = bars(40)
    before = float((trained(images).argmax(dim=1) == labels).float().mean())
    trained.finish(Labelled(images, labels))  # type: ignore[operator]
    after = float((trained(images).argmax(dim=1) == labels).float().mean())
    assert after >= before


def test_the_losses_are_the_formulas() -> None:
    autoencoder, images = fresh().vae(0).eval(), bars(6).images
    torch.manual_seed(5)
    distance, kl = reconstruction_and_kl(autoencoder, images)
    mean, log_variance = autoencoder.encoder(images)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(8), torch.ones(8))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    assert torch.allclose(kl, expected, atol=1e-5)
    torch.manual_seed(5)
    decoded = autoencoder.decoder(posterior.mean + posterior.stddev * torch.randn_like(mean))
    assert torch.allclose(distance, (decoded - images).square().flatten(1).sum(dim=1))


def test_each_autoencoder_learns_from_its_own_class_alone() -> None:
    model, data = fresh(), bars(8)
    only = Labelled(data.images[data.labels == 1], data.labels[data.labels == 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained_with(model, only, vae(setup_of(model, only)), epochs=1, batch_size=4)
    changed = {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"vae1"}


def test_the_weight_of_the_divergence_falls_linearly() -> None:
    weights = [kl_weight(epoch, 10, 1, 3) for epoch in range(1, 7)]
    assert weights == pytest.approx([10, 7, 4, 1, 1, 1])
    assert kl_weight(1, 10, 1, 0) == 1


def test_other_models_and_mixed_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"for models 'abs' and 'binary_abs'.*not for a Linear"):
        vae(setup_of(nn.Linear(3, 2), bars()))
    model = fresh()
    with pytest.raises(InputError, match="leave out mixup, cutmix and label_smoothing"):
        trained_with(model, bars(8), vae(setup_of(model, bars())), epochs=1, label_smoothing=0.1)
