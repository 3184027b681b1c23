"""From the columns that a dataset has to the row schema."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import datasets
import pyarrow.compute as pc

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
        labels: all ids or names of a row; where there is no such column, the one of `label`. With
            `label` None, the first is the label.
        bbox: (x, y, w, h) of the object to cut out, in pixels of the upright picture, or null.
        image_id: tells rows apart in messages; where there is no such column, the number of the
            row.
    """

    image: str = "image"
    captions: str = "captions"
    label: str | None = "label"
    labels: str | None = "labels"
    bbox: str | None = "bbox"
    image_id: str | None = "image_id"


def to_schema(
    rows: datasets.Dataset | datasets.IterableDataset, columns: Columns, where: str, label_names: Sequence[str] = ()
) -> datasets.Dataset | datasets.IterableDataset:
    """Brings a dataset into the row schema, images left undecoded.

    Labels that are not a `ClassLabel` are read once to number them: names, or numbers as they are
    written, in sorted order, after the `label_names` of another split. A `ClassLabel` that numbers
    them otherwise than that split does is numbered anew.

    Raises:
        ValueError: a column that is not there or of another kind, or values that are no captions or
            labels; `where` begins the message.
    """
    if rows.features is None:
        rows = rows._resolve_features()  # a stream may know them only after its first rows
    features = rows.features
    used = {}
    for name in COLUMNS:
        column = getattr(columns, name)
        if column is not None and _feature(features, column) is None:
            if name not in OPTIONAL or column != getattr(Columns, name):
                raise ValueError(
                    f"{where}: there is no column {column!r} for {name}; found {', '.join(features)}. Name "
                    "the right one, in the recipe or in --columns"
                    + (", or null if the data has no labels" if name == "label" else "")
                )
            column = None
        used[name] = column
    _check_kinds(features, used, where)
    kept = {path.split(".")[0] for path in used.values() if path}
    rows = rows.cast_column(used["image"], datasets.Image(decode=False)).select_columns(sorted(kept))
    names = next(
        (f.names for name in ("label", "labels") if (f := _class_label(_feature(features, used[name]))) is not None),
        None,
    )
    if names is None:
        names = list(dict.fromkeys([*label_names, *_label_names(rows, used)]))
        ids = {name: number for number, name in enumerate(names)}
    else:
        own, names = names, list(dict.fromkeys([*label_names, *names]))
        if own == names and all(used[name] == name for name in COLUMNS) and _in_schema(rows, features, len(names)):
            return rows.select_columns(list(COLUMNS))
        ids = {str(number): names.index(name) for number, name in enumerate(own)}
    schema = {name: feature for name, feature in row_features(names).items() if name in COLUMNS}
    convert = partial(
        _schema_row, used={name: path for name, path in used.items() if name != "image"}, ids=ids, where=where
    )
    if used["image"] != "image":
        rows = rows.rename_column(used["image"], "image")
    others = [column for column in rows.column_names if column != "image"]
    if isinstance(rows, datasets.IterableDataset):
        schema["image"] = datasets.Image(decode=False)
        return rows.map(convert, with_indices=True, remove_columns=others, features=datasets.Features(schema))
    del schema["image"]
    rest = rows.remove_columns("image").map(
        convert,
        with_indices=True,
        remove_columns=others,
        features=datasets.Features(schema),
        keep_in_memory=True,
        desc="columns",
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


def _check_kinds(features, used: dict, where: str) -> None:
    """Refuses columns whose type alone says that they hold something else; captions are looked at
    row by row."""
    for name, path in used.items():
        if path and name != "image" and path.split(".")[0] == used["image"]:
            raise ValueError(
                f"{where}: the column {used['image']!r} is named for image and for {name}; images need a "
                "column of their own"
            )
    kinds = {
        "image": (_holds_images, "images, encoded images or paths of image files"),
        "label": (_holds_labels, "class ids or names, or lists of them"),
        "labels": (_holds_labels, "class ids or names, or lists of them"),
        "bbox": (_holds_boxes, "lists of the numbers x, y, w, h"),
    }
    for name, (fits, wanted) in kinds.items():
        feature = _feature(features, used[name])
        if feature is not None and not fits(feature):
            raise ValueError(f"{where}: the column {used[name]!r} for {name} holds {feature}; it must hold {wanted}")


def _holds_images(feature) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in ("string", "large_string", "binary", "large_binary", "null")
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and feature.keys() == {"bytes", "path"})


def _holds_labels(feature) -> bool:
    feature = getattr(feature, "feature", feature)  # of a list
    if isinstance(feature, datasets.Value):
        return feature.dtype not in ("binary", "large_binary")
    return isinstance(feature, (datasets.ClassLabel, datasets.Json))


def _holds_boxes(feature) -> bool:
    inner = getattr(feature, "feature", None)
    if inner is None:
        return isinstance(feature, datasets.Value) and feature.dtype == "null"
    return isinstance(inner, datasets.Value) and inner.dtype.startswith(("int", "uint", "float", "null"))


def _in_schema(rows: datasets.Dataset | datasets.IterableDataset, features, num_labels: int) -> bool:
    """Whether rows whose columns have the schema's names need no conversion; of a stream, only the
    types can tell."""
    lists = (("captions", "string"), ("labels", "int64"))
    if not isinstance(features["label"], datasets.ClassLabel) or not all(
        isinstance(features[name], datasets.List) and getattr(features[name].feature, "dtype", None) == dtype
        for name, dtype in lists
    ):
        return False
    if isinstance(rows, datasets.IterableDataset):
        return True
    captions, labels = (rows.data.column(name) for name, _ in lists)
    ids = pc.list_flatten(labels)
    if captions.null_count or labels.null_count or pc.list_flatten(captions).null_count or ids.null_count:
        return False
    bounds = pc.min_max(ids)
    return not len(ids) or (bounds["min"].as_py() >= 0 and bounds["max"].as_py() < num_labels)


def _class_label(feature) -> datasets.ClassLabel | None:
    feature = getattr(feature, "feature", feature)  # of a list
    return feature if isinstance(feature, datasets.ClassLabel) else None


def _value(row: dict, path: str | None):
    for part in path.split(".") if path else ():
        row = [item and item[part] for item in row] if isinstance(row, list) else row and row[part]  # null stays null
    return row if path else None


def _label_names(rows: Iterable[dict], used: dict) -> list[str]:
    paths = [used[name] for name in ("label", "labels") if used[name]]
    found = {
        str(value)
        for row in rows.select_columns(sorted({path.split(".")[0] for path in paths}))
        for value in _labels_of(row, paths)
    }
    return sort_label_names(found)


def sort_label_names(names: Iterable[str]) -> list[str]:
    """In the order of their numbers where all are whole numbers, else by the alphabet."""
    names = sorted(set(names))
    return sorted(names, key=int) if all(re.fullmatch("-?[0-9]{1,18}", name) for name in names) else names


def _labels_of(row: dict, paths: list[str | None]) -> Iterator[int | str]:
    """The labels in these columns; null, nan, the empty name and negative numbers are none."""
    for path in paths:
        value = _value(row, path)
        for label in value if isinstance(value, list) else [value]:
            if isinstance(label, float) and label.is_integer():
                label = int(label)  # whole numbers of which some are missing are read as floats
            if label is not None and label == label and label != "" and not (isinstance(label, int) and label < 0):
                yield label


def _schema_row(row: dict, number: int, used: dict, ids: dict[str, int], where: str) -> dict:
    """All of a row but its image. `ids` are the numbers of labels as they are written; a null among
    captions becomes an empty one."""
    captions = _value(row, used["captions"])
    captions = [captions] if isinstance(captions, str) else captions or []
    if not isinstance(captions, list) or not all(isinstance(caption, str | None) for caption in captions):
        raise ValueError(
            f"{where}, row {number}: the column {used['captions']!r} holds no caption or list of captions "
            f"but {captions!r}"
        )
    try:
        label, labels = ([ids[str(label)] for label in _labels_of(row, [used[name]])] for name in ("label", "labels"))
    except KeyError as error:
        raise ValueError(
            f"{where}, row {number}: the label {error.args[0]} is none of the {len(ids)} that the data "
            "names; name it, or set its column to null in the recipe or in --columns"
        ) from None
    image_id = _value(row, used["image_id"])
    return {
        "captions": [caption or "" for caption in captions],
        "label": (label or labels or [-1])[0],
        "labels": sorted(set(labels or label)),
        "bbox": _value(row, used["bbox"]),
        "image_id": str(number if image_id is None else image_id),
    }
