"""Which data it is: short names of what it holds, by which it is known again wherever it lies, and
what a saved model was trained on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import datasets

from .cards import FACTS
from .data import Rows, evenly_spaced

HASHED_IMAGES = 256
HASHED_BYTES = 2**16  # at each end of a file
READ_AT_ONCE = 100  # images
NO_IMAGE = {"bytes": None, "path": None}


def content_hash(rows: Rows, files: Sequence[str] = ()) -> str:
    """Tells rows from others, wherever they lie: a short name of what they hold.

    It reads all captions, labels and boxes and `HASHED_IMAGES` images, evenly spaced; of a stream,
    the ends of its `files` or, without any, `HASHED_IMAGES` rows. Another image that it does not
    read leaves the name as it is; see `pictures_hash`.
    """
    digest = hashlib.sha256()
    boxes: Sequence = ()
    if isinstance(rows, datasets.IterableDataset):
        if files:
            some = []
            for file in files:
                digest.update(_ends(Path(file)))
        else:
            some = list(rows.take(HASHED_IMAGES))
            digest.update(repr([(row["captions"], row["label"]) for row in some]).encode())
            boxes = [row["bbox"] for row in some]
    else:
        some = rows.select(evenly_spaced(len(rows), HASHED_IMAGES))
        for column in ("captions", "label", "labels"):
            digest.update(repr(rows[column][:]).encode())
        boxes = rows["bbox"][:]
    if any(box is not None for box in boxes):  # they decide what of a picture is seen
        digest.update(repr(boxes).encode())
    for row in some:
        digest.update(_image_bytes(row["image"] or NO_IMAGE))
    return digest.hexdigest()[:16]


def pictures_hash(rows: datasets.Dataset) -> str:
    """A short name of all images of rows, which it reads as they are encoded."""
    digest = hashlib.sha256()
    for batch in rows.select_columns("image").with_format("arrow").iter(batch_size=READ_AT_ONCE):
        for image in batch["image"].to_pylist():
            content = _image_bytes(image or NO_IMAGE)
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()[:16]


def other_data(folder: str | Path, name: str) -> str | None:
    """The data that a saved model was trained on, where that is known and other than `name`.

    Args:
        folder: of the model, which may hold the facts of its training; or its name on the Hub,
            which tells nothing here.
        name: of data, as `load_rows` takes it.
    """
    facts = Path(folder) / FACTS
    if not facts.is_file():
        return None
    trained = json.loads(facts.read_text(encoding="utf-8")).get("data", {}).get("name")
    return None if trained is None or Path(trained).resolve() == Path(name).resolve() else trained


def _ends(file: Path) -> bytes:
    """Name, size, and the first and last `HASHED_BYTES` of a file.

    A Parquet file ends in statistics of all its columns.
    """
    size = file.stat().st_size
    with open(file, "rb") as content:
        first = content.read(HASHED_BYTES)
        content.seek(max(size - HASHED_BYTES, 0))
        return f"{file.name} {size} ".encode() + first + content.read()


def _image_bytes(image: dict) -> bytes:
    if image["bytes"] is not None:
        return image["bytes"]
    path = Path(str(image["path"]))
    return path.read_bytes() if path.is_file() else str(path).encode()
