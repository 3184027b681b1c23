"""Images and texts of evaluation rows as embeddings."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..data import EvaluationRows, encode_prompts


class EmbeddedImages(NamedTuple):
    """The images of evaluation rows, without those that could not be read.

    Attributes:
        image_emb: (N, D) on the CPU.
        captions: the N captions.
        indices: which of the evaluation rows they are.
    """

    image_emb: Tensor
    captions: list[str]
    indices: list[int]


@torch.no_grad()
def embed_images(image_encoder, rows: EvaluationRows, device: torch.device, batch_size: int = 64) -> EmbeddedImages:
    """Embeds the images of all rows that can be read, their captions beside them."""
    embeddings, captions, indices = [], [], []
    for batch in rows.batches(batch_size):
        embeddings.append(image_encoder(batch.images.to(device)).image_emb.float().cpu())
        captions += batch.captions
        indices += batch.indices
    return EmbeddedImages(torch.cat(embeddings), captions, indices)


@torch.no_grad()
def embed_texts(text_encoder, tokenizer, captions: list[str], device: torch.device, batch_size: int = 256) -> Tensor:
    """Embeds captions: (N, D) on the CPU."""
    embeddings = []
    for start in range(0, len(captions), batch_size):
        encoded = encode_prompts(tokenizer, captions[start : start + batch_size]).to(device)
        embeddings.append(text_encoder(**encoded).sent_emb.float().cpu())
    return torch.cat(embeddings)
