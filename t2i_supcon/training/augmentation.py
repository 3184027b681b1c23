"""Differentiable augmentation of what a discriminator sees (DiffAugment, Zhao et al., arXiv
2006.10738), with its authors' strengths.

Real and generated images pass the same random operations, so that few training images do not let
the discriminator learn them by heart. What is moved in or cut out is zero, as the paper defines it:
mid grey in [-1, 1]. Pictures that lie on a background of one colour may take that instead.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

Scales = tuple[Tensor, ...]


def augment(scales: Scales, policies: list[str], fill: float = 0.0) -> Scales:
    """Applies the named policies in order.

    Args:
        scales: the same images as (B, 3, s, s) in [-1, 1] at one or several sizes, from low to
            high, each a multiple of the lowest. Every row has its own random draw, which is the
            same at all sizes.
        policies: names in `POLICIES`.
        fill: what is moved in or cut out, in [-1, 1].
    """
    for policy in policies:
        scales = POLICIES[policy](scales, fill)
    return scales


def color(scales: Scales, fill: float = 0.0) -> Scales:
    """Brightness by up to +-0.5, a quarter of the range; saturation x 0..2; contrast x 0.5..1.5.

    Nothing is filled in.
    """
    low = scales[0]
    brightness, saturation, contrast = torch.rand(3, len(low), 1, 1, 1, device=low.device, dtype=low.dtype)
    changed = []
    for images in scales:
        images = images + brightness - 0.5
        grey = images.mean(dim=1, keepdim=True)
        images = grey + 2 * saturation * (images - grey)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        changed.append(mean + (contrast + 0.5) * (images - mean))
    return tuple(changed)


def translation(scales: Scales, fill: float = 0.0) -> Scales:
    """Moves each image by up to an eighth of its side along both axes, by whole pixels of the
    lowest scale."""
    low = scales[0]
    reach = low.shape[2] // 8
    shift = torch.randint(-reach, reach + 1, (2, len(low), 1, 1), device=low.device)
    factors = [images.shape[2] // low.shape[2] for images in scales]
    return tuple(_move(images, factor * shift, factor * reach, fill) for images, factor in zip(scales, factors))


def _move(images: Tensor, shift: Tensor, reach: int, fill: float) -> Tensor:
    b, _, height, width = images.shape
    dy, dx = shift
    padded = F.pad(images, (reach,) * 4, value=fill)
    rows = torch.arange(height, device=images.device)[None, :, None] + reach + dy  # (B, H, 1)
    columns = torch.arange(width, device=images.device)[None, None, :] + reach + dx  # (B, 1, W)
    batch = torch.arange(b, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def cutout(scales: Scales, fill: float = 0.0) -> Scales:
    """Cuts out a square of half the side, its centre anywhere in the image, so that up to half of
    the square lies beyond each edge."""
    low = scales[0]
    size = low.shape[2]
    side = size // 2
    # the centre of an even side lies between two pixels, or on the edge
    centre = torch.randint(0, size + 1 - side % 2, (2, len(low), 1), device=low.device)
    distance = torch.arange(size, device=low.device) - (centre - side // 2)  # (2, B, S), from the first pixel cut out
    rows, columns = (distance >= 0) & (distance < side)
    cut = (rows[:, :, None] & columns[:, None, :])[:, None]  # (B, 1, S, S)
    return tuple(images.masked_fill(_enlarge(cut, images.shape[2] // size), fill) for images in scales)


def _enlarge(mask: Tensor, times: int) -> Tensor:
    return mask.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)


POLICIES = {"color": color, "translation": translation, "cutout": cutout}
