"""Adversarial losses on logits: the hinge and the cross-entropy family, two gradient penalties, and
the KL term of conditioning augmentation."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def hinge_discriminator_loss(real: Tensor, fake: Tensor, wrong: Tensor | None = None) -> Tensor:
    """Hinge loss of a conditional discriminator (DF-GAN, arXiv 2008.05865, eq. 1, without its
    penalty).

    Args:
        real: (B,) logits of real images with their captions.
        fake: (B,) logits of generated images with their captions.
        wrong: (M,) logits of real images with captions of others.
    """
    negative = F.relu(1 + fake).mean()
    if wrong is not None:
        negative = (negative + F.relu(1 + wrong).mean()) / 2
    return F.relu(1 - real).mean() + negative


@full_precision
def hinge_generator_loss(fake: Tensor) -> Tensor:
    """-mean of the (B,) logits of generated images with their captions."""
    return -fake.mean()


@full_precision
def bce_discriminator_loss(
    real: Tensor,
    fake: Tensor,
    wrong: Tensor | None = None,
    real_uncond: Tensor | None = None,
    fake_uncond: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of one scale's discriminator (AttnGAN, arXiv 1711.10485, eq. 5), as its authors
    weigh it: the mean of the terms that should be true plus the mean of those that should be false.

    Args:
        real: (B,) logits of real images with their captions.
        fake: (B,) logits of generated images with their captions.
        wrong: (M,) logits of real images with captions of others.
        real_uncond, fake_uncond: (B,) logits of the same images alone, for a discriminator with
            that head.
    """
    true = [_cross_entropy(logits, 1.0) for logits in (real, real_uncond) if logits is not None]
    false = [_cross_entropy(logits, 0.0) for logits in (fake, wrong, fake_uncond) if logits is not None]
    return sum(true) / len(true) + sum(false) / len(false)


@full_precision
def bce_generator_loss(fake: Tensor, fake_uncond: Tensor | None = None) -> Tensor:
    """Cross-entropy of generated images against "real" (AttnGAN, eq. 4, without its factor 1/2),
    summed over the heads.

    Args:
        fake: (B,) logits of generated images with their captions.
        fake_uncond: (B,) logits of generated images alone, for a discriminator with that head.
    """
    return sum(_cross_entropy(logits, 1.0) for logits in (fake, fake_uncond) if logits is not None)


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@full_precision
def kl_loss(mu: Tensor, logvar: Tensor) -> Tensor:
    """Divergence of N(mu, exp(logvar)) from N(0, 1), averaged over rows and dimensions as in
    AttnGAN's code; both are (B, C)."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).mean()


@full_precision
def matching_aware_gradient_penalty(
    logits: Tensor, inputs: tuple[Tensor, ...], coefficient: float = 2.0, power: float = 6.0
) -> Tensor:
    """Matching-aware zero-centred gradient penalty (DF-GAN, arXiv 2008.05865, eq. 2): coefficient *
    mean_b |d logit_b / d inputs_b|^power.

    Args:
        logits: (B,) of real images with their own captions, with a graph back to `inputs`.
        inputs: tensors of B rows that require grad (the images or their features, and the
            sentences); the norm is over all of them jointly.
    """
    grads = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    squared_norm = sum(grad.to(logits.dtype).flatten(1).square().sum(dim=1) for grad in grads)  # (B,)
    return coefficient * (squared_norm ** (power / 2)).mean()  # no square root: its derivative is infinite at zero


@full_precision
def r1_penalty(logits: Tensor, images: tuple[Tensor, ...]) -> Tensor:
    """Zero-centred gradient penalty on real images (R1; Mescheder et al., arXiv 1801.04406, eq. 9,
    with gamma = 1): 1/2 mean_b |d logit_b / d images_b|^2.

    Args:
        logits: (B,) of real images, with a graph back to `images`.
        images: tensors of B rows that require grad, one per scale; the norm is over all of them
            jointly.
    """
    return matching_aware_gradient_penalty(logits, images, coefficient=0.5, power=2.0)
