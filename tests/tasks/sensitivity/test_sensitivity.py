import math

import pytest
import torch
from torch import nn

from robsweep.tasks.data.load import load
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs
from robsweep.tasks.jobs import run
from robsweep.tasks.sensitivity.measure import log_volume, mean_width, output_box
from robsweep.tasks.verification.bounds.intervals import Bounds
from tests.tasks.digit_jobs import job_of
from tests.tasks.verification.small_nets import convolutional, dense, points_in

METHODS = ("interval", "crown")
NETS = ("dense", "functional", "pooled", "residual", "curved")


def net(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    return (dense(0, 6, 12, 9, 4), (6,)) if name == "dense" else convolutional(name)


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_model_is_measured_exactly(method: str) -> None:
    torch.manual_seed(0)
    model, eps = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 0.1
    images = torch.rand(5, 1, 3, 4) * 0.8 + 0.1  # where [0, 1] clips nothing
    box = output_box(model, images, eps, method)
    widths = (2 * eps * model[1].weight.double().abs().sum(1)).expand(5, 3)
    torch.testing.assert_close(box.upper - box.lower, widths, rtol=1e-9, atol=0)
    middle = model.double()(images.double())
    torch.testing.assert_close((box.upper + box.lower) / 2, middle, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_volume(box), widths.log().sum(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(mean_width(box), widths.mean(1), rtol=1e-9, atol=0)


def test_the_ball_ends_at_0_and_1() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    box = output_box(model, torch.tensor([[0.0, 0.95]]), 0.1, "interval")
    torch.testing.assert_close(torch.cat(box)[:, 0], torch.tensor([0.85, 1.1]).double())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_sampled_outputs_lie_in_the_box(name: str, method: str) -> None:
    model, shape = net(name)
    images = torch.rand(4, *shape)
    box = output_box(model, images, 0.07, method)
    exact = model.double()
    for points in points_in(images, 0.07, 100):
        logits = exact(points)
        assert ((box.lower <= logits) & (logits <= box.upper)).all()


@pytest.mark.parametrize("name", NETS)
def test_boxes_grow_with_eps_and_crowns_lie_in_those_of_intervals(name: str) -> None:
    model, shape = net(name)
    images = torch.rand(4, *shape)
    before = dict.fromkeys(METHODS, torch.zeros(4, dtype=torch.float64))
    for eps in (0.01, 0.03, 0.1, 0.3, 1.0):
        boxes = {method: output_box(model, images, eps, method) for method in METHODS}
        assert (boxes["interval"].lower <= boxes["crown"].lower + 1e-9).all()
        assert (boxes["crown"].upper <= boxes["interval"].upper + 1e-9).all()
        if eps <= 0.1:
            assert (boxes["crown"].upper < boxes["interval"].upper).any()
        for method in METHODS:
            width = mean_width(boxes[method])
            assert (width > before[method]).all()
            before[method] = width


@pytest.mark.parametrize("method", METHODS)
def test_no_ball_has_no_width(method: str) -> None:
    model, shape = convolutional("functional")
    images = torch.rand(3, *shape)
    box = output_box(model, images, 0.0, method)
    assert torch.equal(box.lower, box.upper)
    torch.testing.assert_close(box.lower, model.double()(images.double()))
    assert mean_width(box).tolist() == [0, 0, 0]
    assert log_volume(box).tolist() == [-math.inf] * 3


def test_one_side_without_width_leaves_no_volume() -> None:
    box = Bounds(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [2.0, 3.0]]))
    assert log_volume(box).tolist() == [-math.inf, pytest.approx(math.log(6))]
    assert mean_width(box).tolist() == [0.5, 2.5]


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown method 'zonotope'.*interval, crown"):
        output_box(nn.Linear(2, 2), torch.rand(1, 2), 0.1, "zonotope")
    with pytest.raises(InputError, match="Softmax"):
        output_box(nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), torch.rand(1, 2), 0.1, "crown")


@pytest.mark.parametrize("method", METHODS)
def test_the_job_writes_a_row_per_sample_and_eps(method: str, weights: Inputs) -> None:
    params = {"method": method, "eps": [0.0, 0.02, 0.1], "group_size": 5, "parameters": {}}
    whole = run(job_of("sensitivity", params, 0, 15), weights).tables["sensitivity"]
    part = run(job_of("sensitivity", params, 5, 10), weights).tables["sensitivity"]
    assert part.to_pylist() == whole.slice(5 * 3, 5 * 3).to_pylist()  # whatever the cut
    rows = whole.to_pylist()
    assert [row["sample"] for row in rows] == [i for i in range(15) for _ in range(3)]
    assert [row["eps"] for row in rows] == [0.0, 0.02, 0.1] * 15
    assert {row["method"] for row in rows} == {method}
    for none, small, large in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert none["log_volume"] == -math.inf
        assert none["mean_width"] == 0 < small["mean_width"] < large["mean_width"]
        assert small["log_volume"] < large["log_volume"]
    from robsweep.tasks.models.load import load as load_model
    from tests.tasks.digit_jobs import MLP

    model = load_model(MLP, weights.weights, torch.device("cpu")).model
    box = output_box(model, load("digits", "test", "").images[10:15], 0.1, method)
    assert [row["mean_width"] for row in rows[32::3]] == mean_width(box).tolist()
