"""How well images and texts find each other in a shared space.

Ties count against the model: embeddings that are all alike, or NaN, find nothing.
"""

import numpy as np
import torch

from .arrays import Array, as_labels, as_pairs, unit_rows

ROUNDING = 1e-12  # cosines closer than this are tied


def retrieval_recall(
    sent_emb: Array, image_emb: Array, pool: int = 100, ranks: tuple[int, ...] = (1, 10)
) -> dict[str, float]:
    """Text-to-image retrieval: how often a caption's own image is among the k most similar (cosine)
    of `pool` images.

    Rows are shuffled once (seed 0) and cut into pools; each caption searches the images of its own
    pool. Where k reaches the size of the pool, the own image must still beat one other, so that
    constant embeddings find nothing there either. Chance is min(k, pool - 1) / pool.

    Args:
        sent_emb, image_emb: (N, D), row i of both belongs together; N >= 2. Of more than one pool,
            the N mod pool rows left over are not used.
        pool: images searched; all N where there are fewer.

    Returns:
        {"recall@k": share in [0, 1]} for each k, and "pool", the number of images searched, where
        it is smaller than asked.

    Raises:
        ValueError: fewer than two rows, or shapes that differ.
    """
    texts, images = as_pairs(sent_emb, image_emb, ("sent_emb", "image_emb"))
    if len(texts) < 2 or pool < 2:
        raise ValueError(f"there are {len(texts)} rows in pools of {pool}; retrieval needs at least 2 of each")
    size = min(pool, len(texts))
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).numpy()
    order = order[: len(order) // size * size].reshape(-1, size)  # (pools, size)
    worse = np.concatenate([_beaten(texts[rows] @ images[rows].T) for rows in order])
    recall = {f"recall@{k}": float((worse >= max(size - k, 1)).mean()) for k in ranks}
    return recall if size == pool else {**recall, "pool": size}


def r_precision(image_emb: Array, sent_emb: Array, wrong: Array) -> float:
    """Share of images that are closer (cosine) to their own sentence than to every one of the wrong
    ones (Xu et al., arXiv 1711.10485, section 4.1).

    Unlike in the original code, which takes the first maximum, a tie is a miss.

    Args:
        image_emb, sent_emb: (N, D), row i of both belongs together.
        wrong: (N, K) rows of `sent_emb` that image i competes with, 99 in the paper; see
            `wrong_sentences`.

    Raises:
        ValueError: shapes that do not fit, or rows that do not exist.
    """
    images, sentences = as_pairs(image_emb, sent_emb, ("image_emb", "sent_emb"))
    wrong = np.asarray(wrong.detach().cpu() if isinstance(wrong, torch.Tensor) else wrong)
    n = len(images)
    if wrong.ndim != 2 or len(wrong) != n or wrong.shape[1] == 0 or n == 0:
        raise ValueError(f"wrong has shape {wrong.shape}; expected ({n}, K), one row of candidates per image")
    if not np.issubdtype(wrong.dtype, np.integer):
        raise ValueError(f"wrong holds {wrong.dtype}; expected whole numbers, the candidates' rows")
    if wrong.min() < 0 or wrong.max() >= n:
        raise ValueError(f"wrong names rows {wrong.min()} to {wrong.max()}; there are rows 0 to {n - 1}")
    hits = [
        bool((sentences[candidates] @ image < sentence @ image - ROUNDING).all())
        for image, sentence, candidates in zip(images, sentences, wrong)
    ]
    return float(np.mean(hits))


def label_precision(
    queries: Array, gallery: Array, query_labels: Array, gallery_labels: Array, neighbours: int = 1, own: bool = False
) -> float:
    """Label retrieval: share of a query's nearest rows (cosine) that have its label, mean over the
    queries.

    Args:
        queries: (N, D).
        gallery: (M, D), searched by each query.
        query_labels, gallery_labels: (N,) and (M,) integers.
        neighbours: how many of the nearest count.
        own: whether row i of the gallery belongs to query i, as the row itself or its picture: it
            is left out.

    Returns:
        Share in [0, 1]. Random embeddings find about the labels' mean share of the gallery.

    Raises:
        ValueError: shapes that do not fit, or a gallery of too few rows.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1] or not len(queries):
        raise ValueError(
            f"queries have shape {tuple(queries.shape)} and the gallery {tuple(gallery.shape)}; expected (N, D), (M, D)"
        )
    left = len(gallery) - own
    if own and len(queries) != len(gallery):
        raise ValueError(f"{len(queries)} queries cannot each own one of {len(gallery)} rows of the gallery")
    if not 1 <= neighbours <= left:
        raise ValueError(f"neighbours is {neighbours}; it must be from 1 to the {left} rows that a query searches")
    wanted = as_labels(query_labels, len(queries), "query_labels")[:, None]
    same = wanted == as_labels(gallery_labels, len(gallery), "gallery_labels")
    similarity = np.nan_to_num(unit_rows(queries) @ unit_rows(gallery).T, nan=-1.0)
    if own:
        np.fill_diagonal(similarity, -np.inf)
    similarity = np.round(similarity / ROUNDING) * ROUNDING
    order = np.lexsort((same, -similarity), axis=-1)[:, :neighbours]  # of tied rows those of other labels first
    return float(np.take_along_axis(same, order, axis=1).mean())


def wrong_sentences(labels: Array, candidates: int = 99, seed: int = 0) -> np.ndarray:
    """Draws for each row `candidates` rows that share no label with it, with replacement: the
    candidates of `r_precision`.

    Args:
        labels: (N,) integers, or (N, C) multi-hot. Where there are no classes, `arange(N)` makes
            every other row a candidate.

    Returns:
        (N, candidates) row numbers.

    Raises:
        ValueError: a row that shares a label with all others.
    """
    labels = np.asarray(labels.detach().cpu() if isinstance(labels, torch.Tensor) else labels)
    if labels.ndim != 2:
        labels = as_labels(labels, len(labels), "labels")
    random = np.random.default_rng(seed)
    drawn = np.empty((len(labels), candidates), dtype=np.int64)
    for row, label in enumerate(labels):
        shared = labels == label if labels.ndim == 1 else (labels * label).any(axis=1)
        others = np.flatnonzero(~shared)
        others = others[others != row]  # a row without any label shares none with itself
        if not len(others):
            raise ValueError(f"row {row} shares a label with all {len(labels)} rows; there is no wrong sentence for it")
        drawn[row] = random.choice(others, candidates)
    return drawn


def _beaten(similarity: np.ndarray) -> np.ndarray:
    """(n,) how many others the own one, on the diagonal of (n, n), beats in its row; NaN beats
    none."""
    own = similarity.diagonal()[:, None]
    return (similarity < own - ROUNDING).sum(axis=1)
