"""From an encoded image to the pixels of a pyramid, and to tensors in [-1, 1]."""

import io
import math
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import numpy as np
import torch
from datasets.utils.file_utils import xopen
from PIL import Image, ImageOps
from torch import Tensor

T, U = TypeVar("T"), TypeVar("U")
# PIL's names of what may tell how a picture is held
HOLD_ORIENTATION = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
BITS_PER_SAMPLE = 258  # the tag of TIFF
OVERSIZE = 76 / 64  # AttnGAN resizes to 76/64 of the size it then crops at random


class BrokenRowError(ValueError):
    """A row of a dataset that cannot be used; the message names the row and says why."""


def or_error(make: Callable[[T], U], what: T) -> U | BrokenRowError:
    """Hands an error of a row on as a value: raised in a worker, it would come out as the worker's
    whole traceback."""
    try:
        return make(what)
    except BrokenRowError as error:
        return error


def decode_image(encoded: dict | None, where: str) -> Image.Image:
    """Decodes an undecoded `datasets.Image` value to RGB, upright, transparent pixels on white.

    Its bytes may also lie in a file, in a file inside a zip archive ("zip://a.png::b.zip") or
    behind a URL. Greys of 12 or 16 bits are scaled to 8.

    Raises:
        BrokenRowError: missing or undecodable bytes, or pixels of 32 bits, of which no one knows
            how bright they are; `where` names the row in the message, which also has the file's
            name if there is one.
    """
    if encoded is None or (encoded["bytes"] is None and encoded["path"] is None):
        raise BrokenRowError(f"{where}: it has no image")
    try:
        image = Image.open(_open(encoded))
        image.load()
        if image.info.keys() & HOLD_ORIENTATION:
            with suppress(Exception):  # from damaged EXIF data, which say nothing about whole pixels
                ImageOps.exif_transpose(image, in_place=True)
        image = _with_8_bits(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:  # PIL's readers of the many formats answer damage with as many kinds of errors
        name = f"image {encoded['path']}" if encoded["path"] else "image"
        raise BrokenRowError(f"{where}: the {name} cannot be decoded ({error})") from error


def _open(encoded: dict) -> io.BytesIO:
    if encoded["bytes"] is not None:
        return io.BytesIO(encoded["bytes"])
    path = encoded["path"]
    if "://" in path:
        with xopen(path, "rb") as file:
            return io.BytesIO(file.read())
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError("it is no file but a folder, a pipe or a device")  # a pipe might be waited for for ever
    with open(path, "rb") as file:
        return io.BytesIO(file.read())


def _with_8_bits(image: Image.Image) -> Image.Image:
    """Scales greys of more bits, which PIL would clip."""
    if image.mode.startswith("I;16"):
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (16,))[0] if image.format == "TIFF" else 16
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # PIL gives 16 bits of these so
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, of which it is unknown what is white; save it with 8 or 16 bits")
    return image


def crop_to_bbox(image: Image.Image, bbox: list[float]) -> Image.Image:
    """Cuts the square of half-side 0.75 * max(w, h) around the centre of `bbox` (x, y, w, h in
    pixels), as the GAN papers do for CUB.

    Raises:
        BrokenRowError: a box that is not four numbers, or nothing of the image inside the square.
    """
    if len(bbox) != 4 or not all(value is not None and math.isfinite(value) for value in bbox):
        raise BrokenRowError(f"the bounding box {bbox} is not four numbers x, y, w, h")
    x, y, w, h = (int(value) for value in bbox)
    half = int(0.75 * max(w, h))
    centre_x, centre_y = (2 * x + w) // 2, (2 * y + h) // 2
    box = (
        max(0, centre_x - half),
        max(0, centre_y - half),
        min(image.width, centre_x + half),
        min(image.height, centre_y + half),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise BrokenRowError(
            f"the bounding box {bbox} holds nothing of the image of {image.width} x {image.height} pixels"
        )
    return image.crop(box)


def image_pyramid(
    image: Image.Image,
    sizes: tuple[int, ...],
    bbox: list[float] | None = None,
    rng: np.random.Generator | None = None,
    random_crop: bool = False,
    flip: bool = False,
) -> tuple[Tensor, ...]:
    """Makes the pixels (S, S, 3), uint8, of one square at every size; see `scale_pixels`.

    Args:
        image: RGB.
        sizes: from low to high; lower ones are bilinear reductions of the highest.
        bbox: (x, y, w, h) of the object to cut out first, or None; in pixels of the upright
            picture.
        rng: source of the random choices; None makes the deterministic centre version used for
            evaluation.
        random_crop: cut the square at random from a picture 76/64 times as large.
        flip: mirror left to right with probability 1/2.

    Raises:
        BrokenRowError: see `crop_to_bbox`.
    """
    size = sizes[-1]
    if bbox is not None:
        image = crop_to_bbox(image, bbox)
    jitter = rng is not None and random_crop
    shorter = int(size * OVERSIZE) if jitter else size
    scale = shorter / min(image.size)
    width, height = max(shorter, round(image.width * scale)), max(shorter, round(image.height * scale))
    if jitter:
        left, top = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
    else:
        left, top = (width - size) // 2, (height - size) // 2
    image = _resize_and_crop(image, width, height, left, top, size)
    if rng is not None and flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scales = (image if image.width == s else image.resize((s, s), Image.Resampling.BILINEAR) for s in sizes)
    return tuple(torch.from_numpy(np.array(scale)) for scale in scales)


def _resize_and_crop(image: Image.Image, width: int, height: int, left: int, top: int, size: int) -> Image.Image:
    """Bilinear resizing to (width, height), of which only the square at (left, top) is computed.

    One pixel more on each side, cut off again, keeps the filter from ending at the square's edge.
    """
    if image.size == (width, height):
        return image.crop((left, top, left + size, top + size))
    x0, y0, x1, y1 = max(left - 1, 0), max(top - 1, 0), min(left + size + 1, width), min(top + size + 1, height)
    across, down = image.width / width, image.height / height
    box = (x0 * across, y0 * down, min(x1 * across, image.width), min(y1 * down, image.height))
    image = image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box)
    return image.crop((left - x0, top - y0, left - x0 + size, top - y0 + size))


def scale_pixels(pixels: Tensor) -> Tensor:
    """Turns uint8 pixels (..., S, S, 3) into (..., 3, S, S) floats in [-1, 1]; the memory stays in
    the order of the pixels, channels last."""
    # three quick passes; one over integers takes longer
    return pixels.movedim(-1, -3).to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> np.ndarray:
    """Turns (..., 3, S, S) in [-1, 1] into uint8 pixels (..., S, S, 3)."""
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()


def to_pil(image: Tensor) -> Image.Image:
    """Turns (3, S, S) in [-1, 1] into a PIL image."""
    return Image.fromarray(to_uint8(image))
