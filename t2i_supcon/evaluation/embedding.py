"""Images and texts of evaluation rows as embeddings."""

import torch
from torch import Tensor

from ..data import EvaluationRows, encode_prompts


@torch.no_grad()
def embed_images(image_encoder, rows: EvaluationRows, device: torch.device, batch_size: int = 64) -> Tensor:
    """Embeds the images of all rows: (N, D) on the CPU. `rows` no longer hold those whose image
    turns out to be broken."""
    return torch.cat([image_encoder(images.to(device)).image_emb.float().cpu() for images in rows.batches(batch_size)])


@torch.no_grad()
def embed_texts(text_encoder, tokenizer, captions: list[str], device: torch.device, batch_size: int = 256) -> Tensor:
    """Embeds captions: (N, D) on the CPU."""
    embeddings = []
    for start in range(0, len(captions), batch_size):
        encoded = encode_prompts(tokenizer, captions[start : start + batch_size]).to(device)
        embeddings.append(text_encoder(**encoded).sent_emb.float().cpu())
    return torch.cat(embeddings)
