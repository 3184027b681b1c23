"""How well texts find their own images in a shared space."""

import torch
from torch import Tensor
from torch.nn import functional as F


def retrieval_recall(
    sent_emb: Tensor, image_emb: Tensor, pool: int = 100, ranks: tuple[int, ...] = (1, 10)
) -> dict[str, float]:
    """Text-to-image retrieval: how often a caption's own image is among the k most similar (cosine)
    of `pool` images.

    Rows are shuffled once (seed 0) and cut into pools; each caption searches the images of its own
    pool. Chance is k / pool.

    Args:
        sent_emb, image_emb: (N, D), row i of both belongs together; N >= pool. The N mod pool rows
            left over are not used.

    Returns:
        {"recall@k": share in [0, 1]} for each k.

    Raises:
        ValueError: fewer rows than one pool.
    """
    if len(sent_emb) < pool:
        raise ValueError(f"retrieval among {pool} images needs at least {pool} rows; there are {len(sent_emb)}")
    order = torch.randperm(len(sent_emb), generator=torch.Generator().manual_seed(0))
    order = order[: len(order) // pool * pool].view(-1, pool)  # (pools, pool)
    texts, images = (F.normalize(x.float(), dim=-1)[order] for x in (sent_emb, image_emb))
    similarity = texts @ images.transpose(1, 2)  # (pools, caption, image)
    own = similarity.diagonal(dim1=1, dim2=2)[..., None]
    better = (similarity > own).sum(dim=-1)  # how many images beat the caption's own
    return {f"recall@{k}": (better < k).double().mean().item() for k in ranks}
