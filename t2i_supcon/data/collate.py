"""Samples to the batch a training step reads."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .loading import MEND
from .pairing import label_ids_of
from .transforms import BrokenRowError, scale_pixels


@dataclass(frozen=True)
class Batch:
    """N image-text rows of one or two views, view-major: with two views, row i and row N/2 + i are
    a pair.

    Attributes:
        images: one (N, 3, S, S) tensor in [-1, 1] per scale, from low to high; before `to`, the
            pixels (N, S, S, 3), uint8, which are quicker to hand from process to process and to a
            GPU.
        input_ids, attention_mask: (N, T), 1 = real word.
        labels: (N,) class ids, negative = unlabelled; or (N, C) multi-hot.
        captions: the N captions.
        num_views: 1 or 2.
        broken: what was wrong with the rows that other rows of the batch stand in for.
    """

    images: tuple[Tensor, ...]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    captions: tuple[str, ...]
    num_views: int
    broken: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Batch":
        """Moves every tensor, and turns pixels into images."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("input_ids", "attention_mask", "labels")
        }
        images = (scale.to(device, non_blocking=True) for scale in self.images)
        return replace(
            self,
            images=tuple(scale_pixels(scale) if scale.dtype == torch.uint8 else scale for scale in images),
            **moved,
        )

    def pin_memory(self) -> "Batch":
        """Moves every tensor to memory that a GPU copies from without waiting; DataLoader calls
        it."""
        pinned = {name: getattr(self, name).pin_memory() for name in ("input_ids", "attention_mask", "labels")}
        return replace(self, images=tuple(image.pin_memory() for image in self.images), **pinned)


class Collator:
    """Stacks samples of `TrainingRows`.

    A broken row's partner stands in for it. If the partner is broken too, or there is none, the
    next whole row of the batch stands in, with its partner. So batches keep their size and pairs
    their label.

    Args:
        num_views: 2 for batches of pairs, 1 for independent rows.
        num_classes: makes multi-hot labels (N, C) of all of a row's labels; None keeps the single
            class id.

    Raises:
        ValueError: a label beyond `num_classes`.
    """

    def __init__(self, num_views: int, num_classes: int | None = None):
        self.num_views = num_views
        self.num_classes = num_classes

    def __call__(self, samples: list[dict | BrokenRowError]) -> Batch:
        broken = tuple(str(sample) for sample in samples if isinstance(sample, BrokenRowError))
        if broken:
            samples = self._mend(samples)
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        longest = int(lengths.max())
        input_ids = torch.tensor(
            [sample["input_ids"] + [0] * (longest - len(sample["input_ids"])) for sample in samples]
        )
        return Batch(
            images=tuple(torch.stack(scale) for scale in zip(*(sample["images"] for sample in samples))),
            input_ids=input_ids,
            attention_mask=(torch.arange(longest)[None] < lengths[:, None]).long(),
            labels=self._labels(samples),
            captions=tuple(sample["caption"] for sample in samples),
            num_views=self.num_views,
            broken=broken,
        )

    def _mend(self, samples: list[dict | BrokenRowError]) -> list[dict]:
        groups = list(
            zip(
                *(
                    samples[view * len(samples) // self.num_views :][: len(samples) // self.num_views]
                    for view in range(self.num_views)
                )
            )
        )
        whole = [[sample for sample in group if not isinstance(sample, BrokenRowError)] for group in groups]
        if not any(whole):
            raise BrokenRowError(f"every row of a batch is broken, the first: {samples[0]}; {MEND}")
        mended = []
        for number, group in enumerate(groups):
            found = next(filter(None, whole[number:] + whole))
            stand_ins = [found[min(view, len(found) - 1)] for view in range(self.num_views)]
            mended.append(
                [other if isinstance(sample, BrokenRowError) else sample for sample, other in zip(group, stand_ins)]
            )
        return [sample for view in zip(*mended) for sample in view]

    def _labels(self, samples: list[dict]) -> Tensor:
        if self.num_classes is None:
            return torch.tensor([sample["label"] for sample in samples])
        multi_hot = torch.zeros(len(samples), self.num_classes, dtype=torch.long)
        for row, sample in enumerate(samples):
            label_ids = label_ids_of(sample["labels"] or ())
            if max(label_ids, default=-1) >= self.num_classes:
                raise ValueError(
                    f"the row of the caption {sample['caption']!r} has the labels {label_ids}, but the data names "
                    f"{self.num_classes} only"
                )
            multi_hot[row, list(label_ids)] = 1
        return multi_hot
