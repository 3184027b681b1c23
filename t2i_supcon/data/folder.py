"""A folder of images with a table of captions and labels."""

import argparse
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .archives import Files
from .columns import sort_label_names
from .shards import FEWEST_HELD_OUT, Source, log_unnamed, make_row
from .tables import read_table

logger = logging.getLogger(__name__)
HELP = "images of your own, with a table of their captions and labels"
CAPTION_COLUMNS = ("captions", "caption", "text")  # looked for in this order where none is named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a folder of images."""
    parser.add_argument("--images", type=Path, required=True, help="the folder, or a zip or tar archive of it")
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help=".csv, .tsv, .jsonl or .parquet with a row for each caption, or for each image",
    )
    parser.add_argument(
        "--image-column", default="file_name", help="column with the names of the images (default: file_name)"
    )
    parser.add_argument(
        "--caption-column",
        help="column with a caption, or a list of them (default: captions, caption or text, whichever is there)",
    )
    parser.add_argument(
        "--label-column",
        help="column with the label, or a list of labels, that images are paired by (default: label; without such a "
        "column the images are unlabelled)",
    )
    parser.add_argument("--caption-separator", help="divides several captions in one field, e.g. '|'")
    parser.add_argument("--label-separator", help="divides several labels in one field, e.g. ';'")
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.1,
        help="share of the images held out for evaluation, if the table has no column split (default: 0.1)",
    )


def read(options: argparse.Namespace, work: Path) -> Source:
    """Reads a folder of images as the options say."""
    columns = TableColumns(
        options.image_column,
        options.caption_column,
        options.label_column,
        options.caption_separator,
        options.label_separator,
    )
    return read_folder(options.images, options.table, work, options.test_share, options.seed, columns)


@dataclass(frozen=True)
class TableColumns:
    """What a table calls its columns, and how their fields are divided.

    Attributes:
        image: the names of image files.
        captions: a string or a list of strings; None: the first of `CAPTION_COLUMNS` that is there.
        labels: names or whole numbers, or lists of them; None: "label" if that is there.
        caption_separator, label_separator: divide several in one string; None: it is one.
    """

    image: str = "file_name"
    captions: str | None = None
    labels: str | None = None
    caption_separator: str | None = None
    label_separator: str | None = None


@dataclass
class Record:
    """What a table says of an image: its file, the number of the row that names it first, captions,
    label names, and "train", "test" or None."""

    file: str
    row: int
    captions: list[str]
    labels: list[str]
    split: str | None


def read_folder(
    images: Path,
    table: Path,
    work: Path,
    test_share: float = 0.1,
    seed: int = 0,
    columns: TableColumns | None = None,
) -> Source:
    """Reads a folder of images.

    Args:
        images: folder or archive.
        table: `.csv`, `.tsv`, `.jsonl` or `.parquet`; an optional column `split` holds "train" or
            "test". Rows of one image become one, with all their captions; images that no row names
            are left out, and counted in the log.
        work: folder for temporary files.
        test_share: share of the test split, between 0 and 1, where the table has no `split`; two
            images at least.
        seed: of that split.
        columns: what the table calls its columns.

    Raises:
        ValueError: a row or column that does not fit, named.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"a test share of {test_share:g}: it must lie between 0 and 1")
    files = Files(images, work)
    records = _merge(_read_records(table, files, columns or TableColumns()), table)
    without = next((record.row for record in records if record.split is None), None)
    named = any(record.split for record in records)
    if named and without:
        raise ValueError(f"{table}: row {without} has no 'split' though others have one")
    count = min(max(FEWEST_HELD_OUT, round(test_share * len(records))), len(records) - 1)
    held_out = set(np.random.default_rng(seed).permutation(len(records))[:count].tolist())
    label_names = sort_label_names(label for record in records for label in record.labels)
    if not label_names:
        logger.warning(
            "no row of %s has a label; name their column with --label-column, or train without: sampling=independent "
            "loss_weights.supcon=null",
            table,
        )
    elif unlabelled := sum(not record.labels for record in records):
        logger.warning("%d of %d pictures have no label: they pair with each other", unlabelled, len(records))
    ids = {name: number for number, name in enumerate(label_names)}
    rows = {"train": [], "test": []}
    for number, record in enumerate(records):
        where = f"{table}: row {record.row}"
        split = record.split or ("test" if number in held_out else "train")
        if split not in rows:
            raise ValueError(f"{where} ({record.file}): the split {split!r} is neither 'train' nor 'test'")
        labels = [ids[label] for label in record.labels]
        label = labels[0] if labels else -1
        try:
            row = make_row(record.file, record.captions, labels, label, record.file, table.parent.name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        rows[split].append(row)
    if not rows["train"] or not rows["test"]:
        raise ValueError(
            f"{table}: {len(rows['train'])} training and {len(rows['test'])} test rows; both need one, see --test-share"
        )
    log_unnamed(files.pictures, {record.file for record in records}, str(table))
    drawn_by = (
        "the `split` column of the table"
        if named
        else f"{test_share:g} of the rows drawn at random for the test, seed {seed}"
    )
    return Source(
        f"Images of {images.name}", "that of the images and captions given", drawn_by, label_names, rows, files.read
    )


def _read_records(table: Path, files: Files, columns: TableColumns) -> list[Record]:
    found, rows = read_table(table)
    if not rows:
        raise ValueError(f"{table}: it has no row")
    caption_column = columns.captions or next((name for name in CAPTION_COLUMNS if name in found), "captions")
    label_column = columns.labels or ("label" if "label" in found else None)
    needed = {"--image-column": columns.image, "--caption-column": caption_column, "--label-column": label_column}
    for option, name in needed.items():
        if name is not None and name not in found:
            raise ValueError(
                f"{table}: row 1: the column {name!r} is missing; found {', '.join(map(repr, found))}; name the right "
                f"one with {option}"
            )
    records, kinds = [], {}  # whether captions are lists and labels numbers, and which row says so
    for number, row in enumerate(rows, 1):
        where = f"{table}: row {number}"
        listed = row[columns.image]
        if not isinstance(listed, str) or not listed:
            raise ValueError(f"{where}: {columns.image!r} must be a name")
        file = files.find_picture(listed)
        if file is None:
            raise FileNotFoundError(f"{where}: the image {listed} is missing in {files.path}")
        captions = _as_list(row[caption_column], columns.caption_separator)
        if not all(isinstance(caption, str | None) for caption in captions):
            raise ValueError(f"{where}: {caption_column!r} must be a list of strings, or a string")
        if captions:
            _check_same_kind(kinds, caption_column, isinstance(row[caption_column], list), "a list", number, table)
        labels = [] if label_column is None else _as_list(row[label_column], columns.label_separator)
        names = [_label_name(label) for label in labels]
        if None in names or (len(labels) > 1 and "" in names and not columns.label_separator):
            raise ValueError(f"{where}: {label_column!r} must be a name or a list of names, none of them empty")
        for label in filter(_label_name, labels):
            _check_same_kind(kinds, label_column, not isinstance(label, str), "a number", number, table)
        captions = [caption or "" for caption in captions]
        records.append(
            Record(file, number, captions, list(dict.fromkeys(filter(None, names))), row.get("split") or None)
        )
    return records


def _as_list(value: object, separator: str | None) -> list:
    """What a field holds: several parts of a string, a list, one value, or nothing."""
    if isinstance(value, str) and separator:
        return value.split(separator)
    return value if isinstance(value, list) else [] if value is None else [value]


def _check_same_kind(kinds: dict, column: str, is_other: bool, other: str, row: int, table: Path) -> None:
    """Refuses a column that holds one kind of values here and another one there, as a slip does."""
    first_row, expected = kinds.setdefault(column, (row, is_other))
    if is_other != expected:
        kind = other if expected else "a name" if other == "a number" else "a string"
        raise ValueError(f"{table}: row {row}: {column!r} must be {kind}, as in row {first_row}")


def _label_name(label: object) -> str | None:
    """A label as it is written, "" for none; None where it is no label."""
    if isinstance(label, float) and math.isnan(label):
        return ""  # what tools write where a number is missing
    if isinstance(label, float) and label.is_integer():
        label = int(label)  # whole numbers of which some are missing are kept as floats
    if isinstance(label, str) and re.fullmatch(r"-\d+(\.0+)?", label.strip()):
        return ""  # unlabelled, too: all that a CSV holds is text
    if isinstance(label, int) and label < 0:
        return ""
    return str(label).strip() if isinstance(label, str | int) else None


def _merge(records: list[Record], table: Path) -> list[Record]:
    """One record of each file, with the captions of all."""
    merged: dict[str, Record] = {}
    for record in records:
        first = merged.setdefault(record.file, record)
        for part, column in (("labels", "label"), ("split", "split")):
            if getattr(record, part) != getattr(first, part):
                raise ValueError(
                    f"{table}: row {record.row} gives {record.file} another {column!r} than row {first.row}"
                )
        if first is not record:
            first.captions += record.captions
    return list(merged.values())
