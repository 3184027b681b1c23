"""From an encoded image to a pyramid of tensors in [-1, 1]."""

import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

OVERSIZE = 76 / 64  # AttnGAN resizes to 76/64 of the size it then crops at random


class BrokenRowError(ValueError):
    """A row of a dataset that cannot be used; the message names the row and says why."""


def decode_image(encoded: dict | None, where: str) -> Image.Image:
    """Decodes an undecoded `datasets.Image` value to RGB, transparent pixels on white.

    Raises:
        BrokenRowError: missing or undecodable bytes; `where` names the row in the message.
    """
    if encoded is None or (encoded["bytes"] is None and encoded["path"] is None):
        raise BrokenRowError(f"{where}: it has no image")
    try:
        image = Image.open(io.BytesIO(encoded["bytes"]) if encoded["bytes"] is not None else encoded["path"])
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BrokenRowError(f"{where}: the image cannot be decoded ({error})") from error


def crop_to_bbox(image: Image.Image, bbox: list[float]) -> Image.Image:
    """Cuts the square of half-side 0.75 * max(w, h) around the centre of `bbox` (x, y, w, h in pixels), as the GAN papers do for CUB."""
    x, y, w, h = (int(value) for value in bbox)
    half = int(0.75 * max(w, h))
    centre_x, centre_y = (2 * x + w) // 2, (2 * y + h) // 2
    box = (max(0, centre_x - half), max(0, centre_y - half), min(image.width, centre_x + half), min(image.height, centre_y + half))
    return image.crop(box)


def image_pyramid(
    image: Image.Image,
    sizes: tuple[int, ...],
    bbox: list[float] | None = None,
    rng: np.random.Generator | None = None,
    random_crop: bool = False,
    flip: bool = False,
) -> tuple[Tensor, ...]:
    """Makes one (3, S, S) tensor in [-1, 1] per size, all of the same square.

    Args:
        image: RGB.
        sizes: from low to high; lower ones are bilinear reductions of the highest.
        bbox: (x, y, w, h) of the object to cut out first, or None.
        rng: source of the random choices; None makes the deterministic centre version used for evaluation.
        random_crop: cut the square at random from a picture 76/64 times as large.
        flip: mirror left to right with probability 1/2.
    """
    size = sizes[-1]
    if bbox is not None:
        image = crop_to_bbox(image, bbox)
    jitter = rng is not None and random_crop
    shorter = int(size * OVERSIZE) if jitter else size
    scale = shorter / min(image.size)
    image = _resize(image, max(shorter, round(image.width * scale)), max(shorter, round(image.height * scale)))
    if jitter:
        left, top = int(rng.integers(image.width - size + 1)), int(rng.integers(image.height - size + 1))
    else:
        left, top = (image.width - size) // 2, (image.height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    if rng is not None and flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return tuple(_to_tensor(_resize(image, s, s)) for s in sizes)


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def to_pil(image: Tensor) -> Image.Image:
    """Turns (3, S, S) in [-1, 1] into a PIL image."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
