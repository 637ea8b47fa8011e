"""Scores by what of the features is left outside their principal subspace; as `distance_scores`."""

from torch import Tensor

from robsweep.tasks.ood.fits import Fitted


def residual(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """Norm of the part outside the principal subspace.

    Source: Wang et al. 2022, section 3.2.
    """
    x = features - fit["origin"]
    outside: Tensor = (x - x @ fit["basis"] @ fit["basis"].T).norm(dim=1)
    return outside


def vim(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """The virtual logit, which is the scaled residual, less the energy of the others.

    It orders samples as the softmax probability of the virtual logit does, without its ties at 1.
    Source: Wang et al. 2022, section 4.
    """
    return fit["alpha"] * residual(features, logits, fit) - logits.logsumexp(dim=1)
