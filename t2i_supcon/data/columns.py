"""From the columns that a dataset has to the row schema."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import datasets

from .shards import row_features

COLUMNS = ("image", "captions", "label", "labels", "bbox", "image_id")
OPTIONAL = ("labels", "bbox", "image_id")  # derived where a dataset has no column of that name


@dataclass(frozen=True)
class Columns:
    """What a dataset calls the columns of the row schema; "a.b" is the field b inside the column a.

    Attributes:
        image: images, encoded images or paths of image files; not inside another column.
        captions: a string or a list of strings.
        label: class id or name, or null; None for data without labels.
        labels: all ids or names of a row; where there is no such column, the one of `label`. With `label` None, the first is the label.
        bbox: (x, y, w, h) in pixels of the object to cut out, or null.
        image_id: tells rows apart in messages; where there is no such column, the number of the row.
    """

    image: str = "image"
    captions: str = "captions"
    label: str | None = "label"
    labels: str | None = "labels"
    bbox: str | None = "bbox"
    image_id: str | None = "image_id"


def to_schema(rows: datasets.Dataset | datasets.IterableDataset, columns: Columns, where: str) -> datasets.Dataset | datasets.IterableDataset:
    """Brings a dataset into the row schema, images left undecoded.

    Labels that are not a `ClassLabel` are read once to number them: names, or numbers as they are written, in sorted order.

    Raises:
        ValueError: a column that is not there, or values that are no captions or labels; `where` begins the message.
    """
    features = rows.features or rows._resolve_features().features  # a stream may know them only after its first rows
    used = {}
    for name in COLUMNS:
        column = getattr(columns, name)
        if column is not None and _feature(features, column) is None:
            if name not in OPTIONAL or column != getattr(Columns, name):
                raise ValueError(
                    f"{where}: there is no column {column!r} for {name}; found {', '.join(features)}. Name the right one in the recipe"
                    + (", or null if the data has no labels" if name == "label" else "")
                )
            column = None
        used[name] = column
    kept = {path.split(".")[0] for path in used.values() if path}
    rows = rows.cast_column(used["image"], datasets.Image(decode=False)).select_columns(sorted(kept))
    names = next((f.names for name in ("label", "labels") if (f := _class_label(_feature(features, used[name]))) is not None), None)
    if names is not None and all(used[name] == name for name in COLUMNS) and isinstance(features["captions"], datasets.List):
        return rows.select_columns(list(COLUMNS))
    ids = None
    if names is None:
        names = _label_names(rows, used)
        ids = {name: number for number, name in enumerate(names)}
    schema = {name: feature for name, feature in row_features(names).items() if name in COLUMNS}
    convert = partial(_schema_row, used={name: path for name, path in used.items() if name != "image"}, ids=ids, where=where)
    if used["image"] != "image":
        rows = rows.rename_column(used["image"], "image")
    others = [column for column in rows.column_names if column != "image"]
    if isinstance(rows, datasets.IterableDataset):
        schema["image"] = datasets.Image(decode=False)
        return rows.map(convert, with_indices=True, remove_columns=others, features=datasets.Features(schema))
    del schema["image"]
    rest = rows.remove_columns("image").map(
        convert, with_indices=True, remove_columns=others, features=datasets.Features(schema), keep_in_memory=True, desc="columns"
    )
    return datasets.concatenate_datasets([rows.select_columns("image"), rest], axis=1)  # so that no image is copied


def _feature(features, path: str | None):
    """The feature at a path, or None; lists of mappings are looked into."""
    for part in path.split(".") if path else ():
        features = getattr(features, "feature", features)
        features = features.get(part) if isinstance(features, dict) else None
        if features is None:
            return None
    return features if path else None


def _class_label(feature) -> datasets.ClassLabel | None:
    feature = getattr(feature, "feature", feature)  # of a list
    return feature if isinstance(feature, datasets.ClassLabel) else None


def _value(row: dict, path: str | None):
    for part in path.split(".") if path else ():
        row = [item[part] for item in row] if isinstance(row, list) else row[part]
    return row if path else None


def _label_names(rows: Iterable[dict], used: dict) -> list[str]:
    paths = [used[name] for name in ("label", "labels") if used[name]]
    found = {str(value) for row in rows.select_columns(sorted({path.split(".")[0] for path in paths})) for value in _labels_of(row, paths)}
    numbers = all(name.lstrip("-").isdigit() for name in found)
    return sorted(found, key=int if numbers else str)


def _labels_of(row: dict, paths: list[str | None]) -> Iterator[int | str]:
    """The labels in these columns; null, the empty name and negative numbers are none."""
    for path in paths:
        value = _value(row, path)
        for label in value if isinstance(value, list) else [value]:
            if label is not None and label != "" and not (isinstance(label, int) and label < 0):
                yield label


def _schema_row(row: dict, number: int, used: dict, ids: dict[str, int] | None, where: str) -> dict:
    """All of a row but its image. `ids` are the numbers of label names; None: the labels are numbers of a `ClassLabel` already."""
    captions = _value(row, used["captions"])
    captions = [captions] if isinstance(captions, str) else captions or []
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"{where}, row {number}: the column {used['captions']!r} holds no caption or list of captions but {captions!r}")
    label, labels = ([label if ids is None else ids[str(label)] for label in _labels_of(row, [used[name]])] for name in ("label", "labels"))
    image_id = _value(row, used["image_id"])
    return {
        "captions": captions,
        "label": (label or labels or [-1])[0],
        "labels": sorted(set(labels or label)),
        "bbox": _value(row, used["bbox"]),
        "image_id": str(number if image_id is None else image_id),
    }
