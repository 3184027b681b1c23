"""Differentiable augmentation of what a discriminator sees (DiffAugment, Zhao et al., arXiv 2006.10738).

Real and generated images pass the same random operations, so that few training images do not let the discriminator learn them by heart.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FILL = 1.0  # value of pixels moved in or cut out: white


def augment(images: Tensor, policies: list[str]) -> Tensor:
    """Applies the named policies in order to (B, 3, S, S) images in [-1, 1], each row with its own random draw."""
    for policy in policies:
        images = POLICIES[policy](images)
    return images


def color(images: Tensor) -> Tensor:
    """Brightness by up to +-0.5 of the range, saturation x 0..2, contrast x 0.5..1.5."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
    images = images + brightness - 0.5
    grey = images.mean(dim=1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def translation(images: Tensor, ratio: float = 1 / 8) -> Tensor:
    """Moves each image by up to `ratio` of its side in both directions; white moves in."""
    b, _, height, width = images.shape
    reach = round(height * ratio)
    dy, dx = torch.randint(-reach, reach + 1, (2, b, 1, 1), device=images.device)
    padded = F.pad(images, (reach,) * 4, value=FILL)
    rows = torch.arange(height, device=images.device)[None, :, None] + reach + dy  # (B, H, 1)
    columns = torch.arange(width, device=images.device)[None, None, :] + reach + dx  # (B, 1, W)
    batch = torch.arange(b, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def cutout(images: Tensor, ratio: float = 1 / 2) -> Tensor:
    """Paints a square of `ratio` of the side white, its centre anywhere in the image."""
    b, _, height, width = images.shape
    half = round(height * ratio / 2)
    y, x = torch.randint(0, height, (2, b, 1, 1), device=images.device)
    inside_rows = (torch.arange(height, device=images.device)[None, :, None] - y).abs() < half  # (B, H, 1)
    inside_columns = (torch.arange(width, device=images.device)[None, None, :] - x).abs() < half  # (B, 1, W)
    return images.masked_fill((inside_rows & inside_columns)[:, None], FILL)


POLICIES = {"color": color, "translation": translation, "cutout": cutout}
