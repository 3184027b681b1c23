"""The loss terms both phases compute, on real images in phase 1 and on generated ones in phase 2.

They take the rows of this process and contrast the rows of all of them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..losses import (
    clip_contrastive_loss,
    cosine_matching_loss,
    matching_loss,
    positive_mask,
    sentence_matching_loss,
    supcon_loss,
    word_relevance,
)
from ..metrics import alignment, positives_per_anchor, uniformity
from ..models import ImageEmbeddings, TextEmbeddings
from .distributed import gather_rows
from .recipe import Recipe


def matching_terms(
    recipe: Recipe,
    images: ImageEmbeddings,
    text: TextEmbeddings,
    labels: Tensor,
    num_views: int,
    logit_scale: Tensor | None = None,
) -> dict[str, Tensor]:
    """DAMSM's `words` and `sent` (both directions summed), CLIP's `clip` (their mean), GALIP's
    `clip_sim`.

    Each view is matched on its own and the views are averaged, which keeps a weight's meaning the
    same with one view and with two. `logit_scale` is what `clip` multiplies its cosines with.

    Raises:
        ValueError: `words` with an image encoder that embeds no regions.
    """
    terms, weights = {}, recipe.loss_weights
    if "words" in weights and images.region_feats is None:
        raise ValueError("loss_weights names 'words', but this image encoder embeds no regions to match words with")
    labels = gather_rows(labels, num_views) if recipe.mask_same_label else None
    if "words" in weights:
        words, mask = (gather_rows(t, num_views) for t in (text.word_embs, text.attention_mask))
        losses = []
        for regions, *captions, own in _views(num_views, images.region_feats, words, mask, labels):
            relevance = word_relevance(
                regions, *captions, recipe.gamma1, recipe.gamma2
            )  # this process's images, all captions
            losses.append(sum(matching_loss(recipe.gamma3 * gather_rows(relevance), own)))
        terms["words"] = sum(losses) / num_views
    if weights.keys() & {"sent", "clip"}:
        image_emb, sent_emb = (gather_rows(t, num_views) for t in (images.image_emb, text.sent_emb))
        views = list(_views(num_views, image_emb, sent_emb, labels))
    if "sent" in weights:
        terms["sent"] = sum(sum(sentence_matching_loss(*view, recipe.gamma3)) for view in views) / num_views
    if "clip" in weights:
        losses = [clip_contrastive_loss(image, sentence, logit_scale, own) for image, sentence, own in views]
        terms["clip"] = sum(sum(pair) / 2 for pair in losses) / num_views
    if "clip_sim" in weights:
        terms["clip_sim"] = cosine_matching_loss(
            images.image_emb, text.sent_emb
        )  # of its own rows only: a mean over rows
    return terms


def supcon_terms(
    recipe: Recipe, image_emb: Tensor, sent_emb: Tensor, labels: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`supcon` over images and texts of all views: 2N normalised embeddings, positives wherever
    labels are shared.

    Returns:
        (terms, statistics) of the same embeddings, both empty without that weight.
    """
    if "supcon" not in recipe.loss_weights:
        return {}, {}
    image_emb, sent_emb, labels = (gather_rows(t) for t in (image_emb, sent_emb, labels))
    embeddings = F.normalize(torch.cat([image_emb, sent_emb]).float(), dim=1)  # (2N, D)
    positives = positive_mask(torch.cat([labels, labels]), "jaccard" if recipe.positives == "jaccard" else "any")
    statistics = {
        "stats/positives": positives_per_anchor(positives),
        "stats/alignment": alignment(embeddings.detach(), positives),
        "stats/uniformity": uniformity(embeddings.detach()),
    }
    return {"supcon": supcon_loss(embeddings, positives, recipe.scl_temperature)}, statistics


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Sum of the terms times their weights.

    Raises:
        KeyError: a term without a weight, which should not have been computed.
    """
    return sum(weights[name] * term for name, term in terms.items())


def _views(num_views: int, *tensors: Tensor | None) -> zip:
    """Splits view-major tensors into one tuple per view; None stays None in each."""
    return zip(*([None] * num_views if t is None else t.chunk(num_views) for t in tensors))
