"""The estimate of the nearest adversarial of analysis by synthesis, on prototypes and decoders."""

import pytest
import torch
from torch import Tensor

from robsweep.tasks.ball import distance
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, ModelRef
from robsweep.tasks.jobs import run
from robsweep.tasks.logits import logits_of
from robsweep.tasks.models.architectures.abs import ABS, BinaryABS, Inference
from robsweep.tasks.verification.abs_bound import distance_estimate, estimable
from tests.tasks.digit_jobs import MLP, job_of

FEW = Inference(samples=20, steps=20, lr=0.05, beta=1.0, alpha=440.0, eta=3.9e-5)


def prototypes(values: list[float]) -> ABS:
    """Decoders that give one grey image each, whatever the latents: the nearest one wins."""
    model = ABS(len(values), FEW._replace(beta=0.0, steps=1))
    for c, value in enumerate(values):
        last = model.vae(c).decoder.conv_3
        last.weight.data.zero_()
        assert last.bias is not None
        last.bias.data.fill_(torch.logit(torch.tensor(value)).item())
    return model.eval().requires_grad_(False)


def grey(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, 28, 28).contiguous()


def test_for_prototypes_on_a_line_it_is_the_distance() -> None:
    # between neighbours the boundary is half-way; sqrt(784) = 28 pixels apart per grey value
    found = distance_estimate(
        prototypes([0.2, 0.6, 0.9]),
        grey(0.3, 0.55, 0.7, 0.95, 0.5),
        torch.tensor([0, 1, 1, 2, 0]),
        steps=1,
    )
    expected = torch.tensor([0.1, 0.15, 0.05, 0.15, 0.0]).double() * 28
    # 0.95 lies outside of its neighbours: (d_c - r_y) / 2, below the true distance of 0.2
    assert torch.allclose(found.distance, expected, atol=1e-4)
    assert found.right.tolist() == [True, True, True, True, False]


def decoding() -> tuple[ABS, Tensor, Tensor]:
    """A model of two classes, images that it decodes with some noise, and its own labels."""
    torch.manual_seed(0)
    model = ABS(2, FEW)
    for c in range(2):
        decoder = model.vae(c).decoder
        decoder.conv_3.weight.data *= 20
        for norm in (decoder.bn_0, decoder.bn_1, decoder.bn_2):
            norm.running_var.uniform_(0.02, 0.1)  # type: ignore[union-attr]
    model = model.eval().requires_grad_(False)
    images = torch.cat([library.pixels[:2] for library in model.libraries()]).reshape(4, 1, 28, 28)
    images = (images + 0.02 * torch.randn(images.shape)).clamp(0, 1)
    return model, images, logits_of(model, images).argmax(dim=1)


def test_no_image_that_is_nearer_is_classified_otherwise() -> None:
    model, images, labels = decoding()
    found = distance_estimate(model, images, labels, steps=40)
    assert (found.distance > 0.1).all()
    # straight towards what the other class decodes, and in random directions
    towards = (
        model.explain(images).pixels[torch.arange(4), 1 - labels].reshape(images.shape) - images
    )
    for step in (towards, torch.randn_like(images), torch.randn_like(images)):
        unit = step / step.flatten(1).norm(dim=1)[:, None, None, None]
        near = images + 0.99 * found.distance.float()[:, None, None, None] * unit
        assert (logits_of(model, near).argmax(dim=1) == labels).all()
    far = images + towards
    assert (logits_of(model, far).argmax(dim=1) != labels).all()
    assert (distance(images, far, "l2") > found.distance).all()


def test_rows_are_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, labels = decoding()
    wrong = labels.clone()
    wrong[1] = 1 - wrong[1]
    module = "robsweep.tasks.verification.abs_bound"
    loaded = type("Loaded", (), {"model": model, "weights_sha256": "w"})
    monkeypatch.setattr(f"{module}.model_of", lambda *_: loaded)
    monkeypatch.setattr(f"{module}.labelled_data_for", lambda *_: Labelled(images, wrong))
    params = {
        "verifier": "abs_bound", "property": "untargeted distance", "norm": "l2", "eps": None,
        "group_size": 2, "parameters": {"steps": 5},
    }  # fmt: skip
    ref = ModelRef("m", "abs", {}, (1, 28, 28), 2)
    rows = run(job_of("screen", params, 0, 4, model=ref), Inputs()).tables["verification"]
    assert rows["verdict"].to_pylist() == ["unknown", "misclassified", "unknown", "unknown"]
    assert set(rows["decided_by"].to_pylist()) == {"estimate"}
    assert rows["eps"].to_pylist() == [None] * 4
    lower = rows["distance_lower"].to_pylist()
    assert lower[1] == 0
    assert min(lower[0], lower[2], lower[3]) > 0


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="'abs_bound' is for models 'abs', not for 'binary_abs'"):
        estimable(BinaryABS(2, FEW), ModelRef("m", "binary_abs", {}, (1, 28, 28), 2))
    with pytest.raises(InputError, match="leave it out by `only:`"):
        run(job_of("preflight", {"engines": [], "estimates": ["abs_bound"]}, model=MLP), Inputs())
