"""The loss terms both phases compute, on real images in phase 1 and on generated ones in phase 2."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..losses import clip_contrastive_loss, cosine_matching_loss, positive_mask, sentence_matching_loss, supcon_loss, word_matching_loss
from ..models import ImageEmbeddings, TextEmbeddings
from .recipe import Recipe


def matching_terms(
    recipe: Recipe, images: ImageEmbeddings, text: TextEmbeddings, labels: Tensor, num_views: int, logit_scale: Tensor | None = None
) -> dict[str, Tensor]:
    """DAMSM's `words` and `sent` (both directions summed), CLIP's `clip` (their mean), GALIP's `clip_sim`.

    Each view is matched on its own and the views are averaged, which keeps a weight's meaning the same with one view and with two.
    `logit_scale` is what `clip` multiplies its cosines with.

    Raises:
        ValueError: `words` with an image encoder that embeds no regions.
    """
    terms = {}
    labels = labels if recipe.mask_same_label else None
    if "words" in recipe.loss_weights:
        if images.region_feats is None:
            raise ValueError("loss_weights names 'words', but this image encoder embeds no regions to match words with")
        views = _views(num_views, images.region_feats, text.word_embs, text.attention_mask, labels)
        losses = [word_matching_loss(*view, recipe.gamma1, recipe.gamma2, recipe.gamma3)[:2] for view in views]
        terms["words"] = sum(sum(pair) for pair in losses) / num_views
    if "sent" in recipe.loss_weights:
        views = _views(num_views, images.image_emb, text.sent_emb, labels)
        terms["sent"] = sum(sum(sentence_matching_loss(*view, recipe.gamma3)) for view in views) / num_views
    if "clip" in recipe.loss_weights:
        views = _views(num_views, images.image_emb, text.sent_emb, labels)
        losses = [clip_contrastive_loss(image, sentence, logit_scale, own) for image, sentence, own in views]
        terms["clip"] = sum(sum(pair) / 2 for pair in losses) / num_views
    if "clip_sim" in recipe.loss_weights:
        terms["clip_sim"] = cosine_matching_loss(images.image_emb, text.sent_emb)
    return terms


def supcon_terms(recipe: Recipe, image_emb: Tensor, sent_emb: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """`supcon` over images and texts of all views: 2N normalised embeddings, positives wherever labels are shared."""
    if "supcon" not in recipe.loss_weights:
        return {}
    embeddings = F.normalize(torch.cat([image_emb, sent_emb]).float(), dim=1)  # (2N, D)
    positives = positive_mask(torch.cat([labels, labels]), "jaccard" if recipe.positives == "jaccard" else "any")
    return {"supcon": supcon_loss(embeddings, positives, recipe.scl_temperature)}


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Sum of the terms times their weights.

    Raises:
        KeyError: a term without a weight, which should not have been computed.
    """
    return sum(weights[name] * term for name, term in terms.items())


def _views(num_views: int, *tensors: Tensor | None) -> zip:
    """Splits view-major tensors into one tuple per view; None stays None in each."""
    return zip(*([None] * num_views if t is None else t.chunk(num_views) for t in tensors))
