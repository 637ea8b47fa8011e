"""Votes by hand, and what an ensemble's weights file holds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import CHOICES
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Job, ModelRef, Setting
from robsweep.tasks.jobs import run
from robsweep.tasks.models import weights as weights_of
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.models.load import build, load
from robsweep.tasks.recheck.network import read as read_again
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.digit_jobs import job_of, train_job

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
MEMBERS = [{"arch": "mlp", "params": {"hidden": [w]}} for w in (8, 6)]
REFS = tuple(ModelRef(f"m{i}", "mlp", m["params"], SHAPE, 10) for i, m in enumerate(MEMBERS))  # type: ignore[arg-type]
ENSEMBLE = ModelRef("e", "ensemble", {"vote": "mean_logits", "members": MEMBERS}, SHAPE, 10)


def test_a_members_own_code_keeps_the_layout_it_was_written_for() -> None:
    own = {"arch": "tests.tasks.models.test_models:viewing_cnn", "params": {}}
    for other in (own, {"arch": "cnn", "params": {}}):
        params = {"vote": "mean_logits", "members": [other, own]}
        ref = ModelRef("e", "ensemble", params, (1, 28, 28), 10)
        model = load(ref, None, CPU, many_passes=True).model
        assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


class Fixed(nn.Module):
    """Says the same of every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)

    def finish(self, train: Labelled) -> None:
        self.seen = len(train.labels)


def voted(vote: str, *logits: list[float]) -> np.ndarray:
    (row,) = Ensemble([Fixed(one) for one in logits], vote)(torch.zeros(1, 2)).detach().numpy()
    return np.asarray(row)


def softmax(logits: list[float]) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def test_mean_logits_are_their_mean() -> None:
    assert voted("mean_logits", [1, 2, 6], [0, 4, 1], [2, 0, 2]).tolist() == [1, 2, 3]


def test_mean_probabilities_are_the_log_of_the_mean_softmax() -> None:
    logits = [1.0, 2.0, 6.0], [0.0, 40.0, 1.0]
    mean = np.mean([softmax(one) for one in logits], axis=0)
    np.testing.assert_allclose(voted("mean_probabilities", *logits), np.log(mean), rtol=1e-6)


def test_the_majority_wins_against_a_louder_minority() -> None:
    logits = [0.0, 9.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.9]
    mean = np.mean([softmax(one) for one in logits], axis=0)
    assert mean.argmax() == 1
    shares = (mean + np.array([2, 1, 0])) / 4
    np.testing.assert_allclose(voted("majority", *logits), np.log(shares), rtol=1e-6)
    assert shares.sum() == pytest.approx(1)


def test_ties_of_votes_go_to_the_larger_mean_probability() -> None:
    assert voted("majority", [2, 0, 0], [0, 1, 0]).argmax() == 0
    assert voted("majority", [1, 0, 0], [0, 2, 0]).argmax() == 1
    # the runner-up of all gets no vote, whatever its probability
    assert voted("majority", [3, 0, 2.9], [0, 3.1, 2.9]).argmax() == 1


def test_the_majority_is_the_one_that_is_counted() -> None:
    logits = torch.randn(5, 400, 4, generator=torch.Generator().manual_seed(0)).double()
    rows = torch.arange(400, dtype=torch.float64)[:, None]

    class Row(nn.Module):
        def __init__(self, values: Tensor) -> None:
            super().__init__()
            self.values = values

        def forward(self, images: Tensor) -> Tensor:
            return self.values[images[:, 0].long()]

    found = Ensemble([Row(one) for one in logits], "majority")(rows).argmax(dim=1)
    mean = logits.softmax(dim=2).mean(dim=0)
    ties = 0
    for i in range(400):
        counts = np.bincount(logits[:, i].argmax(dim=1).numpy(), minlength=4)
        best = np.flatnonzero(counts == counts.max())
        ties += len(best) > 1
        assert int(found[i]) == max(best, key=lambda k: float(mean[i, k]))
    assert ties > 50


@pytest.mark.parametrize("vote", CHOICES["vote"])
def test_every_vote_has_gradients(vote: str) -> None:
    torch.manual_seed(0)
    members = [nn.Linear(3, 4), nn.Linear(3, 4)]
    images = torch.randn(5, 3, requires_grad=True)
    (found,) = torch.autograd.grad(Ensemble(members, vote)(images)[:, 1].sum(), images)
    one, two = (member(images) for member in members)
    ballots = sum(nn.functional.one_hot(each.argmax(1), 4) for each in (one, two))
    expected = {
        "mean_logits": (one + two) / 2,
        "mean_probabilities": ((one.softmax(1) + two.softmax(1)) / 2).log(),
        "majority": (((one.softmax(1) + two.softmax(1)) / 2 + ballots) / 3).log(),
    }[vote]
    (gradient,) = torch.autograd.grad(expected[:, 1].sum(), images)
    torch.testing.assert_close(found, gradient)
    assert float(found.abs().min()) > 0


def test_members_finish_what_they_have_to() -> None:
    members = [Fixed([0.0, 1.0]), nn.Linear(2, 2), Fixed([1.0, 0.0])]
    Ensemble(members, "majority").finish(Labelled(torch.rand(7, 2), torch.zeros(7).long()))
    assert [getattr(member, "seen", None) for member in members] == [7, None, 7]


def parts() -> list[bytes]:
    torch.manual_seed(0)
    return [weights_of.to_bytes(build(ref).state_dict()) for ref in REFS]


def assemble_job(**setting: Any) -> Job:
    params = {"vote": "mean_logits", "members": ["m0", "m1"]}
    own = Setting("/nowhere", members=REFS, **setting)
    return job_of("ensemble", params, model=ENSEMBLE, setting=own)


def test_an_assembled_ensemble_holds_its_members_bit_by_bit() -> None:
    contents = parts()
    output = run(assemble_job(), Inputs(members=tuple(contents)))
    content = output.artifacts["models/ensemble-0.safetensors"]
    assert load_safetensors(content).keys() == {
        f"members.{i}.fc{k}.{name}" for i in (0, 1) for k in (1, 2) for name in ("weight", "bias")
    }
    (row,) = output.tables["models"].to_pylist()
    whole = load(ENSEMBLE, content, CPU)
    members = [load(ref, own, CPU) for ref, own in zip(REFS, contents, strict=True)]
    assert row["parameters"] == whole.parameters == sum(m.parameters for m in members)
    assert row["weights_sha256"] == whole.weights_sha256
    images = torch.rand(50, *SHAPE)
    one, two = (m.model(images) for m in members)
    assert torch.equal(whole.model(images), (one + two) / 2)


def test_the_published_ensemble_is_as_large_as_its_members() -> None:
    given = {"activation": "gelu", "conv_bias": True}
    params = {"members": [{"arch": f"an_k{k}", "params": given} for k in (3, 5, 7)]}
    whole = build(ModelRef("e", "ensemble", params, (1, 28, 28), 10)).eval()
    assert sum(p.numel() for p in whole.parameters()) == 4_546_332
    images = torch.rand(2, 1, 28, 28)
    assert whole(images).shape == (2, 10)


def test_a_member_may_bring_its_weights() -> None:
    output = run(assemble_job(), Inputs(members=(parts()[0], None)))
    whole = load(ENSEMBLE, output.artifacts["models/ensemble-0.safetensors"], CPU).model
    images = torch.rand(5, *SHAPE)
    assert isinstance(whole, Ensemble)
    assert torch.equal(whole.members[1](images), load(REFS[1], None, CPU).model(images))


def test_weights_of_another_member_are_refused() -> None:
    one, two = parts()
    changed = replace(REFS[1], weights="two.pt", weights_sha256="0" * 64)
    job = assemble_job()
    job = replace(job, setting=replace(job.setting, members=(REFS[0], changed)))
    with pytest.raises(InputError, match=r"two\.pt have SHA-256 .* expected 000"):
        run(job, Inputs(members=(one, two)))
    with pytest.raises(InputError, match="do not fit the model"):
        run(assemble_job(), Inputs(members=(two, one)))


def test_the_mean_of_logits_is_a_network_that_can_be_verified() -> None:
    model = build(ENSEMBLE).eval()
    images = torch.rand(20, *SHAPE, dtype=torch.float64)
    expected = model.double()(images)
    assert torch.allclose(evaluate(read(model, SHAPE), images)[-1], expected, atol=1e-12)
    assert read_again(model, SHAPE)  # which compares itself with the model


@pytest.mark.parametrize("vote", ["mean_probabilities", "majority"])
def test_other_votes_are_refused_before_they_are_verified(vote: str) -> None:
    ref = ModelRef("e", "ensemble", {"vote": vote, "members": MEMBERS}, SHAPE, 10, name="ens")
    engine = {"solver": "scip", "tightening": "none", "solver_parameters": {}}
    with pytest.raises(InputError, match=r"'ens' is to be verified and cannot be.*`exclude:`"):
        run(job_of("preflight", {"engines": [engine]}, model=ref), Inputs())


def test_a_training_goes_on_from_the_weights_it_is_given() -> None:
    contents = parts()
    start = run(assemble_job(), Inputs(members=tuple(contents)))
    content = start.artifacts["models/ensemble-0.safetensors"]
    job = train_job(epochs=1, lr=1e-9, model=ENSEMBLE, start="ensemble-0")
    trained = run(job, Inputs(weights=content)).artifacts["models/train-0.safetensors"]
    before, after = load_safetensors(content), load_safetensors(trained)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(InputError, match="weights of ensemble-0 do not fit the model"):
        run(job, Inputs(weights=contents[0]))
