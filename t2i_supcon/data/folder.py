"""A folder of images with a table of captions and labels."""

import argparse
import csv
import json
from pathlib import Path
from typing import TextIO

import numpy as np

from .archives import Files
from .shards import Source, make_row

HELP = "images of your own, with a table of their captions and labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a folder of images."""
    parser.add_argument("--images", type=Path, required=True, help="the folder of images")
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help=".jsonl or .csv: file_name, caption(s), label [, split]; rows of a file become one",
    )
    parser.add_argument(
        "--test-share", type=float, default=0.1, help="share of test rows if the table has no split (default: 0.1)"
    )
    parser.add_argument("--caption-separator", help="divides several captions in one field of a .csv")


def read(options: argparse.Namespace, work: Path) -> Source:
    """Reads a folder of images as the options say."""
    return read_folder(options.images, options.table, work, options.test_share, options.seed, options.caption_separator)


def read_folder(
    images: Path, table: Path, work: Path, test_share: float = 0.1, seed: int = 0, separator: str | None = None
) -> Source:
    """Reads a folder of images.

    Args:
        images: folder or archive.
        table: `.jsonl` with `file_name`, `captions` (a list), `label` (a name or a list of names;
            empty = unlabelled), or `.csv` with `file_name`, `caption`, `label` (one name);
            optionally `split`, "train" or "test". Rows of one file become one, with all their
            captions.
        work: folder for temporary files.
        test_share: share of the test split, between 0 and 1, where the table has no `split`.
        seed: of that split.
        separator: divides several captions in the `caption` of a `.csv`; None: it is one caption.

    Raises:
        ValueError: a row or column that does not fit, named.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"a test share of {test_share:g}: it must lie between 0 and 1")
    files = Files(images, work)
    records = _merge(_read_table(table, separator), table)
    if not records:
        raise ValueError(f"{table}: it has no row")
    without = next((record["row"] for record in records if record["split"] is None), None)
    named = any(record["split"] for record in records)
    if named and without:
        raise ValueError(f"{table}: row {without} has no 'split' though others have one")
    drawn = set(np.random.default_rng(seed).permutation(len(records))[: round(test_share * len(records))].tolist())
    label_names = sorted({label for record in records for label in record["labels"]})
    if not label_names:
        raise ValueError(f"{table}: no row has a label")
    known, ids = set(files.names), {name: number for number, name in enumerate(label_names)}
    rows = {"train": [], "test": []}
    for number, record in enumerate(records):
        name, where = record["file_name"], f"{table}: row {record['row']}"
        split = record["split"] or ("test" if number in drawn else "train")
        if split not in list(rows):
            raise ValueError(f"{where} ({name}): the split {split!r} is neither 'train' nor 'test'")
        if name not in known:
            raise FileNotFoundError(f"{where}: the image {name} is missing in {images}")
        labels = [ids[label] for label in record["labels"]]
        try:
            rows[split].append(
                make_row(name, record["captions"], labels, labels[0] if labels else -1, name, table.parent.name)
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not rows["train"] or not rows["test"]:
        raise ValueError(
            f"{table}: {len(rows['train'])} training and {len(rows['test'])} test rows; both need one, see --test-share"
        )
    drawn_by = (
        "the `split` column of the table"
        if named
        else f"{test_share:g} of the rows drawn at random for the test, seed {seed}"
    )
    return Source(
        f"Images of {images.name}", "that of the images and captions given", drawn_by, label_names, rows, files.read
    )


def _read_table(table: Path, separator: str | None) -> list[dict]:
    """Rows with `file_name`, `captions` (list), `labels` (list of names), `split` or None, and
    `row`, its number."""
    if table.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{table}: give a table named .csv or .jsonl")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            raw = (
                _csv_rows(table, file)
                if table.suffix == ".csv"
                else [_json_row(table, n, line) for n, line in enumerate(file, 1) if line.strip()]
            )
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: it is not in UTF-8 ({error})") from error
    captions = "caption" if table.suffix == ".csv" else "captions"
    records = []
    for number, row in enumerate(raw, 1):
        missing = [column for column in ("file_name", captions, "label") if column not in row]
        if missing:
            raise ValueError(
                f"{table}: row {number}: the column {missing[0]!r} is missing; found {sorted(map(str, row))}"
            )
        if not isinstance(row["file_name"], str):
            raise ValueError(f"{table}: row {number}: 'file_name' must be a name")
        if captions == "caption":
            row["captions"] = (row["caption"] or "").split(separator) if separator else [row["caption"] or ""]
        if not isinstance(row["captions"], list) or not all(isinstance(caption, str) for caption in row["captions"]):
            raise ValueError(f"{table}: row {number}: 'captions' must be a list of strings")
        labels = row["label"] if isinstance(row["label"], list) else [row["label"]] if row["label"] else []
        if not all(isinstance(label, str) and label for label in labels):
            raise ValueError(f"{table}: row {number}: 'label' must be a name or a list of names, none of them empty")
        records.append({**row, "row": number, "labels": list(dict.fromkeys(labels)), "split": row.get("split") or None})
    return records


def _merge(records: list[dict], table: Path) -> list[dict]:
    """One record of each file, with the captions of all."""
    merged = {}
    for record in records:
        first = merged.setdefault(record["file_name"], {**record, "captions": []})
        for key, column in (("labels", "label"), ("split", "split")):
            if record[key] != first[key]:
                raise ValueError(
                    f"{table}: row {record['row']} gives {record['file_name']} another {column!r} than row "
                    f"{first['row']}"
                )
        first["captions"] += record["captions"]
    return list(merged.values())


def _csv_rows(table: Path, file: TextIO) -> list[dict]:
    rows = []
    try:
        for row in csv.DictReader(file, strict=True):
            rows.append(row)
            if None in row:
                raise ValueError(
                    f"{table}: row {len(rows)} has more fields than the header; quote captions with commas"
                )
    except csv.Error as error:
        raise ValueError(f"{table}: row {len(rows) + 1} is not CSV ({error})") from error
    return rows


def _json_row(table: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{table}: line {number} is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{table}: line {number} is not an object with columns")
    return row
