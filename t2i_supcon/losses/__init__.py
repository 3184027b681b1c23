"""Losses as pure functions of tensors and plain numbers, computed in float32, or in float64 where a
tensor given is that; a caller's autocast does not reach inside."""

from .adversarial import (
    bce_discriminator_loss,
    bce_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    kl_loss,
    matching_aware_gradient_penalty,
    r1_penalty,
)
from .alternatives import label_cross_entropy, nt_xent_loss, unicl_loss
from .matching import (
    clip_contrastive_loss,
    cosine_matching_loss,
    matching_loss,
    sentence_matching_loss,
    word_matching_loss,
    word_relevance,
)
from .pixels import pixel_loss
from .supcon import positive_mask, supcon_loss

__all__ = [
    "bce_discriminator_loss",
    "bce_generator_loss",
    "clip_contrastive_loss",
    "cosine_matching_loss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "kl_loss",
    "label_cross_entropy",
    "matching_aware_gradient_penalty",
    "matching_loss",
    "nt_xent_loss",
    "pixel_loss",
    "positive_mask",
    "r1_penalty",
    "sentence_matching_loss",
    "supcon_loss",
    "unicl_loss",
    "word_matching_loss",
    "word_relevance",
]
