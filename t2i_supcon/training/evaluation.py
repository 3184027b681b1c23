"""What the phases report: retrieval between texts and images, and distances between sets of images."""

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from ..data import EvaluationRows, encode_prompts, shard_files
from .recipe import Recipe


def retrieval_recall(sent_emb: Tensor, image_emb: Tensor, pool: int = 100, ranks: tuple[int, ...] = (1, 10)) -> dict[str, float]:
    """Text-to-image retrieval: how often a caption's own image is among the k most similar (cosine) of `pool` images.

    Rows are shuffled once (seed 0) and cut into pools; each caption searches the images of its own pool. Chance is k / pool.

    Args:
        sent_emb, image_emb: (N, D), row i of both belongs together; N >= pool. The N mod pool rows left over are not used.

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


def evaluation_rows(
    recipe: Recipe,
    rows: datasets.Dataset | datasets.IterableDataset,
    split: str,
    tokenizer: PreTrainedTokenizerFast,
    size: int,
    count: int | None,
) -> EvaluationRows:
    """`count` rows of a split of the recipe's data, of which as large a share may be broken as it allows; see `EvaluationRows`."""
    return EvaluationRows(rows, tokenizer, size, count, shard_files(recipe.data.name, split), recipe.data.max_broken_share)


@torch.no_grad()
def embed_images(image_encoder, rows: EvaluationRows, device: torch.device, batch_size: int = 64) -> Tensor:
    """Embeds the images of all rows: (N, D) on the CPU. `rows` no longer hold those whose image turns out to be broken."""
    return torch.cat([image_encoder(images.to(device)).image_emb.float().cpu() for images in rows.batches(batch_size)])


@torch.no_grad()
def embed_texts(text_encoder, tokenizer, captions: list[str], device: torch.device, batch_size: int = 256) -> Tensor:
    """Embeds captions: (N, D) on the CPU."""
    embeddings = []
    for start in range(0, len(captions), batch_size):
        encoded = encode_prompts(tokenizer, captions[start : start + batch_size]).to(device)
        embeddings.append(text_encoder(**encoded).sent_emb.float().cpu())
    return torch.cat(embeddings)


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` row numbers (or all, if fewer) spread over `total` rows."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
