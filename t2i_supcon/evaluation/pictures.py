"""The pictures that are judged: drawn by a model as they are needed, or read from a folder."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import BrokenRowError, Rows, decode_image, encode_prompts, image_pyramid, scale_pixels, to_uint8
from ..data.loading import BrokenRows
from ..models import draw_images, sample_noise, seeded_generator

UNLABELLED = -1


class Prompt(NamedTuple):
    """A sentence to draw, and the label of the row it belongs to; negative = unlabelled."""

    caption: str
    label: int


class Pictures(NamedTuple):
    """Some of the pictures.

    Attributes:
        numbers: which of all they are.
        images: (B, 3, S, S) in [-1, 1].
    """

    numbers: list[int]
    images: Tensor


def choose_prompts(
    rows: Rows,
    which: Literal["all", "first", "random"],
    count: int | None,
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Prompt]:
    """The sentences that pictures are drawn for, in the order of the rows.

    Args:
        rows: in the row schema, with random access.
        which: every caption of a row, its first, or one drawn at random.
        count: how many prompts; they go through the rows again and again, or are evenly spaced
            where there are more. None takes each once.
        tokenizer: of the model; captions without a word it knows are left out.

    Raises:
        ValueError: there is no caption to draw.
    """
    rng = np.random.default_rng(seed)
    prompts = []
    for captions, label in zip(rows["captions"], rows["label"]):
        usable = [caption for caption in captions or () if caption and is_known(caption, tokenizer)]
        if usable and which != "all":
            usable = [usable[int(rng.integers(len(usable)))] if which == "random" else usable[0]]
        prompts += [Prompt(caption, UNLABELLED if label is None else label) for caption in usable]
    if not prompts:
        raise ValueError("no row has a caption with a word that the model knows: there is nothing to draw")
    if count is None:
        return prompts
    if count <= len(prompts):
        return [prompts[i] for i in np.linspace(0, len(prompts) - 1, count).round().astype(int)]
    return [prompts[i % len(prompts)] for i in range(count)]


def is_known(caption: str, tokenizer: PreTrainedTokenizerBase | None) -> bool:
    """Whether a tokenizer, if there is one, knows a word of the caption."""
    return tokenizer is None or bool(tokenizer(caption)["input_ids"])


@dataclass
class DrawnPictures:
    """Pictures that a model draws of prompts; each depends on the seed and its own number only.

    Args:
        text_encoder, generator, tokenizer: that belong together, on one device.
        prompts: one picture each.
        seed, truncation: of the noise.
        save_to: a folder where each is also saved as PNG, with prompt, label and seed in its text.
    """

    text_encoder: PreTrainedModel
    generator: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[Prompt]
    seed: int = 0
    truncation: float | None = None
    save_to: Path | None = None

    @property
    def image_size(self) -> int:
        return self.generator.config.image_size

    def batches(self, size: int, index: int = 0, processes: int = 1) -> Iterator[Pictures]:
        """Yields this process's share, every n-th picture, `size` at once."""
        noises = sample_noise(self.generator.config, len(self.prompts), seeded_generator(self.seed), self.truncation)
        mine = range(index, len(self.prompts), processes)
        for start in range(0, len(mine), size):
            numbers = list(mine[start : start + size])
            encoded = encode_prompts(self.tokenizer, [self.prompts[i].caption for i in numbers]).to(
                self.text_encoder.device
            )
            noise, conditioning_noise = (None if one is None else one[numbers] for one in noises)
            with torch.no_grad():
                images = draw_images(
                    self.text_encoder,
                    self.generator,
                    encoded["input_ids"],
                    encoded["attention_mask"],
                    noise,
                    conditioning_noise,
                ).images[-1]
            if self.save_to is not None:
                self._save(numbers, images)
            yield Pictures(numbers, images)

    def _save(self, numbers: list[int], images: Tensor) -> None:
        self.save_to.mkdir(parents=True, exist_ok=True)
        for number, pixels in zip(numbers, to_uint8(images)):
            text = PngImagePlugin.PngInfo()
            prompt = self.prompts[number]
            for key, value in (("prompt", prompt.caption), ("label", str(prompt.label)), ("seed", str(self.seed))):
                text.add_text(key, value)
            Image.fromarray(pixels).save(self.save_to / f"{number:06d}.png", pnginfo=text)


@dataclass
class FolderPictures:
    """The PNG files of a folder, in the order of their names: pictures of any model, decoded as
    real ones are (see `decode_image`).

    A file's text may hold `prompt` and `label`, as `DrawnPictures` writes them.

    Args:
        folder: with pictures of one size.

    Raises:
        FileNotFoundError: there is no PNG.
        ValueError: a file that is no picture, or pictures of different sizes; names the file.
    """

    folder: Path
    prompts: list[Prompt] = field(init=False)
    image_size: int = field(init=False)

    def __post_init__(self):
        self.files = sorted(self.folder.glob("*.png"))
        if not self.files:
            missing = "PNG file in" if self.folder.is_dir() else "folder"
            raise FileNotFoundError(f"there is no {missing} {self.folder}")
        self.prompts, sizes = [], {}
        for file in self.files:
            try:
                with Image.open(file) as image:
                    sizes.setdefault(image.size, file)
                    text = getattr(image, "text", {})
            except (OSError, SyntaxError, ValueError) as error:  # PIL names damage in all these ways
                raise ValueError(f"{file} cannot be read as a picture ({error})") from error
            label = text.get("label", "")
            is_number = label.removeprefix("-").isdigit() and label.isascii()
            self.prompts.append(Prompt(text.get("prompt", ""), int(label) if is_number else UNLABELLED))
        if len(sizes) > 1 or (size := next(iter(sizes)))[0] != size[1]:
            found = ", ".join(f"{w} x {h} ({file.name})" for (w, h), file in list(sizes.items())[:3])
            raise ValueError(f"the pictures in {self.folder} must be square and of one size; found {found}")
        self.image_size = size[0]

    def batches(self, size: int, index: int = 0, processes: int = 1) -> Iterator[Pictures]:
        """Yields this process's share, every n-th picture, `size` at once, decoded ahead."""
        return ahead(self.decoded(size, index, processes))

    def decoded(self, size: int, index: int = 0, processes: int = 1) -> Iterator[Pictures]:
        """The same batches, each decoded when it is asked for."""
        mine = range(index, len(self.files), processes)
        for start in range(0, len(mine), size):
            numbers = list(mine[start : start + size])
            files = [str(self.files[i]) for i in numbers]
            pixels = [np.asarray(decode_image({"bytes": None, "path": file}, "a picture")) for file in files]
            yield Pictures(numbers, scale_pixels(torch.from_numpy(np.stack(pixels))))


@dataclass
class RealPictures:
    """The pictures of rows, cut and reduced as evaluations do: the middle, at one size.

    Args:
        rows: in the row schema, with random access.
        image_size: side in pixels.
        max_broken_share: share of the rows, of each process's, that is left out where their image
            is broken, rounded up to whole rows.

    Raises:
        BrokenRowError: while iterating, more broken images than that.
    """

    rows: Rows
    image_size: int
    max_broken_share: float = 0.0

    @property
    def prompts(self) -> list[Prompt]:
        """An empty sentence and the label of each row."""
        return [Prompt("", UNLABELLED if label is None else label) for label in self.rows["label"]]

    def batches(self, size: int, index: int = 0, processes: int = 1) -> Iterator[Pictures]:
        """Yields this process's share, every n-th picture, `size` at once, decoded ahead."""
        return ahead(self.decoded(size, index, processes))

    def decoded(self, size: int, index: int = 0, processes: int = 1) -> Iterator[Pictures]:
        """The same batches, each decoded when it is asked for."""
        mine = range(index, len(self.rows), processes)
        broken = BrokenRows(len(mine), self.max_broken_share)
        for start in range(0, len(mine), size):
            numbers, pixels = [], []
            for number in mine[start : start + size]:
                row = self.rows[number]
                try:
                    image = decode_image(row["image"], row["image_id"])
                    pixels.append(image_pyramid(image, (self.image_size,), row["bbox"])[0])
                    numbers.append(number)
                except BrokenRowError as error:
                    broken.leave_out(number, error)
            if numbers:
                yield Pictures(numbers, scale_pixels(torch.stack(pixels)))


def ahead(batches: Iterator[Pictures]) -> Iterator[Pictures]:
    """The same batches; each is decoded, in a thread, while the last one is used."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def read_groups(path: Path) -> dict[str, str]:
    """The coarser group of each label: a JSON mapping of label names to group names.

    Raises:
        ValueError: it is no such mapping.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(group, str) for group in content.values()):
        raise ValueError(f"{path} is no mapping of label names to group names")
    return content
