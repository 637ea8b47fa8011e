"""A live model is afterwards as it was, whatever it and an attack do to it."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robsweep as rob


class Strange(nn.Module):
    """Batch normalisation, dropout, a frozen layer, a buffer that changes with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.first = nn.Flatten(), nn.Linear(64, 12)
        self.norm, self.drop, self.last = nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 10)
        self.last.requires_grad_(requires_grad=False)
        self.norm.eval()
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.trained_here = self.training

    def forward(self, images):
        self.calls = self.calls + 1
        self.trained_here = self.training
        return self.last(self.drop(self.norm(self.first(self.flatten(images))).relu()))

    def __reduce_ex__(self, protocol):
        raise TypeError("nobody copies or pickles this one")


def state_of(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: buffer.clone() for name, buffer in model.named_buffers()},
        [(p.requires_grad, p.data_ptr(), None if p.grad is None else p.grad) for p in
         model.parameters()],
        [module.training for module in model.modules()],
    )  # fmt: skip


def unchanged(before, after):
    for a, b in zip(before[:2], after[:2], strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert [p[:2] for p in before[2]] == [p[:2] for p in after[2]]
    assert all(a[2] is b[2] for a, b in zip(before[2], after[2], strict=True))
    assert before[3] == after[3]


def test_the_model_is_as_it_was(some):
    torch.manual_seed(0)
    model = Strange().train()
    model.norm.eval()
    model(some[0]).sum().backward()
    model.norm.running_mean.copy_(torch.rand(12))
    before = state_of(model)
    gradients = [None if g is None else g.clone() for _, _, g in before[2]]
    assert any(g is not None for g in gradients)
    found = rob.evaluate(model, *some, attacks=["LinfFastGradient"])
    unchanged(before, state_of(model))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert not model.trained_here  # dropout was off
    assert found.clean_accuracy.n == 100
    with pytest.raises(rob.InputError):  # and after an error
        rob.evaluate(model, *some, verify=1)
    unchanged(before, state_of(model))


SPOILERS = {
    "zero": "next(model.parameters()).data.zero_()",
    "replaces": "next(model.parameters()).data = next(model.parameters()).data.double()[:1]",
    "sets": "next(model.parameters()).data.set_(torch.ones(3))",
}


@pytest.mark.parametrize("name", ["attack", "raising", "nearest", *SPOILERS])
def test_an_attack_that_spoils_the_model_leaves_it_as_it_was(net, some, name):
    shutil.copy(Path(__file__).parents[1] / "tasks" / "hostile.py", "hostile.py")
    body = "import torch\n\n\n"
    for called, line in SPOILERS.items():
        body += f"def {called}(model, images, labels, eps):\n    {line}\n    return images\n\n\n"
    Path("spoilers.py").write_text(body)
    before, hooks = state_of(net), [dict(vars(module)) for module in net.modules()]
    module = "spoilers" if name in SPOILERS else "hostile"
    entry = {"attack": f"{module}:{name}", "group_size": 20}
    more = {"gives": "min_norm"} if name == "nearest" else {}
    rob.evaluate(net, *some, attacks={"own": entry | more, "after": {"attack": "LinfPGD"}})
    unchanged(before, state_of(net))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    for kept, module in zip(hooks, net.modules(), strict=True):
        assert kept.keys() == vars(module).keys()


class InPlace(nn.Module):
    """Normalises what it is given, there where it lies."""

    def __init__(self, net) -> None:
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images.sub_(0.5).mul_(2.0))


class Copying(InPlace):
    def forward(self, images):
        return self.net((images - 0.5) * 2.0)


def test_a_model_that_writes_into_its_input_is_the_one_that_does_not(net, some):
    given = some[0].clone()
    model = InPlace(net)
    ours, theirs = (
        rob.evaluate(m, given, some[1], attacks=["LinfPGD"]) for m in (model, Copying(net))
    )
    assert ours.robust_accuracy == theirs.robust_accuracy
    assert ours.ece == theirs.ece
    assert torch.equal(given, some[0])
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    model(given)  # as before: what it is called with outside is its own affair
    assert not torch.equal(given, some[0])


def test_the_caller_keeps_his_random_numbers(net, some):
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    def seed():
        torch.manual_seed(1)
        np.random.seed(2)
        random.seed(3)

    seed()
    expected = draw()
    seed()
    rob.evaluate(net, *some, attacks="LinfFastGradient")
    assert draw() == expected


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(net, some, mode):
    few = tuple(part[:20] for part in some)
    expected = rob.evaluate(net, *few, attacks="LinfFastGradient")
    with mode():
        given = few[0].clone(), few[1].clone()
        found = rob.evaluate(net, *given, attacks="LinfFastGradient")
    assert found.attacks.drop("seconds").equals(expected.attacks.drop("seconds"))
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
