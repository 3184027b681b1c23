"""Datasets in the project's row schema, and the rows a training step or an evaluation reads from
them.

A row: `image`, `captions` (list of strings), `label` (ClassLabel or id; negative = unlabelled),
`labels` (list of ids), `bbox` (x, y, w, h or null), `image_id`, `source`.
"""

import hashlib
import logging
import math
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from huggingface_hub.errors import HTTPError
from transformers import PreTrainedTokenizerFast

from ..hub import explain
from . import emoji
from .archives import check_file, decode_text, fingerprint
from .builders import BUILDERS
from .columns import Columns, to_schema
from .shards import MANIFEST, WORK
from .tokenization import split_words
from .transforms import BrokenRowError, decode_image, image_pyramid, or_error, scale_pixels

Rows = datasets.Dataset | datasets.IterableDataset
ROWS_OF_A_STREAM = 1000  # that evaluations keep in memory unless told otherwise
ROWS_OF_A_SHARD = 100  # where a dataset without shards is streamed
SAVED_TO_DISK = ("dataset_dict.json", "state.json")  # of which `save_to_disk` writes one
MEND = (
    "mend the row or leave it out, or allow a share of such rows with data.max_broken_share of a recipe or "
    "--max-broken-share of evaluate.py"
)
TEXTS = (".csv", ".tsv", ".json", ".jsonl", ".txt")

logger = logging.getLogger(__name__)


def load_rows(
    name: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    columns: Columns | None = None,
    streaming: bool = False,
    label_names: Sequence[str] = (),
) -> Rows:
    """Loads one split in the row schema, images left undecoded.

    Args:
        name: "emoji" for the embedded data; a folder of Parquet shards named `<split>-*.parquet`;
            one that `save_to_disk` wrote; any other folder that `datasets.load_dataset` reads, such
            as images with a metadata.jsonl; or a dataset of the Hub.
        split: "train", "test" or whatever the dataset calls it; without `streaming` also a part of
            it, as in "train[:90%]".
        config, revision: of a dataset of the Hub.
        columns: what the dataset calls the columns of the schema; None: the schema's own names.
        streaming: read rows in order when they are asked for; otherwise, with random access.
        label_names: those of another split, so that one id means the same label in both.

    Raises:
        FileNotFoundError: no data of that name or split, or a part of its shards only.
        ConnectionError: a download that breaks off.
        ValueError: a column that is not there or of the wrong type, or a shard that cannot be read;
            names file and rows.
    """
    whole, part = _whole_and_part(split)
    if part and streaming:
        raise ValueError(
            f"data {name!r}: a stream has no parts such as {split!r}; name a whole split, or set streaming to false"
        )
    folder = _folder(name)
    if (folder.exists() or folder.is_symlink()) and not check_file(folder).is_dir():
        raise ValueError(f"data {name!r} is a file; name the folder it lies in")
    files = shard_files(name, whole)
    _check_complete(folder, files)
    try:
        if files:
            rows = datasets.load_dataset(
                "parquet", data_files={"rows": files}, split="rows" + part, streaming=streaming
            )
        elif any((folder / written).is_file() for written in SAVED_TO_DISK):
            rows = _load_saved(folder, split, streaming)
        else:
            _check_split(folder, whole, config)
            path = str(_readable(folder)) if folder.is_dir() else name
            options = {"data_files": {"train": "**"}} if _is_one_split(folder) else {}
            rows = datasets.load_dataset(path, config, split=split, revision=revision, streaming=streaming, **options)
    except HTTPError as error:
        raise ConnectionError(
            f"data {name!r}: the download broke off ({_one_line(error)}); give the same command again"
        ) from error
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError, ConnectionError) as error:
        reason = explain(error, name, revision, "dataset") or _one_line(error)
        raise FileNotFoundError(f"data {name!r}: {_missing(name, reason)}") from error
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        check_shards(files or [str(path) for path in sorted(folder.glob("*.parquet"))])
        _check_texts(folder)
        reason = explain(error, name, revision, "dataset") or _unreadable(error)
        raise ValueError(f"data {name!r}, split {split!r}: {reason}") from error
    if streaming:
        rows = rows.reshard()
    with reading(f"data {name!r}", files):
        return to_schema(rows, columns or Columns(), f"data {name!r}", label_names)


def shard_files(name: str, split: str) -> list[str]:
    """The Parquet shards of a split of the embedded data or of a prepared folder, numbered ones
    such as train-0.parquet and train-00000-of-00002.parquet.

    None for data of other kinds, and for a part of a split, as its rows have numbers of their own.
    """
    folder = _folder(name)
    numbered = re.compile(rf"{re.escape(split)}-\d+(-of-\d+)?(-[0-9a-f]+)?\.parquet")
    found = sorted(path.name for path in folder.glob("*.parquet") if numbered.fullmatch(path.name))
    if not found:
        return []
    for file in found:
        check_file(folder / file)
    return [str(_readable(folder) / file) for file in found]


def _folder(name: str) -> Path:
    return emoji.FOLDER if name == "emoji" else Path(name)


def _readable(folder: Path) -> Path:
    """The folder or, where its path holds what `datasets` takes for a pattern or for a chain of
    URLs, one of links to its files, in the cache of `datasets`."""
    real = Path(os.path.realpath(folder))
    if not re.search(r"[\[\]*?{}]|::", str(real)):
        return folder
    digest = hashlib.sha1(f"{real} {fingerprint(real)}".encode()).hexdigest()
    links = Path(datasets.config.HF_DATASETS_CACHE) / "t2i_supcon" / digest
    if not links.exists():
        partial = links.with_name(f"{digest}.{os.getpid()}")
        for file in (path for path in real.rglob("*") if path.is_file()):
            link = partial / file.relative_to(real)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        with suppress(OSError):  # another process was faster
            partial.rename(links)
        shutil.rmtree(partial, ignore_errors=True)
    return links


def _load_saved(folder: Path, split: str, streaming: bool) -> Rows:
    """A split, or a part of one, of what `save_to_disk` wrote."""
    saved = datasets.load_from_disk(str(_readable(folder)))
    if isinstance(saved, datasets.Dataset):
        saved = {str(saved.split or "train"): saved}
    parts = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(rows) for name, rows in saved.items()})
    rows = datasets.concatenate_datasets([saved[p.splitname].select(range(p.from_, p.to)) for p in parts])
    rows = rows.with_format(None)  # that of torch or numpy is saved, too
    return rows.to_iterable_dataset(num_shards=max(1, len(rows) // ROWS_OF_A_SHARD)) if streaming else rows


def _is_one_split(folder: Path) -> bool:
    """Whether a single table describes all images of a folder, of which some are called after
    splits: `datasets` would take these for the splits, and leave the others out."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    tables = [name for name in names if re.fullmatch(r"(.*/)?metadata\.(csv|jsonl|parquet)", name)]
    one_table = len(tables) == 1 and "/" not in tables[0] and "README.md" not in names
    return one_table and any(re.search("train|test|val|dev", name) for name in names)


def _unreadable(error: Exception) -> str:
    """Why `datasets` cannot read what it found."""
    if isinstance(error, datasets.exceptions.SplitsVerificationError):
        return (
            "its files do not hold the splits or rows that the dataset_info of its README.md declares; get it anew, or "
            "take dataset_info out if the files were changed on purpose"
        )
    if "scripts are no longer supported" in str(error):
        return f"{_one_line(error)}; take a version in Parquet, such as that of the revision refs/convert/parquet"
    return _one_line(error.__cause__ or error)


def _missing(name: str, reason: str) -> str:
    """What to say about data that is not there, for this reason if it may be on the Hub."""
    kind = Path(name).name
    if kind in BUILDERS:
        if name == f"data/{kind}":  # where the recipes expect it, whatever the Hub says of such a name
            reason = "there is no such folder"
        return (
            f"{reason}; `python scripts/prepare_data.py {kind} --output {name} ...` prepares it "
            f"(`prepare_data.py {kind} --help` says what it needs)"
        )
    return f"{reason}; name the embedded data 'emoji', a folder, or a dataset of the Hub in data.name"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def reading(where: str, files: Sequence[str] = ()) -> Iterator[None]:
    """Says of an error inside the block what cannot be read, and what to do.

    Raises:
        ValueError: one of these Parquet files is damaged; names its rows.
        ConnectionError: a download broke off.
    """
    try:
        yield
    except HTTPError as error:
        raise ConnectionError(
            f"{where}: the download broke off ({_one_line(error)}); give the same command again, with --resume if it "
            "was training"
        ) from error
    except (OSError, pa.ArrowException):
        check_shards(files)
        raise


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
        known = datasets.get_dataset_split_names(str(_readable(folder)), config)
        if split not in known:
            raise FileNotFoundError(f"no file {split}-*.parquet in {folder}; it holds {', '.join(known)}")


def _check_texts(folder: Path) -> None:
    """Refuses a folder with a table that is not in UTF-8."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in TEXTS and path.is_file():
            decode_text(path.read_bytes(), path)


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
                f"{path}: {where} ({_one_line(error)}); restore the file, or prepare the data again"
            ) from error


def name_row(files: Sequence[str], place: int | tuple[int, int], split: str | None = None) -> str:
    """Says where a row lies: in which of its Parquet files or else in which split.

    Args:
        place: its number in the split or, in a stream, (row group, row in it).
    """
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
    where = f"row {number}" if group is None else f"shard {group}, row {number}"
    return f"split {split!r}, {where}" if split else where


def check_captions(rows: datasets.Dataset, files: Sequence[str] = (), split: str | None = None) -> None:
    """Refuses rows without captions and captions without words, before hours of training meet them.

    Args:
        rows: with random access.
        files: their Parquet files, if any, to say where a row lies.
        split: their name, to say it where there are no such files.

    Raises:
        BrokenRowError: names the first such row.
    """
    columns = rows["image_id"][:], rows["captions"][:]  # one by one they take ten times as long
    for number, (image_id, captions) in enumerate(zip(*columns)):
        wrong = [caption for caption in captions or () if not split_words(caption or "")]
        if wrong or not captions:
            what = f"the caption {wrong[0]!r} holds no word" if wrong else "it has no caption"
            raise BrokenRowError(f"{name_row(files, number, split)}: {image_id}: {what}; {MEND}")


def check_known_words(
    rows: datasets.Dataset, tokenizer: PreTrainedTokenizerFast, files: Sequence[str] = (), split: str | None = None
) -> None:
    """Refuses rows of whose captions the tokenizer knows no word, as may be in other data than that
    its vocabulary comes from. Arguments and errors as of `check_captions`."""
    columns = rows["image_id"][:], rows["captions"][:]  # one by one they take ten times as long
    for number, (image_id, captions) in enumerate(zip(*columns)):
        if captions and _known_caption(captions, 0, tokenizer) is None:
            what = f"no word of its {len(captions)} captions, such as {captions[0]!r}, is in the vocabulary"
            raise BrokenRowError(f"{name_row(files, number, split)}: {image_id}: {what}; {MEND}")


def _known_caption(
    captions: Sequence[str | None], first: int, tokenizer: PreTrainedTokenizerFast, truncation: bool = False
) -> tuple[str, list[int]] | None:
    """The caption number `first`, or else the next one of which the tokenizer knows a word, and its
    ids."""
    for shift in range(len(captions)):
        caption = captions[(first + shift) % len(captions)]
        if caption and (input_ids := tokenizer(caption, truncation=truncation)["input_ids"]):
            return caption, input_ids
    return None


class TrainingRows(torch.utils.data.Dataset):
    """Rows as training samples: one caption drawn (the next one if the tokenizer knows no word of
    it), the image cut and scaled, the same for the same draw whoever asks.

    Args:
        rows: from `load_rows`, with random access; None for rows of a stream, which come whole.
        tokenizer: of the text encoder.
        sizes: image sides from low to high.
        seed: with the number of the draw, decides every random choice.
        random_crop, flip: see `image_pyramid`.
        long_captions: captions with more words than the tokenizer's `model_max_length` keep their
            "first" words or, as the original code did, a "random_subset" in order.
        word_dropout: chance of each word to be left out; one word at least stays.
        files: the Parquet files of the rows, if any, to say where a broken row lies.
        split: their name, to say it where there are no such files.
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
        word_dropout: float = 0.0,
        files: Sequence[str] = (),
        split: str | None = None,
    ):
        self.rows = rows
        self.tokenizer = tokenizer
        self.sizes = sizes
        self.seed = seed
        self.random_crop = random_crop
        self.flip = flip
        self.long_captions = long_captions
        self.word_dropout = word_dropout
        self._marks = frozenset(tokenizer.all_special_ids)  # asking for them takes longer than their use
        self.files = files
        self.split = split

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int | dict, int]) -> dict:
        """Makes the sample of (row or its number, number of the draw)."""
        row, draw = key
        try:
            return self._sample(row if isinstance(row, dict) else self.rows[row], draw)
        except BrokenRowError as error:
            place = row["place"] if isinstance(row, dict) else row
            raise BrokenRowError(f"{name_row(self.files, place, self.split)}: {error}") from None

    def __getitems__(self, keys: list[tuple[int | dict, int]]) -> list[dict | BrokenRowError]:
        """Makes the samples of a batch; in the place of a broken one stands its error, for
        `Batches` to judge."""
        return [or_error(self.__getitem__, key) for key in keys]

    def _sample(self, row: dict, draw: int) -> dict:
        rng = np.random.default_rng([self.seed, draw])
        if not row["captions"]:
            raise BrokenRowError(f"{row['image_id']}: it has no caption")
        drawn = int(rng.integers(len(row["captions"])))
        known = _known_caption(row["captions"], drawn, self.tokenizer, self.long_captions == "first")
        if known is None:
            raise BrokenRowError(
                f"{row['image_id']}: no word of the caption {row['captions'][drawn]!r} is in the vocabulary"
            )
        caption, input_ids = known
        limit = self.tokenizer.model_max_length
        if len(input_ids) > limit:
            input_ids = self._subset(input_ids, limit, rng)
        if self.word_dropout:
            input_ids = self._drop_words(input_ids, rng)
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

    def _subset(self, input_ids: list[int], limit: int, rng: np.random.Generator) -> list[int]:
        """`limit` tokens, in order; marks such as the end of a caption all stay."""
        drawn = rng.permutation(len(input_ids))
        marks = [i for i in drawn if input_ids[i] in self._marks]
        kept = (marks + [i for i in drawn if input_ids[i] not in self._marks])[:limit]
        return [input_ids[i] for i in sorted(kept)]

    def _drop_words(self, input_ids: list[int], rng: np.random.Generator) -> list[int]:
        """Leaves words out; marks such as the end of a caption are no words."""
        words = np.array([one not in self._marks for one in input_ids])
        kept = ~words | (rng.random(len(input_ids)) >= self.word_dropout)
        if words.any() and not kept[words].any():
            kept[rng.choice(np.flatnonzero(words))] = True
        return np.asarray(input_ids)[kept].tolist()


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

    Row i reads its caption number i mod n, or the next one that holds a word the tokenizer knows.
    A row whose captions hold none is left out. One whose image is broken shows only when `batches`
    reads it, which leaves it out too; each is logged and counted.

    Args:
        rows: from `load_rows`; rows of a stream are kept in memory, images not decoded.
        tokenizer: of the text encoder.
        size: side of the images.
        count: read so many rows, evenly spaced or, of a stream, the first; None: all, or the first
            `ROWS_OF_A_STREAM`.
        files: the Parquet files of the rows, if any, to say where a broken row lies.
        max_broken_share: share of the rows whose image may be broken, rounded up to whole rows.
        split: their name, to say it where there are no such files.

    Attributes:
        captions: of the rows that are not left out, those with a broken image included.
        unknown: how many rows are left out because the tokenizer knows no word of them.

    Raises:
        BrokenRowError: no row with a known word or, while iterating, more broken images than
            allowed.
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
        split: str | None = None,
    ):
        is_stream = isinstance(rows, datasets.IterableDataset)
        self.rows = _first_rows(rows, count or ROWS_OF_A_STREAM, files) if is_stream else rows
        self.size = size
        chosen = evenly_spaced(len(self.rows), count or len(self.rows))
        self.captions, self._row_numbers, unknown = [], [], []
        for turn, (number, captions) in enumerate(zip(chosen, self.rows.select(chosen)["captions"])):
            captions = captions or []
            known = _known_caption(captions, turn, tokenizer)
            if known is None:
                where = f"{name_row(files, number, split)} ({self.rows[number]['image_id']})"
                unknown.append(f"{where}: no word of its {len(captions)} captions is in the vocabulary")
                logger.warning(
                    "row left out of evaluations, number %d of %d: %s", len(unknown), len(chosen), unknown[-1]
                )
            else:
                self.captions.append(known[0])
                self._row_numbers.append(number)
        self.unknown = len(unknown)
        if not self.captions:
            why = f"; {unknown[0]}, which holds the words of the training captions" if unknown else ""
            raise BrokenRowError(f"none of the {len(chosen)} rows for evaluation can be used{why}")
        self._broken = BrokenRows(len(self), max_broken_share, files, split)

    def __len__(self) -> int:
        return len(self._row_numbers)

    def __getitem__(self, index: int) -> torch.Tensor:
        """The image of a row, (3, S, S) in [-1, 1]."""
        row = self.rows[self._row_numbers[index]]
        image = decode_image(row["image"], row["image_id"])
        return scale_pixels(image_pyramid(image, (self.size,), row["bbox"])[0])

    def batches(self, size: int) -> Iterator[EvaluationBatch]:
        """Yields the rows whose image can be read, `size` at once, in order."""
        images, indices = [], []
        for index, number in enumerate(self._row_numbers):
            try:
                images.append(self[index])
                indices.append(index)
            except BrokenRowError as error:
                self._broken.leave_out(number, error)
            if images and (len(images) == size or index == len(self) - 1):
                yield EvaluationBatch(torch.stack(images), [self.captions[i] for i in indices], indices)
                images, indices = [], []


class BrokenRows:
    """Rows that evaluations leave out as their image is broken: each is logged and counted the
    first time that it is met.

    Args:
        total: how many rows are read.
        max_share: of them that may be broken, rounded up to whole rows.
        files, split: see `name_row`.
    """

    def __init__(self, total: int, max_share: float, files: Sequence[str] = (), split: str | None = None):
        self.total = total
        self.max_share = max_share
        self.files = files
        self.split = split
        self._numbers: set[int] = set()

    def leave_out(self, number: int, error: BrokenRowError) -> None:
        """Counts a row.

        Raises:
            BrokenRowError: more of them than allowed, or all.
        """
        what = f"{name_row(self.files, number, self.split)}: {error}"
        if not self.max_share:
            raise BrokenRowError(f"{what}; {MEND}")
        if number in self._numbers:
            return
        self._numbers.add(number)
        broken = len(self._numbers)
        logger.warning("row left out of evaluations, number %d of %d: %s", broken, self.total, what)
        if broken > math.ceil(self.max_share * self.total) or broken == self.total:
            raise BrokenRowError(
                f"{broken} broken rows among the {self.total} of evaluations, more than the max_broken_share of "
                f"{self.max_share:g} allows; the last: {what}"
            )


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` row numbers (or all, if fewer) spread over `total` rows."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def _first_rows(rows: datasets.IterableDataset, count: int, files: Sequence[str]) -> datasets.Dataset:
    with reading("the rows of evaluations", files):
        return datasets.Dataset.from_list(list(rows.take(count)), features=rows.features)
