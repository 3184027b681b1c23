"""Adversarial losses on logits: the hinge family and the matching-aware gradient penalty."""

import torch
from torch import Tensor
from torch.nn import functional as F


def hinge_discriminator_loss(real: Tensor, fake: Tensor, wrong: Tensor | None = None) -> Tensor:
    """Hinge loss of a conditional discriminator (DF-GAN, arXiv 2008.05865, eq. 1, without its penalty).

    Args:
        real: (B,) logits of real images with their captions.
        fake: (B,) logits of generated images with their captions.
        wrong: (M,) logits of real images with captions of others.
    """
    negative = F.relu(1 + fake.float()).mean()
    if wrong is not None:
        negative = (negative + F.relu(1 + wrong.float()).mean()) / 2
    return F.relu(1 - real.float()).mean() + negative


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """-mean of the (B,) logits of generated images with their captions."""
    return -fake.float().mean()


def matching_aware_gradient_penalty(logits: Tensor, inputs: tuple[Tensor, ...], coefficient: float = 2.0, power: float = 6.0) -> Tensor:
    """Matching-aware zero-centred gradient penalty (DF-GAN, arXiv 2008.05865, eq. 2): coefficient * mean_b |d logit_b / d inputs_b|^power.

    Args:
        logits: (B,) of real images with their own captions, with a graph back to `inputs`.
        inputs: tensors of B rows that require grad (the images or their features, and the sentences); the norm is over all of them jointly.
    """
    grads = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    squared_norm = sum(grad.float().flatten(1).square().sum(dim=1) for grad in grads)  # (B,)
    return coefficient * (squared_norm ** (power / 2)).mean()  # no square root: its derivative is infinite at zero
