"""Tables with a row for each picture: .csv, .tsv, .jsonl and .parquet."""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .archives import check_file, decode_text, parse_json

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_table(path: Path) -> tuple[list[str], list[dict]]:
    """Reads a table.

    Returns:
        The names of its columns, and its rows. Values of .csv and .tsv are strings; those of .jsonl
        and .parquet are what they hold, null where a row lacks a column.

    Raises:
        ValueError: another kind of file, another encoding than UTF-8, a column named twice, or a
            row that does not fit its columns; the message names the row.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a table must be one of {', '.join(SUFFIXES)}")
    if check_file(path).is_dir():
        raise ValueError(f"{path}: it is a folder; give the table itself")
    if suffix == ".parquet":
        return _read_parquet(path)
    text = decode_text(path.read_bytes(), path)
    return _read_jsonl(text, path) if suffix == ".jsonl" else _read_csv(text, "\t" if suffix == ".tsv" else ",", path)


def _read_parquet(path: Path) -> tuple[list[str], list[dict]]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: it is no whole Parquet file ({' '.join(str(error).split())})") from error
    return _checked_columns(table.column_names, path), table.to_pylist()


def _read_csv(text: str, delimiter: str, path: Path) -> tuple[list[str], list[dict]]:
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _checked_columns(next(reader, []), path)
        for values in reader:
            if not values:  # an empty line
                continue
            if len(values) != len(columns):
                remedy = "; quote captions with commas" if delimiter == "," and len(values) > len(columns) else ""
                which = "more" if len(values) > len(columns) else "fewer"
                raise ValueError(f"{path}: row {len(rows) + 1} has {which} fields than the header{remedy}")
            rows.append(dict(zip(columns, values)))
    except csv.Error as error:
        raise ValueError(f"{path}: row {len(rows) + 1} is not {path.suffix[1:].upper()} ({error})") from error
    return columns, rows


def _read_jsonl(text: str, path: Path) -> tuple[list[str], list[dict]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = parse_json(line, f"{path}: line {number}", lambda pairs, number=number: _object(pairs, path, number))
            if not isinstance(row, dict):
                raise ValueError(f"{path}: line {number} is not an object with columns")
            rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return columns, [{column: row.get(column) for column in columns} for row in rows]


def _object(pairs: list[tuple[str, object]], path: Path, number: int) -> dict:
    return dict(zip(_checked_columns([key for key, _ in pairs], f"{path}: line {number}"), (v for _, v in pairs)))


def _checked_columns(names: list[str], where: object) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: two columns are called {name!r}; give each a name of its own")
    return names
