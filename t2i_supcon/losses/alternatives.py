"""Objectives that the supervised contrastive loss is compared with: UniCL and cross-entropy use
labels, NT-Xent uses none."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .supcon import positive_mask, supcon_loss


@full_precision
def unicl_loss(image_emb: Tensor, sent_emb: Tensor, positives: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Unified contrastive loss of images and texts (Yang et al., arXiv 2204.03610, algorithm 1):
    each image must find all texts of its label, and each text all images.

    The targets of a row are its positives divided by their sum. The loss is the mean of both
    directions. With unique labels it is CLIP's.

    Args:
        image_emb: (B, D), normalised inside.
        sent_emb: (B, D), normalised inside.
        positives: (B, B) of image and text, bool or non-negative weights. An image and its own text
            are always a full positive, whatever the diagonal says.
        logit_scale: what the cosines are multiplied with, 1 / temperature.

    Returns:
        Scalar; at best the mean entropy of the targets, which is 0 for unique labels only.

    Raises:
        ValueError: shapes that do not fit, no rows, or a scale that is not positive.
    """
    _check_pairs(image_emb, sent_emb)
    b = len(image_emb)
    if positives.shape != (b, b):
        raise ValueError(f"positives have shape {tuple(positives.shape)}; {b} images and texts need ({b}, {b})")
    if not isinstance(logit_scale, Tensor) and not logit_scale > 0:  # a tensor's value would stop a GPU
        raise ValueError(f"logit_scale is {logit_scale}; it must be positive")
    weights = positives.to(image_emb.dtype)
    weights = weights.masked_fill(torch.eye(b, dtype=torch.bool, device=weights.device), 1)  # (image, text)
    logits = logit_scale * F.normalize(image_emb, dim=1) @ F.normalize(sent_emb, dim=1).T  # (image, text)
    return (_soft_cross_entropy(logits, weights) + _soft_cross_entropy(logits.T, weights.T)) / 2


def _soft_cross_entropy(logits: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of (B, B) logits with targets in proportion to the weights of each row."""
    targets = weights / weights.sum(dim=1, keepdim=True)
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()  # softmax, then log: nan at large scales


@full_precision
def nt_xent_loss(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al., arXiv 2002.05709, eq. 1), as Ye et
    al., arXiv 2107.02423, contrast two captions of one image.

    Each row's positive is the same row of the other tensor. The 2B - 2 rows that remain are its
    negatives, whatever their labels.

    Args:
        a, b: (B, D) of the same B samples, normalised inside.
        temperature: t > 0.

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not fit, no rows, or a temperature that is not positive.
    """
    _check_pairs(a, b)
    samples = torch.arange(len(a), device=a.device).repeat(2)
    return supcon_loss(F.normalize(torch.cat([a, b]), dim=1), positive_mask(samples), temperature)


@full_precision
def label_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a classifier: softmax for one label a row, sigmoid for several.

    Args:
        logits: (N, C).
        labels: (N,) class ids, where a negative id means unlabelled and leaves the row out of the
            mean; or (N, C) multi-hot, whose mean is over rows and classes.

    Returns:
        Scalar; zero (with zero gradient) where no row has a label.

    Raises:
        ValueError: shapes that do not fit, or an id beyond the classes.
    """
    if logits.dim() != 2 or labels.shape not in (logits.shape, logits.shape[:1]):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; expected (N, C) logits "
            "with (N,) ids or (N, C) multi-hot labels"
        )
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    labelled = labels >= 0
    if (labels >= logits.shape[1]).any():  # on a GPU, torch would abort the process's device
        raise ValueError(
            f"label {int(labels.max())} does not fit {logits.shape[1]} classes (0 to {logits.shape[1] - 1})"
        )
    losses = F.cross_entropy(logits, labels.clamp_min(0), reduction="none")  # (N,)
    return (losses * labelled).sum() / labelled.sum().clamp_min(1)


def _check_pairs(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape or not len(first):
        raise ValueError(
            f"embeddings have shapes {tuple(first.shape)} and {tuple(second.shape)}; expected two of the same (B, D), "
            "with at least one row"
        )
