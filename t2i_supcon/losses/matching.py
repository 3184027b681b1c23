"""Image-text matching losses: each caption must find its image, and each image its caption.

Those of DAMSM (Xu et al., arXiv 1711.10485, section 3.2), of CLIP (Radford et al., arXiv 2103.00020) and of GALIP (Tao et al., arXiv 2301.12959).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .supcon import positive_mask


def word_matching_loss(
    region_feats: Tensor,
    word_embs: Tensor,
    attention_mask: Tensor,
    labels: Tensor | None = None,
    gamma1: float = 5.0,
    gamma2: float = 5.0,
    gamma3: float = 10.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Matches captions and images word by word (eq. 7-12), all B x B pairs at once.

    Args:
        region_feats: (B, D, h, w).
        word_embs: (B, T, D).
        attention_mask: (B, T), 1 = real word.
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives. None: every other row is one.
        gamma1: sharpness of a word's attention over regions.
        gamma2: how much the best matching words count.
        gamma3: sharpness of the softmax over the batch.

    Returns:
        (image_to_text, text_to_image, attentions): two scalars and each caption's attention over its own image, (B, T, h, w).
    """
    b, _, h, w = region_feats.shape
    relevance, attention = word_relevance(region_feats, word_embs, attention_mask, gamma1, gamma2)
    own = torch.arange(b, device=relevance.device)
    attentions = attention[own, :, own].view(b, -1, h, w) * attention_mask.bool()[:, :, None, None]
    return *matching_loss(gamma3 * relevance, labels), attentions


def word_relevance(
    region_feats: Tensor, word_embs: Tensor, attention_mask: Tensor, gamma1: float = 5.0, gamma2: float = 5.0
) -> tuple[Tensor, Tensor]:
    """How well each of M images shows what each of B captions says, word by word (eq. 7-10).

    Args:
        region_feats: (M, D, h, w).
        word_embs: (B, T, D).
        attention_mask: (B, T), 1 = real word.
        gamma1: sharpness of a word's attention over regions.
        gamma2: how much the best matching words count.

    Returns:
        relevance (M, B) and attention (B, T, M, h * w) of each caption's words over each image.
    """
    m, d = region_feats.shape[:2]
    b, t = attention_mask.shape
    regions = region_feats.float().flatten(2)  # (M, D, R)
    words = word_embs.float()  # (B, T, D)
    real = attention_mask.bool()

    scores = words.reshape(b * t, d) @ regions.transpose(0, 1).reshape(d, -1)  # (B*T, M*R)
    scores = scores.view(b, t, m, -1).masked_fill(~real[:, :, None, None], float("-inf"))
    attention = scores.softmax(dim=1)  # over the words of a caption, eq. 8
    attention = (gamma1 * attention).softmax(dim=-1)  # over the regions of an image, eq. 9

    context = attention.permute(2, 0, 1, 3).reshape(m, b * t, -1) @ regions.transpose(1, 2)  # (image, caption*T, D)
    context = context.view(m, b, t, d)
    relevance = F.cosine_similarity(context, words[None], dim=-1, eps=1e-8)  # (image, caption, T)
    return (gamma2 * relevance).masked_fill(~real[None], float("-inf")).logsumexp(dim=-1), attention  # eq. 10


def sentence_matching_loss(image_emb: Tensor, sent_emb: Tensor, labels: Tensor | None = None, gamma3: float = 10.0) -> tuple[Tensor, Tensor]:
    """Matches whole captions and whole images by cosine similarity (eq. 13).

    Args:
        image_emb: (B, D).
        sent_emb: (B, D).
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives. None: every other row is one.
        gamma3: sharpness of the softmax over the batch.

    Returns:
        (image_to_text, text_to_image), two scalars.
    """
    similarity = F.cosine_similarity(image_emb.float()[:, None], sent_emb.float()[None], dim=-1, eps=1e-8)  # (image, caption)
    return matching_loss(gamma3 * similarity, labels)


def clip_contrastive_loss(image_emb: Tensor, sent_emb: Tensor, logit_scale: Tensor | float, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Matches captions and images by scaled cosine similarity (CLIP, fig. 3); CLIP trains on the mean of both terms.

    Args:
        image_emb: (B, D).
        sent_emb: (B, D).
        logit_scale: what the cosines are multiplied with, `model.logit_scale.exp()`.
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives. None: every other row is one.

    Returns:
        (image_to_text, text_to_image), two scalars.
    """
    similarity = F.normalize(image_emb.float(), dim=1) @ F.normalize(sent_emb.float(), dim=1).T  # (image, caption)
    return matching_loss(logit_scale * similarity, labels)


def cosine_matching_loss(image_emb: Tensor, sent_emb: Tensor) -> Tensor:
    """-mean cosine of each image (B, D) and its own sentence (B, D): GALIP's `clip_sim`, in [-1, 1]."""
    return -F.cosine_similarity(image_emb.float(), sent_emb.float(), dim=1).mean()


def matching_loss(similarity: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each image's own caption and of each caption's own image, from all similarities of a batch.

    Args:
        similarity: (B, B) of image and caption, sharpened; those on the diagonal belong together.
        labels: (B,) class ids or (B, C) multi-hot; other rows that share a label are no negatives. None: every other row is one.

    Returns:
        (image_to_text, text_to_image), two scalars.
    """
    own = torch.arange(len(similarity), device=similarity.device)
    if labels is not None:
        similarity = similarity.masked_fill(positive_mask(labels), float("-inf"))
    return F.cross_entropy(similarity, own), F.cross_entropy(similarity.T, own)
