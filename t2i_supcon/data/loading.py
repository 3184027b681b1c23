"""Datasets in the project's row schema, and the rows a training step or an evaluation reads from them.

A row: `image`, `captions` (list of strings), `label` (ClassLabel or id; negative = unlabelled), `labels` (list of ids), `bbox`
(x, y, w, h or null), `image_id`, `source`.
"""

from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from . import emoji
from .tokenization import split_words
from .transforms import BrokenRowError, decode_image, image_pyramid

COLUMNS = ("image", "captions", "label", "labels", "bbox", "image_id")


def load_rows(name: str, split: str) -> datasets.Dataset:
    """Loads one split for random access, images left undecoded.

    Args:
        name: "emoji" for the embedded data, or a folder of Parquet shards named `<split>-*.parquet` in the row schema.
        split: "train" or "test".

    Raises:
        FileNotFoundError: no shard of that split.
        ValueError: a column of the row schema is missing.
    """
    folder = emoji.FOLDER if name == "emoji" else Path(name)
    shards = sorted(str(path) for path in folder.glob(f"{split}-*.parquet"))
    if not shards:
        raise FileNotFoundError(f"data {name!r}: no file {split}-*.parquet in {folder}; name the embedded data 'emoji' or a folder of Parquet shards")
    rows = datasets.load_dataset("parquet", data_files={split: shards}, split=split)
    missing = [column for column in COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(f"data {name!r}: column {missing[0]!r} is missing; found {rows.column_names}")
    return rows.select_columns(list(COLUMNS)).cast_column("image", datasets.Image(decode=False))


def check_captions(rows: datasets.Dataset) -> None:
    """Refuses rows without captions and captions without words, before hours of training meet them.

    Raises:
        BrokenRowError: names the first such row.
    """
    for number, (image_id, captions) in enumerate(zip(rows["image_id"], rows["captions"])):
        if not captions:
            raise BrokenRowError(f"row {number} ({image_id}): it has no caption")
        for caption in captions:
            if not split_words(caption):
                raise BrokenRowError(f"row {number} ({image_id}): the caption {caption!r} holds no word")


class TrainingRows(torch.utils.data.Dataset):
    """Rows as training samples: one caption drawn, the image cut and scaled, the same for the same draw whoever asks.

    Args:
        rows: from `load_rows`.
        tokenizer: of the text encoder.
        sizes: image sides from low to high.
        seed: with the number of the draw, decides every random choice.
        random_crop, flip: see `image_pyramid`.
        long_captions: captions with more words than the tokenizer's `model_max_length` keep their "first" words or, as the original
            code did, a "random_subset" in order.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        tokenizer: PreTrainedTokenizerFast,
        sizes: tuple[int, ...],
        seed: int,
        random_crop: bool = False,
        flip: bool = False,
        long_captions: Literal["first", "random_subset"] = "first",
    ):
        self.rows = rows
        self.tokenizer = tokenizer
        self.sizes = sizes
        self.seed = seed
        self.random_crop = random_crop
        self.flip = flip
        self.long_captions = long_captions

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """Makes the sample of (row number, number of the draw)."""
        number, draw = key
        row = self.rows[number]
        where = f"row {number} ({row['image_id']})"
        rng = np.random.default_rng([self.seed, draw])
        caption = row["captions"][rng.integers(len(row["captions"]))]
        input_ids = self.tokenizer(caption, truncation=self.long_captions == "first")["input_ids"]
        if not input_ids:
            raise BrokenRowError(f"{where}: no word of the caption {caption!r} is in the vocabulary")
        limit = self.tokenizer.model_max_length
        if len(input_ids) > limit:
            input_ids = [input_ids[i] for i in np.sort(rng.permutation(len(input_ids))[:limit])]
        images = image_pyramid(decode_image(row["image"], where), self.sizes, row["bbox"], rng, self.random_crop, self.flip)
        return {
            "images": images,
            "input_ids": input_ids,
            "caption": caption,
            "label": -1 if row["label"] is None else row["label"],
            "labels": row["labels"],
        }


class EvaluationRows(torch.utils.data.Dataset):
    """Rows for evaluation: the centre of the image at one size and one fixed caption, nothing random.

    Row i reads its caption number i mod n, or the next one that holds a word the tokenizer knows.

    Raises:
        BrokenRowError: a row none of whose captions has a known word.
    """

    def __init__(self, rows: datasets.Dataset, tokenizer: PreTrainedTokenizerFast, size: int):
        self.rows = rows
        self.size = size
        self.captions = [self._known(number, captions, tokenizer) for number, captions in enumerate(rows["captions"])]

    def _known(self, number: int, captions: list[str], tokenizer: PreTrainedTokenizerFast) -> str:
        for shift in range(len(captions)):
            caption = captions[(number + shift) % len(captions)]
            if tokenizer(caption)["input_ids"]:
                return caption
        raise BrokenRowError(f"row {number} ({self.rows[number]['image_id']}): no word of its {len(captions)} captions is in the vocabulary")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> torch.Tensor:
        """The image of a row, (3, S, S) in [-1, 1]."""
        row = self.rows[number]
        image = decode_image(row["image"], f"row {number} ({row['image_id']})")
        return image_pyramid(image, (self.size,), row["bbox"])[0]
