"""Image-text matching losses: each caption must find its image, and each image its caption.

Those of DAMSM (Xu et al., arXiv 1711.10485, section 3.2), of CLIP (Radford et al., arXiv
2103.00020) and of GALIP (Tao et al., arXiv 2301.12959).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .supcon import positive_mask


@full_precision
def word_matching_loss(
    region_feats: Tensor,
    word_embs: Tensor,
    attention_mask: Tensor,
    labels: Tensor | None = None,
    gamma1: float = 5.0,
    gamma2: float = 5.0,
    gamma3: float = 10.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Matches captions and images word by word (eq. 7-12).

    Args:
        region_feats: (B, D, h, w).
        word_embs: (B, T, D).
        attention_mask: (B, T), 1 = real word.
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives.
            None: every other row is one.
        gamma1: sharpness of a word's attention over regions.
        gamma2: how much the best matching words count.
        gamma3: sharpness of the softmax over the batch.

    Returns:
        (image_to_text, text_to_image, attentions): two scalars and each caption's attention over
        its own image, (B, T, h, w).
    """
    relevance = word_relevance(region_feats, word_embs, attention_mask, gamma1, gamma2)
    padding = attention_mask[:, :, None] == 0
    scores = word_embs @ region_feats.flatten(2)  # (B, T, h * w)
    attentions = (
        (gamma1 * scores.masked_fill(padding, float("-inf")).softmax(dim=1)).softmax(dim=2).masked_fill(padding, 0)
    )
    return *matching_loss(gamma3 * relevance, labels), attentions.unflatten(2, region_feats.shape[2:])


@full_precision
def word_relevance(
    region_feats: Tensor, word_embs: Tensor, attention_mask: Tensor, gamma1: float = 5.0, gamma2: float = 5.0
) -> Tensor:
    """How well each of M images shows what each of B captions says, word by word (eq. 7-10), all at
    once.

    Only real words are computed with, all W of them in one list.

    Args:
        region_feats: (M, D, h, w).
        word_embs: (B, T, D).
        attention_mask: (B, T), 1 = real word, at least one in each row.
        gamma1: sharpness of a word's attention over regions.
        gamma2: how much the best matching words count.

    Returns:
        (M, B).
    """
    regions = region_feats.flatten(2)  # (M, D, R)
    real = attention_mask.bool()
    words, lengths = word_embs[real], real.sum(dim=1).tolist()  # (W, D)
    scores = words.expand(len(regions), -1, -1) @ regions  # (M, W, R)
    # over the words of a caption, eq. 8
    attention = torch.cat([caption.softmax(dim=1) for caption in scores.split(lengths, dim=1)], dim=1)
    attention = (gamma1 * attention).softmax(dim=2)  # over the regions of an image, eq. 9
    context = attention @ regions.mT  # (M, W, D)
    dot = (context * words).sum(dim=2)
    cosine = dot / (context.norm(dim=2) * words.norm(dim=1)).clamp(min=1e-8)  # (M, W)
    # eq. 10
    return torch.stack([caption.logsumexp(dim=1) for caption in (gamma2 * cosine).split(lengths, dim=1)], dim=1)


@full_precision
def sentence_matching_loss(
    image_emb: Tensor, sent_emb: Tensor, labels: Tensor | None = None, gamma3: float = 10.0
) -> tuple[Tensor, Tensor]:
    """Matches whole captions and whole images by cosine similarity (eq. 13).

    Args:
        image_emb: (B, D).
        sent_emb: (B, D).
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives.
            None: every other row is one.
        gamma3: sharpness of the softmax over the batch.

    Returns:
        (image_to_text, text_to_image), two scalars.
    """
    similarity = F.cosine_similarity(image_emb[:, None], sent_emb[None], dim=-1, eps=1e-8)  # (image, caption)
    return matching_loss(gamma3 * similarity, labels)


@full_precision
def clip_contrastive_loss(
    image_emb: Tensor, sent_emb: Tensor, logit_scale: Tensor | float, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Matches captions and images by scaled cosine similarity (CLIP, fig. 3); CLIP trains on the
    mean of both terms.

    Args:
        image_emb: (B, D).
        sent_emb: (B, D).
        logit_scale: what the cosines are multiplied with, `model.logit_scale.exp()`.
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives.
            None: every other row is one.

    Returns:
        (image_to_text, text_to_image), two scalars.
    """
    similarity = F.normalize(image_emb, dim=1) @ F.normalize(sent_emb, dim=1).T  # (image, caption)
    return matching_loss(logit_scale * similarity, labels)


@full_precision
def cosine_matching_loss(image_emb: Tensor, sent_emb: Tensor) -> Tensor:
    """-mean cosine of each image (B, D) and its own sentence (B, D): GALIP's `clip_sim`, in [-1,
    1]."""
    return -F.cosine_similarity(image_emb, sent_emb, dim=1).mean()


@full_precision
def matching_loss(similarity: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each image's own caption and of each caption's own image, from all
    similarities of a batch.

    Args:
        similarity: (B, B) of image and caption, sharpened; those on the diagonal belong together.
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives.
            None: every other row is one.

    Returns:
        (image_to_text, text_to_image), two scalars.
    """
    own = torch.arange(len(similarity), device=similarity.device)
    if labels is not None:
        similarity = similarity.masked_fill(positive_mask(labels), float("-inf"))
    return F.cross_entropy(similarity, own), F.cross_entropy(similarity.T, own)
