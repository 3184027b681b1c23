"""Differentiable augmentation of what a discriminator sees (DiffAugment, Zhao et al., arXiv
2006.10738).

Real and generated images pass the same random operations, so that few training images do not let
the discriminator learn them by heart.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FILL = 1.0  # value of pixels moved in or cut out: white


Scales = tuple[Tensor, ...]


def augment(scales: Scales, policies: list[str]) -> Scales:
    """Applies the named policies in order.

    Args:
        scales: the same images as (B, 3, s, s) in [-1, 1] at one or several sizes, from low to
            high, each a multiple of the lowest. Every row has its own random draw, which is the
            same at all sizes.
        policies: names in `POLICIES`.
    """
    for policy in policies:
        scales = POLICIES[policy](scales)
    return scales


def color(scales: Scales) -> Scales:
    """Brightness by up to +-0.5 of the range, saturation x 0..2, contrast x 0.5..1.5."""
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


def translation(scales: Scales, ratio: float = 1 / 8) -> Scales:
    """Moves each image by up to `ratio` of its side in both directions, by whole pixels of the
    lowest scale; white moves in."""
    low = scales[0]
    reach = round(low.shape[2] * ratio)
    shift = torch.randint(-reach, reach + 1, (2, len(low), 1, 1), device=low.device)
    return tuple(
        _move(images, shift * (images.shape[2] // low.shape[2]), reach * (images.shape[2] // low.shape[2]))
        for images in scales
    )


def _move(images: Tensor, shift: Tensor, reach: int) -> Tensor:
    b, _, height, width = images.shape
    dy, dx = shift
    padded = F.pad(images, (reach,) * 4, value=FILL)
    rows = torch.arange(height, device=images.device)[None, :, None] + reach + dy  # (B, H, 1)
    columns = torch.arange(width, device=images.device)[None, None, :] + reach + dx  # (B, 1, W)
    batch = torch.arange(b, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def cutout(scales: Scales, ratio: float = 1 / 2) -> Scales:
    """Paints a square of `ratio` of the side white, its centre anywhere in the image."""
    b, _, height, width = scales[0].shape
    half = round(height * ratio / 2)
    y, x = torch.randint(0, height, (2, b, 1, 1), device=scales[0].device)
    inside_rows = (torch.arange(height, device=y.device)[None, :, None] - y).abs() < half  # (B, H, 1)
    inside_columns = (torch.arange(width, device=y.device)[None, None, :] - x).abs() < half  # (B, 1, W)
    inside = (inside_rows & inside_columns)[:, None]  # (B, 1, H, W)
    return tuple(images.masked_fill(_enlarge(inside, images.shape[2] // height), FILL) for images in scales)


def _enlarge(mask: Tensor, times: int) -> Tensor:
    return mask.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)


POLICIES = {"color": color, "translation": translation, "cutout": cutout}
