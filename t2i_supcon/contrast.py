"""Supervised contrast of embeddings by their labels, for any training loop.

The two phases of this package use the same pieces; `SupConGuidance` is for loops of other people's.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .losses import positive_mask, supcon_loss
from .metrics import alignment, positives_per_anchor, uniformity
from .processes import gather_rows, num_processes

Overlap = Literal["any", "jaccard"]


def projection_head(width: int, projected: int) -> nn.Sequential:
    """The trained projection that SupCon's authors contrast behind (arXiv 2004.11362, section 3.1):
    (N, D) to (N, P)."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projected))


def contrasted(
    embeddings: Tensor, labels: Tensor, projection: nn.Module | None, overlap: Overlap
) -> tuple[Tensor, Tensor]:
    """What `supcon_loss` takes.

    Args:
        embeddings: (M * N, D), of M embeddings of each of N rows, one embedding of all rows after
            the other.
        labels: (N,) class ids, or (N, C) multi-hot; see `positive_mask`.
        projection: of the embeddings, or None.
        overlap: of multi-hot labels; see `positive_mask`.

    Returns:
        The embeddings, projected and normalised, (M * N, P); and who is whose positive,
        (M * N, M * N).
    """
    embeddings = embeddings.float()
    if projection is not None:
        embeddings = projection(embeddings)
    positives = positive_mask(torch.cat([labels] * (len(embeddings) // len(labels))), overlap)
    return F.normalize(embeddings, dim=1), positives


def contrast_statistics(embeddings: Tensor, positives: Tensor) -> dict[str, Tensor]:
    """What to watch beside the loss of what `contrasted` gives: `positives` (per embedding),
    `alignment` (mean squared distance of positives) and `uniformity` (Wang and Isola, arXiv
    2005.10242)."""
    return {
        "positives": positives_per_anchor(positives),
        "alignment": alignment(embeddings, positives),
        "uniformity": uniformity(embeddings),
    }


class SupConGuidance(nn.Module):
    """The supervised contrastive loss of embeddings and labels: one more term of any loss.

    All embeddings of all rows are contrasted together: rows that share a label, and the several
    embeddings of one row (say, of its image and of its caption), are each other's positives,
    everything else is negative. Where `torch.distributed` runs, the rows of all processes are
    contrasted, and gradients flow back to the process a row came from; each process then holds the
    loss of the whole batch, and a mean of the processes' gradients, which DistributedDataParallel
    takes, is that of one process with the whole batch.

    Without `projection_dim` nothing here is trained. With it, give the optimiser these parameters,
    too, and start them alike in all processes: from one seed, or under DistributedDataParallel.

    Example:
        guidance = SupConGuidance(temperature=0.1)
        loss = loss + 0.1 * guidance(labels, image_encoder(fake), text_emb)

    Args:
        temperature: tau > 0; the lower, the more the nearest negatives count.
        overlap: of multi-hot labels; "any" shared label makes a positive, "jaccard" weighs it by
            the share of labels in common.
        embedding_dim: width D of the embeddings; only for a projection.
        projection_dim: width P of a trained projection (linear, ReLU, linear) that is contrasted in
            the embeddings' place.

    Raises:
        ValueError: a temperature that is not positive, another overlap, or one width without the
            other.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        overlap: Overlap = "any",
        embedding_dim: int | None = None,
        projection_dim: int | None = None,
    ):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be positive")
        if overlap not in ("any", "jaccard"):
            raise ValueError(f"overlap is {overlap!r}; it must be 'any' or 'jaccard'")
        if (embedding_dim is None) != (projection_dim is None):
            raise ValueError(
                f"embedding_dim is {embedding_dim} and projection_dim {projection_dim}; a projection needs both"
            )
        self.temperature = temperature
        self.overlap = overlap
        self.projection = None if projection_dim is None else projection_head(embedding_dim, projection_dim)

    def forward(self, labels: Tensor, *embeddings: Tensor) -> Tensor:
        """The loss of a batch; not yet weighted.

        Args:
            labels: (N,) class ids, negative = unlabelled; or (N, C) multi-hot.
            embeddings: one or more of (N, D), not normalised.

        Returns:
            Scalar in float32; 0 where no row has a positive.

        Raises:
            ValueError: no embedding, embeddings of other rows or widths than the labels' and each
                other's, or processes with different numbers of rows.
        """
        return supcon_loss(*self._contrasted(labels, embeddings), self.temperature)

    @torch.no_grad()
    def statistics(self, labels: Tensor, *embeddings: Tensor) -> dict[str, Tensor]:
        """What to watch beside the loss, see `contrast_statistics`."""
        return contrast_statistics(*self._contrasted(labels, embeddings))

    def _contrasted(self, labels: Tensor, embeddings: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        shapes = [tuple(embedding.shape) for embedding in embeddings]
        if not shapes or any(shape != (len(labels), *shapes[0][1:2]) for shape in shapes):
            raise ValueError(
                f"embeddings have shapes {shapes}; {len(labels)} labels need one or more (N, D) of "
                f"{len(labels)} rows and one width"
            )
        if num_processes() > 1:
            rows = gather_rows(torch.tensor([len(labels)], device=embeddings[0].device)).tolist()
            if len(set(rows)) > 1:
                raise ValueError(f"the processes' batches have {rows} rows; all need the same number: drop the last")
        together = torch.cat([gather_rows(embedding) for embedding in embeddings])
        return contrasted(together, gather_rows(labels), self.projection, self.overlap)
