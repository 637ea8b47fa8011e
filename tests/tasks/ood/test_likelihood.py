"""The likelihood of analysis by synthesis as a score."""

import pytest
import torch

from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.errors import InputError
from robsweep.tasks.ood.likelihood import abs_likelihood
from tests.tasks.models.test_abs import images, small


def test_it_is_the_evidence_over_classes_of_the_best_explanations() -> None:
    model = small()
    x = images()
    bound = -784 * model.explain(x).loss.double()  # log p(x | y) - KL, in nats, up to a constant
    found = abs_likelihood(model, x)
    torch.testing.assert_close(found, -torch.log(bound.exp().sum(dim=1)), rtol=1e-5, atol=1e-5)
    brighter = abs_likelihood(model, torch.ones_like(x))
    assert (brighter > found).all(), "grey decoders do not explain white"
    counted = Counted(model, Tally(len(x)), torch.arange(len(x)))
    assert torch.equal(abs_likelihood(counted, x), found)


def test_other_models_have_none() -> None:
    with pytest.raises(InputError, match="is a Flatten: leave it out"):
        abs_likelihood(torch.nn.Flatten(), images())
