import numpy as np
import pytest
import torch
from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.recheck.layers import forward, with_margins
from robsweep.tasks.recheck.network import read

SHAPE = (2, 9, 8)


def random_net(seed: int) -> nn.Sequential:
    """Every layer that is known, set up at random; random batch statistics."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)

    def one(*values):
        return values[random.integers(len(values))]

    kernel, stride = one(2, 3, (3, 2)), one(1, 2, (2, 1))
    groups = one(1, 2)
    layers = [
        nn.Sequential(nn.Identity(), nn.Conv2d(2, 4, kernel, stride, one(0, 1), 1, groups)),
        nn.BatchNorm2d(4, affine=one(True, False)),
        one(nn.ReLU(), nn.Dropout2d()),
        one(nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1), nn.MaxPool2d((1, 2), 1, 0, 2)),
        nn.Conv2d(4, 3, 2, padding=(2, 1), dilation=2, bias=one(True, False)),
        one(nn.AvgPool2d(2, 1, 1), nn.AvgPool2d(2, 1, 1, count_include_pad=False)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.LazyLinear(7, bias=one(True, False)),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, 4),
    ]
    net = nn.Sequential(*layers)
    net.eval()(torch.rand(1, *SHAPE))
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return net.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("seed", range(12))
def test_it_computes_what_torch_computes(seed: int) -> None:
    net = random_net(seed)
    layers = read(net, SHAPE)
    x = torch.rand(5, *SHAPE, dtype=torch.float64) * 3 - 1
    expected = net.double()(x).numpy()
    found = forward(layers, x.reshape(5, -1).numpy())
    assert np.abs(found - expected).max() < 1e-9 * max(1.0, np.abs(expected).max())
    margins = forward(with_margins(layers, 2), x.reshape(5, -1).numpy())
    assert np.allclose(margins, expected[:, [2]] - expected[:, [0, 1, 3]], atol=1e-9)


class _Own(nn.Module):
    """A `forward` of a user's own that does `does`."""

    def __init__(self, does) -> None:
        super().__init__()
        self.fc, self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.pool, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.register_buffer("mean", torch.rand(3))
        self.does = does

    def forward(self, x):
        return self.does(self, x)


class _Reversed(nn.Sequential):
    def forward(self, x):
        return super().forward(1 - x)


def _nested(net, x):
    for _ in range(2):
        x = torch.relu(x + net.two(torch.relu(net.one(x))) - x / 2)
    return net.fc(torch.relu(x)) + x


@pytest.mark.parametrize(
    "does",
    [
        lambda net, x: net.fc(x),
        lambda net, x: x + net.fc(x),
        lambda net, x: torch.relu(net.fc(x)) + x,
        lambda net, x: torch.relu(x) - net.one(torch.relu(net.fc(x))) + net.two(x),
        lambda net, x: torch.add(torch.relu(x - 0.5), torch.sub(0.25, x)) * net.mean,
        lambda net, x: net.fc((x - net.mean) / 0.3).flatten(1),
        lambda net, x: (
            torch.flatten(net.flat(x.view(x.size(0), -1)), 1) + x.reshape(x.shape[0], -1)
        ),
        lambda net, x: x + x,
        lambda net, x: (net.fc(x), torch.relu(x))[1],
        lambda net, x: torch.relu(x) + torch.relu(-x) + nn.functional.relu(net.fc(x)),
        _nested,
    ],
)
def test_forwards_of_a_users_own(does) -> None:
    torch.manual_seed(0)
    net = _Own(does).eval().requires_grad_(False)
    for module in (net, nn.Sequential(nn.Linear(3, 3), net, nn.ReLU(), net).requires_grad_(False)):
        x = torch.rand(50, 3, dtype=torch.float64) * 3 - 1
        found = forward(read(module, (3,)), x.numpy())
        assert np.abs(found - module.double()(x).numpy()).max() < 1e-9
        module.float()


class _Block(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1)
        )
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.seed = seed

    def forward(self, x):
        inner = self.body(x)
        if self.seed % 2:
            return torch.relu(self.pool(inner) + x)
        return torch.relu(inner) + self.pool(x)


def residual(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 2, 2), _Block(seed), _Block(seed + 1), nn.Flatten(), nn.Linear(18, 3)]
    net = nn.Sequential(*layers).eval().requires_grad_(False)
    net[-1].bias -= net(torch.full((1, 1, 4, 4), 0.5))[0]
    return net


@pytest.mark.parametrize("seed", range(4))
def test_skip_connections_are_carried_along(seed: int) -> None:
    net = residual(seed)
    layers = read(net, (1, 4, 4))
    x = torch.rand(50, 1, 4, 4, dtype=torch.float64) * 3 - 1
    found = forward(layers, x.reshape(50, -1).numpy())
    assert np.abs(found - net.double()(x).numpy()).max() < 1e-9


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (_Own(lambda _, x: x.flip(1)), "_Own.*flip"),
        (_Own(lambda net, x: net.fc(x) * x), "_Own.*mul of two branches"),
        (_Own(lambda net, x: 1 / net.fc(x)), "_Own.*division"),
        (_Own(lambda net, x: net.fc(x).add_(x)), "_Own.*add_"),
        (_Own(lambda net, x: torch.add(x, net.fc(x), alpha=2)), "_Own.*add"),
        (_Own(lambda net, x: net.fc(x) if x.sum() > 0 else x), "_Own.*traced"),
        (_Own(lambda net, x: (net.fc(x), x)), "_Own.*something else"),
        (_Own(lambda net, x: net.fc(x) + net.pool(x[None])[0]), "_Own"),
        (nn.Sequential(nn.Linear(3, 2), nn.GELU()), "GELU"),
        (nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), "LayerNorm"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(3, 2)), "Flatten"),
        (nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), "BatchNorm1d"),
        (_Reversed(nn.Linear(3, 2), nn.Tanh()), "_Reversed.*Tanh"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), "ParametrizedLinear"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(net: nn.Module, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read(net.eval().requires_grad_(False), (3,))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "Conv2d"),
        (nn.Conv2d(1, 1, 3, padding="same"), "Conv2d"),
        (nn.MaxPool2d(2, ceil_mode=True), "MaxPool2d"),
        (nn.AvgPool2d(2, ceil_mode=True), "AvgPool2d"),
    ],
)
def test_settings_that_it_does_not_know_are_refused(layer: nn.Module, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read(nn.Sequential(layer, nn.Flatten()).requires_grad_(False), (1, 5, 5))


def test_a_hook_that_changes_a_layer_is_noticed() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
    net[0].register_forward_hook(lambda _, __, out: out + 1)
    with pytest.raises(InputError, match="do not compute"):
        read(net, (3,))


@pytest.mark.parametrize("view", [True, False])
def test_overwriting_what_is_read_again_is_refused(view: bool) -> None:
    relu = nn.ReLU(inplace=True)

    def twice(net, x):
        x = net.fc(x)
        return x + relu_of(net, net.flat(x) if view else x)

    def once(net, x):
        return x + relu_of(net, net.flat(net.fc(x)))

    def relu_of(net, x):
        return net.pool(x)

    for does, refused in ((twice, True), (once, False)):
        net = _Own(does).eval().requires_grad_(False)
        net.pool = relu
        with torch.no_grad():  # above 0 where a reading is tried
            net.fc.bias += 10
        if refused:
            with pytest.raises(InputError, match="in place on what is used again"):
                read(net, (3,))
        else:
            read(net, (3,))
