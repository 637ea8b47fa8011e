"""Analysis by synthesis on fresh weights, with few latents and steps; and its baselines."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robsweep.tasks.catalogue import MODELS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef
from robsweep.tasks.logits import confidence, logits_of
from robsweep.tasks.models.architectures.abs import ABS, BinaryABS, Inference, line_search
from robsweep.tasks.models.architectures.abs_inference import RADIUS, inside, loss_of
from robsweep.tasks.models.architectures.abs_nets import Threshold
from robsweep.tasks.models.load import build, load
from robsweep.tasks.models.weights import to_bytes
from tests.tasks.digit_jobs import job_of

CPU = torch.device("cpu")
FEW = Inference(samples=20, steps=5, lr=0.05, beta=1.0, alpha=440.0, eta=3.9e-5)


def small(inference: Inference = FEW, *, binary: bool = False, classes: int = 3) -> ABS:
    """Classes whose images differ: fresh weights alone decode everything to grey."""
    torch.manual_seed(0)
    model = (BinaryABS if binary else ABS)(classes, inference)
    for c in range(classes):
        decoder = model.vae(c).decoder
        decoder.conv_3.weight.data *= 20
        for norm in (decoder.bn_0, decoder.bn_1, decoder.bn_2):
            norm.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.02, 0.1)  # type: ignore[union-attr]
    return model.eval().requires_grad_(False)


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def ref_of(arch: str, **parameters: object) -> ModelRef:
    return ModelRef("m", arch, {**MODELS[arch].parameters, **parameters}, (1, 28, 28), 10)


def test_the_search_decodes_as_the_decoders_do() -> None:
    model = small()
    for c, library in enumerate(model.libraries()):
        expected = model.vae(c).decoder(library.latents).flatten(1)
        assert torch.allclose(library.pixels, expected, atol=1e-5)
        assert library.pixels.std() > 0.05


def test_a_decoder_in_train_mode_is_searched_as_in_eval_mode() -> None:
    model = small()
    expected = model(images())
    assert torch.equal(model.train()(images()), expected)


def test_the_best_of_all_latents_is_chosen() -> None:
    pixels = images().flatten(1)
    for beta in (0.0, 1.0, 50.0):
        for library in small().libraries():
            loss = loss_of(pixels[:, None], library.pixels, library.latents, beta)
            assert torch.equal(library.best(pixels, beta), library.latents[loss.argmin(dim=1)])


def test_descent_improves_on_the_search_and_stays_in_the_ball() -> None:
    model = small()
    start, end = model.explain(images(), steps=0), model.explain(images(), steps=60)
    assert (end.loss <= start.loss + 1e-6).all()
    assert (end.loss < start.loss - 1e-5).any()
    away = model.libraries()[0].descended(
        images().flatten(1), start.latents[:, 0] + 4, 0.0, steps=3, lr=5.0
    )
    assert (away.norm(dim=1) <= RADIUS * 1.00001).all()
    assert inside(torch.full((1, 8), 9.0)).norm() == pytest.approx(RADIUS)


def test_a_decoded_image_belongs_to_its_decoder() -> None:
    model = small(FEW._replace(beta=0.0))
    for c, library in enumerate(model.libraries()):
        decoded = library.pixels[3:5].reshape(2, 1, 28, 28)
        found = model.explain(decoded)
        assert (found.loss.argmin(dim=1) == c).all()
        assert (found.loss[:, c] < 1e-3).all()


def test_logits_are_minus_the_loss_at_the_explanation() -> None:
    model, x = small(), images()
    found = model.explain(x)
    distance = (x.flatten(1)[:, None] - found.pixels).square().sum(dim=2)
    loss = (distance + found.latents.square().sum(dim=2) / 2) / 784
    assert torch.allclose(model(x), -440 * loss, atol=1e-4)


def test_gradients_in_the_images_hold_the_explanation_fixed() -> None:
    model, x = small(), images().requires_grad_(True)
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    pixels = model.explain(x.detach()).pixels[:, 1].reshape(x.shape)
    assert torch.allclose(gradient, -2 * 440 / 784 * (x.detach() - pixels), atol=1e-5)
    assert torch.equal(logits.detach(), logits_of(model, x.detach()))
    assert not model(x.detach()).requires_grad


def test_that_gradient_is_the_true_one_where_the_descent_has_ended() -> None:
    model, x = small(FEW._replace(steps=120, beta=100.0, lr=0.02), classes=1), images(1)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    direction = 0.01 * gradient.sign()
    ahead, behind = (logits_of(model, x.detach() + s * direction)[:, 0] for s in (1, -1))
    expected = (ahead - behind) / 2
    assert torch.allclose((gradient * direction).flatten(1).sum(dim=1), expected, rtol=1e-3)


def test_an_image_is_explained_alike_alone_and_among_others() -> None:
    model, x = small(), images()
    together = model(x)
    assert torch.equal(together, model(x))
    alone = torch.cat([model(one) for one in x.split(1)])  # type: ignore[no-untyped-call]
    assert torch.allclose(alone, together, atol=1e-3)


def test_confidence_is_even_for_what_no_class_explains() -> None:
    model = small()
    logits = torch.tensor([[-1e4, -2e4, -3e4], [-5.0, -9.0, -9.0]])
    found = confidence(logits, model)
    assert found[0] == pytest.approx(1 / 3)
    raised = logits[1].double().exp() + 3.9e-5
    assert found[1] == pytest.approx(float(raised[0] / raised.sum()))
    without = small(FEW._replace(eta=0.0))
    assert torch.allclose(confidence(logits, without), confidence(logits))


def test_predictions_and_scores_hold_the_models_own_confidence(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from robsweep.tasks.job import Inputs
    from robsweep.tasks.jobs import run
    from robsweep.tasks.ood.logit_scores import max_softmax

    monkeypatch.setattr(
        "robsweep.tasks.predict.labelled_data_for",
        lambda *_: load_data("digits", "test", "")._replace(images=torch.rand(500, 1, 28, 28)),
    )
    ref = ref_of("abs", samples=5, steps=1)
    rows = run(job_of("predict", {"source": "clean", "group_size": 2}, 0, 2, model=ref), Inputs())
    table = rows.tables["predictions"]
    logits = torch.tensor(table["logits"].to_pylist())
    expected = confidence(logits, small(classes=10))
    assert table["confidence"].to_pylist() == pytest.approx(expected.tolist())
    model = small()
    assert torch.equal(max_softmax(model, images()), -confidence(model(images()), model))


def test_changed_weights_are_decoded_again_and_never_stored() -> None:
    model, x = small(), images()
    before, keys = model(x), set(model.state_dict())
    assert model.libraries() is model.libraries()
    model.vae(0).decoder.conv_3.bias += 1
    after = model(x)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1.0)
    assert torch.equal(before[:, 1:], after[:, 1:])
    assert set(model.state_dict()) == keys
    again = small()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), after)


def test_the_binary_model_sees_black_and_white_only() -> None:
    model, x = small(binary=True), images()
    assert torch.equal(model(x), model((x >= 0.5).float()))
    assert not torch.allclose(model(x), small()(x), atol=1.0)
    seen = small()(Threshold()(x))
    assert torch.allclose(model(x), seen * model.class_weights, atol=1e-3)  # type: ignore[operator]
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(Threshold()(x).square().sum(), x)
    assert torch.equal(gradient, 2 * (x >= 0.5).float())


def test_class_weights_come_from_the_file_or_are_the_published_ones() -> None:
    model = build(ref_of("binary_abs", samples=5))
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("batches_tracked")}
    state["class_weights"] = torch.linspace(0.9, 1.1, 10)
    loaded = load(ref_of("binary_abs", samples=5), to_bytes(state), CPU).model
    assert torch.equal(loaded.class_weights, state["class_weights"])  # type: ignore[arg-type]
    del state["class_weights"]
    loaded = load(ref_of("binary_abs", samples=5), to_bytes(state), CPU).model
    assert loaded.class_weights[3] == pytest.approx(1.06)  # type: ignore[index]
    assert build(replace(ref_of("binary_abs"), classes=3)).class_weights.tolist() == [1, 1, 1]  # type: ignore[union-attr]


def test_the_line_search_never_lowers_the_accuracy() -> None:
    generator = torch.Generator().manual_seed(3)
    raised = 0
    for _ in range(20):
        loss = 1 + 0.05 * torch.randn(60, 4, generator=generator)
        labels = torch.randint(4, (60,), generator=generator)
        start = 1 + 0.02 * torch.randn(4, generator=generator)
        found = line_search(loss, labels, start)
        before, after = (
            int(((loss * weights).argmin(dim=1) == labels).sum()) for weights in (start, found)
        )
        assert after >= before
        raised += after > before
    assert raised > 15
    biased = torch.tensor([[1.0, 0.97], [1.0, 0.99], [1.2, 0.9]])
    found = line_search(biased, torch.tensor([0, 0, 1]), torch.ones(2))
    assert ((biased * found).argmin(dim=1) == torch.tensor([0, 0, 1])).all()


@pytest.mark.parametrize(
    "arch", [name for name in MODELS if name.startswith("abs") or name == "binary_abs"]
)
def test_other_images_are_refused(arch: str) -> None:
    with pytest.raises(InputError, match=rf"{arch}.*takes grey images \(1, 28, 28\), got .*8, 8"):
        build(replace(ref_of(arch), shape=(1, 8, 8)))


def test_no_latents_are_refused() -> None:
    with pytest.raises(InputError, match="samples of at least 1, got 0"):
        build(ref_of("abs", samples=0))


def test_the_cnn_is_as_large_as_the_published_one() -> None:
    assert sum(p.numel() for p in build(ref_of("abs_cnn")).parameters()) == 249_228
    x = images()
    binary = build(ref_of("abs_binary_cnn")).eval()
    assert torch.equal(binary(x), binary((x >= 0.5).float()))


BASELINES = [
    ("abs_cnn", "abs_vanilla_cnn", 9935),
    ("abs_binary_cnn", "abs_binary_cnn", 9871),
    ("abs_transfer_cnn", "abs_transfer_cnn", 9916),
]


def right(arch: str, file: str, n: int, data_dir: Path, nets_dir: Path) -> int:
    ref = replace(ref_of(arch), weights=str(nets_dir / f"{file}.safetensors"))
    model = load(ref, None, CPU).model
    x, labels = (part[:n] for part in load_data("mnist", "test", str(data_dir)))
    logits = torch.cat([logits_of(model, part) for part in x.split(250)])  # type: ignore[no-untyped-call]
    return int((logits.argmax(dim=1) == labels).sum())


@pytest.mark.data
@pytest.mark.parametrize(("arch", "file", "expected"), BASELINES)
def test_published_baselines_read_the_digits(
    arch: str, file: str, expected: int, data_dir: Path, nets_dir: Path
) -> None:
    del expected
    assert right(arch, file, 250, data_dir, nets_dir) > 240


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("arch", "file", "expected"), BASELINES)
def test_published_baselines(
    arch: str, file: str, expected: int, data_dir: Path, nets_dir: Path
) -> None:
    assert right(arch, file, 10_000, data_dir, nets_dir) == expected


@pytest.mark.data
@pytest.mark.slow
def test_published_abs(data_dir: Path, nets_dir: Path) -> None:
    ref = replace(ref_of("abs"), weights=str(nets_dir / "abs_authors.safetensors"))
    model = load(ref, None, CPU).model
    x, labels = (part[:200] for part in load_data("mnist", "test", str(data_dir)))
    logits = torch.cat([logits_of(model, part) for part in x.split(50)])  # type: ignore[no-untyped-call]
    assert float((logits.argmax(dim=1) == labels).float().mean()) >= 0.975
    assert 0.85 < float(confidence(logits, model).median()) < 0.95
