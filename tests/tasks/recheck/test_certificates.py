"""The question of a stored certificate is rebuilt from its row alone."""

from dataclasses import replace

import pytest
import torch

from robsweep.tasks.certificates import network as certified
from robsweep.tasks.recheck.certificates import asked, shown
from robsweep.tasks.recheck.claims import Claim
from robsweep.tasks.verification.proofs.prove import certified as certificate_of
from robsweep.tasks.verification.question import Robustness
from tests.tasks.certificates.small import network
from tests.tasks.verification.small_nets import dense

CLAIM = Claim("solve-0", "m", None, "d", "test", 0, "untargeted", "linf", 0.03, "verified")
IMAGE = torch.tensor([[0.3, 0.98, 0.01]])
LABEL = 2
ASKED = {
    "untargeted": Robustness(0.03),
    "untargeted margin=0.25": Robustness(0.03, margin=0.25),
    "targeted 0,3": Robustness(0.03, targets=(0, 3)),
    "targeted 2,1": Robustness(0.03, targets=(2, 1)),
}


@pytest.mark.parametrize("text", ASKED)
def test_it_is_the_question_that_the_verifier_has_answered(text: str) -> None:
    posed = ASKED[text].of(IMAGE, torch.tensor([LABEL]), 4)
    ends = (end.numpy() for end in posed.box)
    theirs = certified.question(*ends, posed.unsafe.weight[0], posed.unsafe.bias[0])
    ours = asked(replace(CLAIM, property=text), IMAGE[0].numpy(), LABEL, 4)
    assert ours is not None
    assert ours.digest() == theirs.digest()
    assert len(ours.unsafe) == {"targeted 0,3": 2, "targeted 2,1": 1}.get(text, 3)


def test_a_certificate_shows_its_own_claim_and_no_other() -> None:
    module = dense(3, 3, 6, 5, 4)
    module[-1].bias[LABEL] += 5.0
    net, image = network(module, 3), IMAGE[0].numpy()
    what = asked(CLAIM, image, LABEL, 4)
    assert what is not None
    content = certificate_of(net, what, 60.0).content
    assert content is not None
    assert shown(CLAIM, net, image, LABEL, content).outcome == "ok"
    assert shown(CLAIM, net, image, LABEL, None).detail == "its certificate is missing or damaged"
    wider, other = replace(CLAIM, eps=0.031), replace(CLAIM, property="untargeted margin=0.1")
    for claim, label, why in (
        (CLAIM, 1, "of another question"),
        (wider, LABEL, "of another question"),
        (other, LABEL, "of another question"),
    ):
        found = shown(claim, net, image, label, content)
        assert found.outcome == "wrong"
        assert why in found.detail
    module[0].bias[0] += 1e-6
    found = shown(CLAIM, network(module, 3), image, LABEL, content)
    assert found == ("wrong", "its certificate is refused: of another network")
    box = replace(CLAIM, property="untargeted box=12345678", eps=None)
    assert shown(box, net, image, LABEL, content).outcome == "open"
