"""Where a model's features are, and the head behind them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.models.load import build
from robsweep.tasks.models.onnx_file import module_of
from robsweep.tasks.ood.features import features_of, passed
from robsweep.tasks.ood.fits import Head
from robsweep.tasks.verification.reading.torch.module import read

SHAPE = (1, 22, 22)


def built(arch: str, shape: tuple[int, ...] = SHAPE, **params: object) -> nn.Module:
    torch.manual_seed(0)
    model = build(ModelRef("", arch, params, shape, 4)).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.uniform_(-1, 1)
    return model


def logits_of(head: Head, features: Tensor) -> Tensor:
    return features.double() @ head.weight.T + head.bias


@pytest.mark.parametrize(
    ("arch", "width", "maps"),
    [
        ("mlp", 7, None),
        ("cnn_small", 32, None),
        ("an_k3_shallow", 96 * 12 * 12, (96, 12, 12)),  # its head is linear and batch norm
        ("resnet", None, None),
    ],
)
def test_the_head_makes_the_logits_of_the_features(
    arch: str, width: int | None, maps: tuple[int, ...] | None
) -> None:
    model = built(arch, **({"hidden": [9, 7]} if arch == "mlp" else {}))
    found = features_of(model, SHAPE, pool="none")
    images = torch.rand(5, *SHAPE)
    one = found(images)
    assert one.features.shape == (5, found.width)
    assert found.width == (width or found.width)
    assert found.maps == maps
    assert torch.equal(one.logits, model(images))
    assert found.head.exact
    torch.testing.assert_close(logits_of(found.head, one.features).float(), one.logits)


def test_pooled_features_are_the_means_of_the_maps() -> None:
    model = built("an_k3_shallow")
    whole = features_of(model, SHAPE, pool="none")
    pooled = features_of(model, SHAPE)
    images = torch.rand(3, *SHAPE)
    maps = whole(images).features.reshape(3, 96, 12, 12)
    torch.testing.assert_close(pooled(images).features, maps.mean(dim=(2, 3)))
    assert not pooled.head.exact
    flat = maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)  # where both heads agree
    wanted = logits_of(whole.head, flat.flatten(1))
    torch.testing.assert_close(logits_of(pooled.head, maps.mean(dim=(2, 3))), wanted)


def test_a_network_from_an_onnx_file_has_the_same_features() -> None:
    model = built("cnn_small", (1, 8, 8))
    again = module_of(read(model, (1, 8, 8)), (1, 8, 8)).float().eval()
    images = torch.rand(4, 1, 8, 8)
    one, other = (features_of(m, (1, 8, 8)) for m in (model, again))
    torch.testing.assert_close(one(images).features, other(images).features)
    torch.testing.assert_close(one.head.weight, other.head.weight)


def test_an_ensemble_has_its_members_features_side_by_side() -> None:
    members = [built("mlp", hidden=[5]), built("cnn_small")]
    images = torch.rand(6, *SHAPE)
    for vote, exact in (("mean_logits", True), ("majority", False)):
        model = Ensemble(members, vote).eval()
        found = features_of(model, SHAPE)
        one = found(images)
        each = [features_of(member, SHAPE)(images) for member in members]
        assert torch.equal(one.features, torch.cat([e.features for e in each], dim=1))
        assert one.members is not None
        assert torch.equal(one.members, torch.stack([m(images) for m in members], dim=1))
        assert torch.equal(one.logits, model(images))
        assert found.head.exact == exact
        wanted = one.members.double().mean(dim=1)
        torch.testing.assert_close(logits_of(found.head, one.features), wanted, rtol=0, atol=1e-5)


class Twisted(nn.Module):
    """Control flow that no graph can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if hidden.sum() > 0:
            hidden = hidden.relu()
        result: Tensor = self.last(hidden)
        return result


class Skipping(Twisted):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.first(x).relu()) + x[:, :2]
        return result


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "", r"reads the image itself.*1 \(Linear"),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU()), "", "does not end in a linear layer"),
        (Twisted(), "", r"name one with `layer:`; its layers are first \(Linear\), last"),
        (Twisted(), "second", "there is no layer 'second': its layers are first"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), "two", "'two' does not exist"),
        (Skipping(), "", "does not end in a linear layer"),
    ],
)
def test_what_has_no_features_says_which_layers_there_are(
    model: nn.Module, layer: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        features_of(model.eval(), (4,), layer=layer)


def test_a_named_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2)).eval()
    images = torch.rand(5, 4)
    found = features_of(model, (4,), layer="1")
    torch.testing.assert_close(found(images).features, model[:2](images))
    assert found.head.exact  # two linear layers are one affine map
    with pytest.raises(InputError, match="not affine"):
        _ = features_of(model, (4,), layer="0").head
    twisted = Twisted().eval()
    hooked = features_of(twisted, (4,), layer="first")
    assert torch.equal(hooked(images).features, twisted.first(images))
    with pytest.raises(InputError, match="cannot trace"):
        _ = hooked.head


def test_a_pass_through_what_counts_passes_is_counted_as_one() -> None:
    model = built("mlp", hidden=[5])
    tally = Tally(3)
    counted = Counted(model, tally, torch.arange(3))
    images = torch.rand(3, *SHAPE, requires_grad=True)
    found = features_of(counted, SHAPE)
    one = passed(counted, found, images)
    assert torch.equal(one.logits, model(images))
    one.features.sum().backward()
    assert tally.n_forward.tolist() == [1, 1, 1]
    assert tally.n_backward.tolist() == [1, 1, 1]
    assert counted.model is model


def test_features_are_those_of_the_model_that_is_asked() -> None:
    model = built("mlp", hidden=[5])
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    images = torch.rand(2, *SHAPE)
    first, second = (features_of(m, SHAPE)(images).features for m in (model, other))
    assert not torch.equal(first, second)
