"""Halving of few parameters, of networks that are no small chain."""

import time

import torch

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_crown
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.properties import PROVED, untargeted
from robsweep.tasks.verification.reading.torch.module import read_as_deployed
from robsweep.tasks.verification.regions.asked import region
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.search.halving import Halving
from robsweep.tasks.verification.solve import Question, solve_one
from tests.tasks.verification.small_nets import convolutional


def test_it_decides_kernels_and_patches_of_a_network_with_branches() -> None:
    net, shape = convolutional("residual")
    net.out.bias -= net(torch.full((1, *shape), 0.5))[0]  # so that no class wins everywhere
    images = torch.rand(6, *shape)
    labels = net(images).argmax(1)
    subject, verdicts = subject_of(net, shape), set()
    for regions in (region("blur", kernel=2), region("patch", size=1, at=[2, 3])):
        asked = Robustness(None, regions=regions)
        for i in range(len(images)):
            question = Question(subject, images[i : i + 1], labels[i : i + 1], asked)
            method = Method(frozenset({"crown", "splitting"}))
            row, found = solve_one(question, method, 60.0)
            verdicts.add(row.verdict)
            assert row.verdict in ("verified", "falsified")
            area = regions.of(images[i], 0)
            weights = torch.rand(2000, area.box.lower[0].numel()).double() ** 3
            low, high = (end.flatten(1) for end in area.box)
            points = (low + weights * (high - low)).reshape(-1, *area.box.lower.shape[1:])
            logits = net(area.images(points))
            own = logits[:, labels[i]].clone()
            logits[:, labels[i]] = -torch.inf
            assert row.verdict == "falsified" or bool((own > logits.amax(1)).all())
            assert (found is None) == (row.verdict == "verified")
    assert verdicts == {"verified", "falsified"}


def test_what_is_given_up_is_not_proved_and_bounds_only_rise() -> None:
    net, shape = convolutional("residual")
    network = read_as_deployed(net, shape)
    x = torch.rand(1, *shape).double()
    lower, upper = x.clone(), x.clone()
    lower[0, 0, 2], upper[0, 0, 2] = 0, 1
    box = Bounds(lower, upper)
    unsafe = untargeted(torch.tensor([0]), 3)
    least = by_crown(network, box, unsafe).margins.lower[0].tolist()
    known = {1: least[1], 2: least[2]}
    search = Halving(network, box, unsafe, known)
    before = search.lower()
    assert before == known
    search.run(time.monotonic() + 60, 20, lambda point: False)
    after = search.lower()
    assert all(after[d] >= before[d] for d in known)
    search.forget({1})
    assert search.lower()[1] == max(before[1], PROVED)
    search.forget(set(known))
    assert not search.heap
    assert abs(search.closed - 1) < 1e-12
