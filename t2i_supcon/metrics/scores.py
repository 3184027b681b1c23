"""Scores of generated images alone or with their captions: Inception Score, CLIP score."""

import numpy as np

from .arrays import Array, as_pairs, as_rows


def inception_score(logits: Array, splits: int = 10) -> tuple[float, float]:
    """exp of the mean KL(p(y|x) || mean p) in each split (Salimans et al., arXiv 1606.03498,
    section 4).

    Rows are taken in the order given: split i holds rows [i N // splits, (i + 1) N // splits). Rows
    sorted by class give far smaller scores than shuffled ones. It grows with N.

    Args:
        logits: (N, C), N >= splits.

    Returns:
        mean and population standard deviation over the splits.

    Raises:
        ValueError: fewer rows than splits.
    """
    logits = as_rows(logits, "logits", at_least=1)
    if not 1 <= splits <= len(logits):
        raise ValueError(f"splits is {splits}; it must lie between 1 and the number of rows, {len(logits)}")
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = []
    for start, end in zip(bounds, bounds[1:]):
        part = log_p[start:end]
        peak = part.max(axis=0)  # a class so unlikely that its mean would be 0 keeps a finite logarithm
        log_mean = peak + np.log(np.exp(part - peak).mean(axis=0))
        scores.append(np.exp((np.exp(part) * (part - log_mean)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def clip_score(image_emb: Array, text_emb: Array) -> float:
    """Mean cosine of each image with its own caption, neither scaled nor clamped (Hessel et al.,
    arXiv 2104.08718, take 2.5 * max(cos, 0); other code prints 100 * cos).

    It tells little of a model that was trained to maximise it with the same network.

    Args:
        image_emb, text_emb: (N, D), row i of both belongs together.

    Raises:
        ValueError: shapes that differ, no rows, or values that are not finite.
    """
    for name, rows in (("image_emb", image_emb), ("text_emb", text_emb)):
        as_rows(rows, name, at_least=1)
    images, texts = as_pairs(image_emb, text_emb, ("image_emb", "text_emb"))
    return float((images * texts).sum(axis=1).mean())
