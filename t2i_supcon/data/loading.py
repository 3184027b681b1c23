"""Datasets in the project's row schema, and the rows a training step or an evaluation reads from
them.

A row: `image`, `captions` (list of strings), `label` (ClassLabel or id; negative = unlabelled),
`labels` (list of ids), `bbox` (x, y, w, h or null), `image_id`, `source`.
"""

import glob
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedTokenizerFast

from . import emoji
from .columns import Columns, to_schema
from .shards import MANIFEST, WORK
from .tokenization import split_words
from .transforms import BrokenRowError, decode_image, image_pyramid, or_error, scale_pixels

Rows = datasets.Dataset | datasets.IterableDataset
ROWS_OF_A_STREAM = 1000  # that evaluations keep in memory unless told otherwise

logger = logging.getLogger(__name__)


def load_rows(
    name: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    columns: Columns | None = None,
    streaming: bool = False,
) -> Rows:
    """Loads one split in the row schema, images left undecoded.

    Args:
        name: "emoji" for the embedded data; a folder of Parquet shards named `<split>-*.parquet`;
            any other folder that `datasets.load_dataset` reads, such as images with a
            metadata.jsonl; or a dataset of the Hub.
        split: "train", "test" or whatever the dataset calls it; without `streaming` also a part of
            it, as in "train[:90%]".
        config, revision: of a dataset of the Hub.
        columns: what the dataset calls the columns of the schema; None: the schema's own names.
        streaming: read rows in order when they are asked for; otherwise, with random access.

    Raises:
        FileNotFoundError: no data of that name or split, or a part of its shards only.
        ValueError: a column that is not there or of the wrong type, or a shard that cannot be read;
            names file and rows.
    """
    whole, part = _whole_and_part(split)
    if part and streaming:
        raise ValueError(
            f"data {name!r}: a stream has no parts such as {split!r}; name a whole split, or set streaming to false"
        )
    files = shard_files(name, whole)
    _check_complete(_folder(name), files)
    try:
        if files:
            rows = datasets.load_dataset(
                "parquet", data_files={"rows": files}, split="rows" + part, streaming=streaming
            )
        else:
            _check_split(_folder(name), whole, config)
            rows = datasets.load_dataset(name, config, split=split, revision=revision, streaming=streaming)
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"data {name!r}: {error}; name the embedded data 'emoji', a folder, or a dataset of the Hub"
        ) from error
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        check_shards(files or [str(path) for path in sorted(_folder(name).glob("*.parquet"))])
        raise ValueError(f"data {name!r}, split {split!r}: {error.__cause__ or error}") from error
    if streaming:
        rows = rows.reshard()
    return to_schema(rows, columns or Columns(), f"data {name!r}")


def shard_files(name: str, split: str) -> list[str]:
    """The Parquet shards of a split of the embedded data or of a prepared folder.

    None for data of other kinds, and for a part of a split, as its rows have numbers of their own.
    """
    return sorted(str(path) for path in _folder(name).glob(f"{glob.escape(split)}-*.parquet"))


def _folder(name: str) -> Path:
    return emoji.FOLDER if name == "emoji" else Path(name)


def _whole_and_part(split: str) -> tuple[str, str]:
    """A split's name, and the "[...]" behind it if only a part is wanted."""
    name, bracket, part = split.partition("[")
    return name, bracket + part


def _check_complete(folder: Path, files: list[str]) -> None:
    """Refuses a folder that is still being prepared, and shards named "-00000-of-00003" of which
    some are missing."""
    if (folder / WORK).exists() and not (folder / MANIFEST).exists():
        raise FileNotFoundError(
            f"the preparation of {folder} is unfinished: give its command again, which goes on where it stopped"
        )
    sets = defaultdict(set)
    for match in filter(None, (re.fullmatch(r"(.*)-(\d+)-of-(\d+)", Path(path).stem) for path in files)):
        sets[match[1], match[3]].add(int(match[2]))
    for (split, count), found in sets.items():
        if len(found) < int(count):
            first = min(set(range(int(count))) - found)
            raise FileNotFoundError(
                f"{folder}: {int(count) - len(found)} of the {int(count)} shards of {split!r} are missing, the first: "
                f"{split}-{first:0{len(count)}d}-of-{count}.parquet; restore them, or prepare the data again"
            )
    if len({split for split, _ in sets}) < len(sets):
        raise FileNotFoundError(
            f"{folder} holds the shards of several preparations "
            f"({', '.join('-of-'.join(key) for key in sets)}); keep those of one"
        )


def _check_split(folder: Path, split: str, config: str | None) -> None:
    """Refuses a split that a folder of Parquet files lacks, before all others are read for
    nothing."""
    if next(folder.glob("*.parquet"), None):
        known = datasets.get_dataset_split_names(str(folder), config)
        if split not in known:
            raise FileNotFoundError(f"no file {split}-*.parquet in {folder}; it holds {', '.join(known)}")


def check_shards(files: list[str]) -> None:
    """Reads Parquet files to find out which part of them cannot be read.

    Raises:
        ValueError: names the first such file and rows.
    """
    for path in files:
        first = 0
        try:
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                file.read_row_group(group)
                first += file.metadata.row_group(group).num_rows
        except (OSError, ValueError) as error:  # pyarrow's errors are one or the other
            where = "it is no whole Parquet file" if first == 0 else f"rows {first} and following cannot be read"
            raise ValueError(
                f"{path}: {where} ({' '.join(str(error).split())}); restore the file, or prepare the data again"
            ) from error


def name_row(files: Sequence[str], place: int | tuple[int, int]) -> str:
    """Says in which of its Parquet files a row lies; `place` is its number in the split or, in a
    stream, (row group, row in it)."""
    group, number = place if isinstance(place, tuple) else (None, place)
    for path in files:
        metadata = pq.read_metadata(path)
        if group is not None:
            if group < metadata.num_row_groups:
                earlier = sum(metadata.row_group(before).num_rows for before in range(group))
                return f"{Path(path).name}, row {earlier + number}"
            group -= metadata.num_row_groups
        elif number < metadata.num_rows:
            return f"{Path(path).name}, row {number}"
        else:
            number -= metadata.num_rows
    return f"row {number}" if group is None else f"shard {group}, row {number}"


def check_captions(rows: datasets.Dataset, files: Sequence[str] = ()) -> None:
    """Refuses rows without captions and captions without words, before hours of training meet them.

    Args:
        rows: with random access.
        files: their Parquet files, if any, to say where a row lies.

    Raises:
        BrokenRowError: names the first such row.
    """
    for number, (image_id, captions) in enumerate(zip(rows["image_id"], rows["captions"])):
        wrong = [caption for caption in captions or () if not split_words(caption or "")]
        if wrong or not captions:
            what = f"the caption {wrong[0]!r} holds no word" if wrong else "it has no caption"
            raise BrokenRowError(f"{name_row(files, number)}: {image_id}: {what}")


class TrainingRows(torch.utils.data.Dataset):
    """Rows as training samples: one caption drawn, the image cut and scaled, the same for the same
    draw whoever asks.

    Args:
        rows: from `load_rows`, with random access; None for rows of a stream, which come whole.
        tokenizer: of the text encoder.
        sizes: image sides from low to high.
        seed: with the number of the draw, decides every random choice.
        random_crop, flip: see `image_pyramid`.
        long_captions: captions with more words than the tokenizer's `model_max_length` keep their
            "first" words or, as the original code did, a "random_subset" in order.
        files: the Parquet files of the rows, if any, to say where a broken row lies.
    """

    def __init__(
        self,
        rows: datasets.Dataset | None,
        tokenizer: PreTrainedTokenizerFast,
        sizes: tuple[int, ...],
        seed: int,
        random_crop: bool = False,
        flip: bool = False,
        long_captions: Literal["first", "random_subset"] = "first",
        files: Sequence[str] = (),
    ):
        self.rows = rows
        self.tokenizer = tokenizer
        self.sizes = sizes
        self.seed = seed
        self.random_crop = random_crop
        self.flip = flip
        self.long_captions = long_captions
        self.files = files

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int | dict, int]) -> dict:
        """Makes the sample of (row or its number, number of the draw)."""
        row, draw = key
        try:
            return self._sample(row if isinstance(row, dict) else self.rows[row], draw)
        except BrokenRowError as error:
            raise BrokenRowError(
                f"{name_row(self.files, row['place'] if isinstance(row, dict) else row)}: {error}"
            ) from None

    def __getitems__(self, keys: list[tuple[int | dict, int]]) -> list[dict | BrokenRowError]:
        """Makes the samples of a batch; in the place of a broken one stands its error, for
        `Batches` to judge."""
        return [or_error(self.__getitem__, key) for key in keys]

    def _sample(self, row: dict, draw: int) -> dict:
        rng = np.random.default_rng([self.seed, draw])
        if not row["captions"]:
            raise BrokenRowError(f"{row['image_id']}: it has no caption")
        caption = row["captions"][rng.integers(len(row["captions"]))]
        input_ids = self.tokenizer(caption or "", truncation=self.long_captions == "first")[
            "input_ids"
        ]  # a stream's may be null
        if not input_ids:
            raise BrokenRowError(f"{row['image_id']}: no word of the caption {caption!r} is in the vocabulary")
        limit = self.tokenizer.model_max_length
        if len(input_ids) > limit:
            input_ids = [input_ids[i] for i in np.sort(rng.permutation(len(input_ids))[:limit])]
        images = image_pyramid(
            decode_image(row["image"], row["image_id"]), self.sizes, row["bbox"], rng, self.random_crop, self.flip
        )
        return {
            "images": images,
            "input_ids": input_ids,
            "caption": caption,
            "label": -1 if row["label"] is None else row["label"],
            "labels": row["labels"],
        }


class EvaluationBatch(NamedTuple):
    """Some rows of an evaluation whose images could be read.

    Attributes:
        images: (B, 3, S, S) in [-1, 1].
        captions: the B captions.
        indices: which of the `EvaluationRows` they are.
    """

    images: torch.Tensor
    captions: list[str]
    indices: list[int]


class EvaluationRows(torch.utils.data.Dataset):
    """Rows for evaluation: the centre of the image at one size and one fixed caption, nothing
    random.

    Row i reads its caption number i mod n, or the next one that holds a word the tokenizer knows. A
    row whose captions hold none is left out. One whose image is broken shows only when `batches`
    reads it, which leaves it out too; each is logged.

    Args:
        rows: from `load_rows`; rows of a stream are kept in memory, images not decoded.
        tokenizer: of the text encoder.
        size: side of the images.
        count: read so many rows, evenly spaced or, of a stream, the first; None: all, or the first
            `ROWS_OF_A_STREAM`.
        files: the Parquet files of the rows, if any, to say where a broken row lies.
        max_broken_share: share of the rows that may be left out, rounded up to whole rows.

    Attributes:
        captions: of all rows, those with a broken image included.

    Raises:
        BrokenRowError: more broken rows than allowed.
        ValueError: a file of a stream that cannot be read; names its rows.
    """

    def __init__(
        self,
        rows: Rows,
        tokenizer: PreTrainedTokenizerFast,
        size: int,
        count: int | None = None,
        files: Sequence[str] = (),
        max_broken_share: float = 0.0,
    ):
        self.rows = (
            _first_rows(rows, count or ROWS_OF_A_STREAM, files) if isinstance(rows, datasets.IterableDataset) else rows
        )
        self.size = size
        self.files = files
        self.max_broken_share = max_broken_share
        chosen = evenly_spaced(len(self.rows), count or len(self.rows))
        self.total = len(chosen)
        self.captions, self._numbers = [], []  # the numbers of the rows that these captions belong to
        self._left_out: dict[int, str] = {}  # number of a row: what is wrong with it
        for place, (number, captions) in enumerate(zip(chosen, self.rows.select(chosen)["captions"])):
            captions = captions or []
            in_turn = (captions[(place + shift) % len(captions)] for shift in range(len(captions)))
            known = next((caption for caption in in_turn if caption and tokenizer(caption)["input_ids"]), None)
            if known is None:
                why = f"no word of its {len(captions)} captions is in the vocabulary"
                self._leave_out(number, f"{name_row(files, number)} ({self.rows[number]['image_id']}): {why}")
            else:
                self.captions.append(known)
                self._numbers.append(number)

    def _leave_out(self, number: int, what: str) -> None:
        """Logs and counts a row the first time that it turns out to be broken."""
        if not self.max_broken_share:
            raise BrokenRowError(what)
        if number in self._left_out:
            return
        self._left_out[number] = what
        broken = len(self._left_out)
        logger.warning("row left out of evaluations, number %d of %d: %s", broken, self.total, what)
        if broken > math.ceil(self.max_broken_share * self.total):
            raise BrokenRowError(
                f"{broken} broken rows among the {self.total} of evaluations, more than "
                f"data.max_broken_share {self.max_broken_share:g} "
                f"allows; the last: {what}"
            )

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> torch.Tensor:
        """The image of a row, (3, S, S) in [-1, 1]."""
        row = self.rows[self._numbers[place]]
        image = decode_image(row["image"], row["image_id"])
        return scale_pixels(image_pyramid(image, (self.size,), row["bbox"])[0])

    def batches(self, size: int) -> Iterator[EvaluationBatch]:
        """Yields the rows whose image can be read, `size` at once, in order."""
        images, indices = [], []
        for index, number in enumerate(self._numbers):
            try:
                images.append(self[index])
                indices.append(index)
            except BrokenRowError as error:
                self._leave_out(number, f"{name_row(self.files, number)}: {error}")
            if images and (len(images) == size or index == len(self) - 1):
                yield EvaluationBatch(torch.stack(images), [self.captions[i] for i in indices], indices)
                images, indices = [], []


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` row numbers (or all, if fewer) spread over `total` rows."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def _first_rows(rows: datasets.IterableDataset, count: int, files: Sequence[str]) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_list(list(rows.take(count)), features=rows.features)
    except (OSError, pa.ArrowException):
        check_shards(files)
        raise
