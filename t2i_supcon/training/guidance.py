"""Guidance: the loss terms that ask whether images fit their texts and labels.

Phase 1 takes them of real images and trains the encoders; phase 2 takes them of generated images
and trains the generator through frozen encoders. `TERMS` is the one table of them: a new term is
a function in `losses`, a row there and its test.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..contrast import contrast_statistics, contrasted, projection_head
from ..losses import (
    clip_contrastive_loss,
    cosine_matching_loss,
    label_cross_entropy,
    matching_loss,
    nt_xent_loss,
    positive_mask,
    sentence_matching_loss,
    supcon_loss,
    unicl_loss,
    word_relevance,
)
from ..models import ImageEmbeddings, TextEmbeddings
from ..processes import broadcast_state, gather_rows

if TYPE_CHECKING:
    from .recipe import Recipe


@dataclass
class EmbeddedBatch:
    """Embeddings and labels of a batch: this process's rows and, gathered when first asked for,
    those of all processes, view-major.

    Attributes:
        images: of the B images of this process.
        text: of their captions.
        labels: (B,) class ids, negative = unlabelled; or (B, C) multi-hot.
        num_views: views that the rows consist of.
        logit_scale: what `clip` multiplies its cosines with; only CLIP's encoders learn one.
    """

    images: ImageEmbeddings
    text: TextEmbeddings
    labels: Tensor
    num_views: int = 1
    logit_scale: Tensor | None = None

    @cached_property
    def all_image_embs(self) -> Tensor:
        return gather_rows(self.images.image_emb, self.num_views)

    @cached_property
    def all_sent_embs(self) -> Tensor:
        return gather_rows(self.text.sent_emb, self.num_views)

    @cached_property
    def all_labels(self) -> Tensor:
        return gather_rows(self.labels, self.num_views)

    def views(self, *tensors: Tensor | None) -> Iterable[tuple[Tensor | None, ...]]:
        """View-major tensors as one tuple per view; None stays None in each."""
        return zip(*([None] * self.num_views if t is None else t.chunk(self.num_views) for t in tensors))


@dataclass(frozen=True)
class GuidanceResult:
    """What a batch gave.

    Attributes:
        terms: each weighted term by its name, a scalar, not yet weighted.
        statistics: scalars without gradient, to watch.
    """

    terms: dict[str, Tensor]
    statistics: dict[str, Tensor]


class Guidance(nn.Module):
    """Computes the terms that have a weight, and owns what they train.

    It takes the rows of this process and contrasts those of all processes, where
    `torch.distributed` runs. Each view of a batch is matched on its own and the views are averaged,
    so that a weight means the same with one view and with two; `supcon` sees all views.

    Args:
        weights: of the terms by their names in `TERMS`; a term without weight is not computed.
        embedding_dim: width D of the embeddings; only for terms that train something.
        num_classes: of the labels; only for `label_ce`.
        region_feats, logit_scale: whether the encoders embed regions, and learn CLIP's scale.
        supcon_temperature: tau of `supcon`.
        supcon_projection: width of a trained projection (linear, ReLU, linear) of the embeddings
            that `supcon` contrasts, as SupCon's authors use; None contrasts them as they are.
        unicl_temperature: what `unicl` divides its cosines by, where the encoders learn no scale.
        nt_xent_temperature: tau of `nt_xent`.
        overlap: of multi-hot rows, see `positive_mask`.
        mask_shared_labels: the matching terms leave rows that share a label out of the negatives.
        gamma1, gamma2, gamma3: sharpness of word attention, word pooling and batch softmax in the
            matching terms.

    Raises:
        ValueError: an unknown term, a weight that is negative or no number, a term that needs what
            the encoders do not give, or a temperature that is not positive.
    """

    def __init__(
        self,
        weights: dict[str, float],
        *,
        embedding_dim: int | None = None,
        num_classes: int | None = None,
        region_feats: bool = True,
        logit_scale: bool = False,
        supcon_temperature: float = 0.1,
        supcon_projection: int | None = None,
        unicl_temperature: float = 0.07,
        nt_xent_temperature: float = 0.5,
        overlap: Literal["any", "jaccard"] = "any",
        mask_shared_labels: bool = True,
        gamma1: float = 5.0,
        gamma2: float = 5.0,
        gamma3: float = 10.0,
    ):
        super().__init__()
        temperatures = {"supcon": supcon_temperature, "unicl": unicl_temperature, "nt_xent": nt_xent_temperature}
        for name, temperature in temperatures.items():
            if not temperature > 0:
                raise ValueError(f"{name}_temperature is {temperature}; it must be positive")
        given = {"region_feats": region_feats, "logit_scale": logit_scale}
        for name, weight in weights.items():
            if name not in TERMS:
                raise ValueError(f"loss_weights names {name!r}; the guidance terms are {', '.join(TERMS)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"loss_weights.{name} is {weight}; a weight is a number of at least 0")
            needed = TERMS[name].needs
            if needed is not None and not given[needed]:
                raise ValueError(f"loss_weights names {name!r}, but {MISSING[needed]}")
        self.weights = weights
        self.embedding_dim = embedding_dim
        self.num_classes = num_classes
        self.temperatures = temperatures
        self.supcon_projection = supcon_projection
        self.overlap = overlap
        self.mask_shared_labels = mask_shared_labels
        self.gamma1, self.gamma2, self.gamma3 = gamma1, gamma2, gamma3
        heads = {name: TERMS[name].make_head(self) for name in weights if TERMS[name].make_head}
        self.heads = nn.ModuleDict({name: head for name, head in heads.items() if head is not None})

    @classmethod
    def from_recipe(
        cls,
        recipe: "Recipe",
        image_encoder: nn.Module,
        num_classes: int | None,
        device: torch.device,
        logit_scale: bool = False,
    ) -> "Guidance":
        """The guidance that a recipe asks for with these encoders and labels, alike in all
        processes.

        Args:
            image_encoder: whose embeddings will come.
            num_classes: of the labels that will come.
            device: of the embeddings.
            logit_scale: whether a learned scale will come with them.
        """
        config = image_encoder.config
        guidance = cls(
            {name: weight for name, weight in recipe.loss_weights.items() if name in TERMS},
            embedding_dim=getattr(config, "projection_dim", None) or config.hidden_size,
            num_classes=num_classes,
            region_feats=image_encoder.embeds_regions,
            logit_scale=logit_scale,
            supcon_temperature=recipe.supcon_temperature,
            supcon_projection=recipe.supcon_projection,
            unicl_temperature=recipe.unicl_temperature,
            nt_xent_temperature=recipe.nt_xent_temperature,
            overlap="jaccard" if recipe.positives == "jaccard" else "any",
            mask_shared_labels=recipe.mask_shared_labels,
            gamma1=recipe.gamma1,
            gamma2=recipe.gamma2,
            gamma3=recipe.gamma3,
        ).to(device)
        broadcast_state(guidance)
        return guidance

    def forward(
        self,
        images: ImageEmbeddings,
        text: TextEmbeddings,
        labels: Tensor,
        num_views: int = 1,
        logit_scale: Tensor | None = None,
    ) -> GuidanceResult:
        """The terms of a batch; see `EmbeddedBatch` for the arguments.

        Args:
            images: `image_emb` (B, D) and, for `words`, `region_feats` (B, D, h, w).
            text: `sent_emb` (B, D) and, for `words`, `word_embs` (B, T, D) and `attention_mask`.
        """
        batch = EmbeddedBatch(images, text, labels, num_views, logit_scale)
        terms, statistics = {}, {}
        for name in self.weights:
            term = TERMS[name]
            terms[name] = term.loss(self, batch)
            if term.statistics is not None:
                statistics |= term.statistics(self, batch)
        return GuidanceResult(terms, statistics)

    def labels_to_mask(self, batch: EmbeddedBatch) -> Tensor | None:
        """Labels whose rows the matching terms leave out of each other's negatives, if any."""
        return batch.all_labels if self.mask_shared_labels else None


class Term(NamedTuple):
    """One term of guidance.

    Attributes:
        loss: makes the scalar of a batch.
        needs: what not every encoder gives, a key of `MISSING`.
        statistics: scalars to watch beside the loss.
        make_head: what the term trains beside the encoders or the generator, or None.
    """

    loss: Callable[[Guidance, EmbeddedBatch], Tensor]
    needs: str | None = None
    statistics: Callable[[Guidance, EmbeddedBatch], dict[str, Tensor]] | None = None
    make_head: Callable[[Guidance], nn.Module | None] | None = None


MISSING = {
    "region_feats": "this image encoder embeds no regions to match words with",
    "logit_scale": "these encoders have no logit scale: it is the matching loss of model 'clip' in phase 1",
}


def _words(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    words, mask = (gather_rows(t, batch.num_views) for t in (batch.text.word_embs, batch.text.attention_mask))
    labels = guidance.labels_to_mask(batch)
    losses = []
    for regions, *captions, shared in batch.views(batch.images.region_feats, words, mask, labels):
        # this process's images with all captions
        relevance = word_relevance(regions, *captions, guidance.gamma1, guidance.gamma2)
        losses.append(sum(matching_loss(guidance.gamma3 * gather_rows(relevance), shared)))
    return sum(losses) / batch.num_views


def _sent(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    views = batch.views(batch.all_image_embs, batch.all_sent_embs, guidance.labels_to_mask(batch))
    return sum(sum(sentence_matching_loss(*view, guidance.gamma3)) for view in views) / batch.num_views


def _clip(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    views = batch.views(batch.all_image_embs, batch.all_sent_embs, guidance.labels_to_mask(batch))
    losses = [clip_contrastive_loss(image, text, batch.logit_scale, shared) for image, text, shared in views]
    return sum(sum(pair) / 2 for pair in losses) / batch.num_views


def _clip_sim(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    return cosine_matching_loss(batch.images.image_emb, batch.text.sent_emb)  # of its own rows only: a mean over rows


def _contrasted(guidance: Guidance, batch: EmbeddedBatch) -> tuple[Tensor, Tensor]:
    """Images and texts of all views as 2N normalised embeddings, and who is whose positive."""
    embeddings = torch.cat([batch.all_image_embs, batch.all_sent_embs])  # (2N, D)
    projection = guidance.heads["supcon"] if "supcon" in guidance.heads else None
    return contrasted(embeddings, batch.all_labels, projection, guidance.overlap)


def _supcon(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    return supcon_loss(*_contrasted(guidance, batch), guidance.temperatures["supcon"])


@torch.no_grad()
def _supcon_statistics(guidance: Guidance, batch: EmbeddedBatch) -> dict[str, Tensor]:
    return contrast_statistics(*_contrasted(guidance, batch))


def _projection(guidance: Guidance) -> nn.Module | None:
    if guidance.supcon_projection is None:
        return None
    if guidance.embedding_dim is None:
        raise ValueError("supcon_projection needs to know embedding_dim, the width of what it projects")
    return projection_head(guidance.embedding_dim, guidance.supcon_projection)


def _unicl(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    positives = positive_mask(batch.all_labels, guidance.overlap)
    scale = 1 / guidance.temperatures["unicl"] if batch.logit_scale is None else batch.logit_scale
    return unicl_loss(batch.all_image_embs, batch.all_sent_embs, positives, scale)


def _nt_xent(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    """Of two captions of one image: of the sentences, or of the images that a generator drew."""
    if batch.num_views != 2:
        raise ValueError(f"nt_xent contrasts two views of each row, and batches have {batch.num_views}")
    learned = batch.all_sent_embs if batch.text.sent_emb.requires_grad else batch.all_image_embs
    return nt_xent_loss(*learned.chunk(2), guidance.temperatures["nt_xent"])


def _label_ce(guidance: Guidance, batch: EmbeddedBatch) -> Tensor:
    logits = guidance.heads["label_ce"](torch.cat([batch.all_image_embs, batch.all_sent_embs]).float())
    return label_cross_entropy(logits, torch.cat([batch.all_labels] * 2))


def _classifier(guidance: Guidance) -> nn.Module:
    if not guidance.embedding_dim or not guidance.num_classes:
        raise ValueError(
            "loss_weights names 'label_ce', which classifies labels: it needs embedding_dim and num_classes, and "
            f"these are {guidance.embedding_dim} and {guidance.num_classes}"
        )
    return nn.Linear(guidance.embedding_dim, guidance.num_classes)


TERMS = {
    "words": Term(_words, needs="region_feats"),  # DAMSM's, both directions summed
    "sent": Term(_sent),  # DAMSM's, both directions summed
    "clip": Term(_clip, needs="logit_scale"),  # CLIP's, mean of both directions
    "clip_sim": Term(_clip_sim),  # GALIP's
    "supcon": Term(_supcon, statistics=_supcon_statistics, make_head=_projection),
    "unicl": Term(_unicl),
    "nt_xent": Term(_nt_xent),  # of unlabelled rows
    "label_ce": Term(_label_ce, make_head=_classifier),
}
