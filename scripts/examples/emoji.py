"""The embedded drawings as plain tensors: what the examples train on, in the place of data of your
own."""

import random
import zlib
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

import t2i_supcon

SIZE, WORDS, LENGTH = 32, 4096, 12  # pixels, hashed words, words of a caption


def load_emoji() -> Dataset:
    """Rows with `image`, `captions` and `label`."""
    folder = Path(t2i_supcon.__file__).parent / "data" / "emoji64"
    return Dataset.from_parquet(sorted(map(str, folder.glob("train-*.parquet"))))


def words_of(caption: str) -> list[int]:
    """Hashed words, repeated up to `LENGTH`."""
    words = [zlib.crc32(word.encode()) % WORDS for word in caption.lower().split()]
    return (words * LENGTH)[:LENGTH]


def collate(rows: list[dict]) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) in [-1, 1], words (B, T) of one caption each, labels (B,)."""
    images = np.stack([np.array(row["image"].convert("RGB").resize((SIZE, SIZE))) for row in rows])
    words = [words_of(random.choice(row["captions"])) for row in rows]
    images = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    return images, torch.tensor(words), torch.tensor([row["label"] for row in rows])


def save_grid(images: Tensor, path: Path) -> None:
    """Draws up to 16 pictures beside each other, twice enlarged."""
    strip = (images[:16].detach().clamp(-1, 1) + 1).permute(2, 0, 3, 1).flatten(1, 2) * 127.5
    picture = Image.fromarray(strip.byte().numpy())
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(path)
