"""Writes a dataset as Parquet shards in the row schema, resumably, with a dataset card."""

import hashlib
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from ..hub import push_files
from .archives import decode_text, fingerprint, parse_json
from .tokenization import split_words
from .transforms import BrokenRowError, decode_image

logger = logging.getLogger(__name__)
FEWEST_HELD_OUT = 2  # rows that an evaluation needs, which tells one image from another
GROUP = 100  # rows of one Parquet row group
MANIFEST = "manifest.json"
SHARDS = "{}-?????-of-?????.parquet"  # of one split: `train-*` would take in those of `train-val`
WORK = ".work"
UNPUBLISHED = "user/name"  # what the card says in place of the repository's name until there is one
FOREIGN = "was not made by this preparation; give another --output, or move it away"
MADE_BY = b"t2i_supcon.prepared"  # in a shard's metadata: the digest of the options that made it


@dataclass
class Source:
    """A dataset before it is written.

    Attributes:
        title, licence, split: for the card; `split` says where the split comes from.
        label_names: by class id.
        rows: rows of the schema by split, with `file` in the place of `image`; see `make_row`.
        read: gives the encoded image of a `file`.
    """

    title: str
    licence: str
    split: str
    label_names: list[str]
    rows: dict[str, list[dict]]
    read: Callable[[str], bytes]


def make_row(
    file: str,
    captions: list[str],
    labels: list[int],
    label: int,
    image_id: str,
    source: str,
    bbox: list[float] | None = None,
) -> dict:
    """Makes a row to be written; captions without any word are left out and counted as `wordless`.

    Raises:
        BrokenRowError: no caption is left, or one is no Unicode text.
    """
    for caption in captions:
        try:
            caption.encode()
        except UnicodeEncodeError as error:  # half a character, as JSON may hold it
            raise BrokenRowError(f"{file}: the caption {caption[:80]!r} is no Unicode text ({error.reason})") from error
    captions = [caption.strip() for caption in captions if caption.strip()]
    worded = [caption for caption in captions if split_words(caption)]
    if not worded:
        raise BrokenRowError(f"{file}: it has no caption with a word of ASCII letters or digits; every image needs one")
    row = {"captions": worded, "label": label, "labels": labels, "bbox": bbox, "image_id": image_id, "source": source}
    return {"file": file, "wordless": len(captions) - len(worded), **row}


def check_label_names(names: list[str], where: str) -> list[str]:
    """Returns the names of labels, as they are.

    Raises:
        ValueError: a name that two labels have; `where` begins the message.
    """
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise ValueError(f"{where}: {count} labels are called {name!r}; give each a name of its own")
    return names


def log_unnamed(pictures: list[str], used: set[str], what: str) -> None:
    """Logs how many pictures are left out, since `what` does not name them."""
    left = [name for name in pictures if name not in used]
    if left:
        counts = (len(left), len(pictures))
        logger.warning("%d of %d images are left out, since %s does not name them: %s, ...", *counts, what, left[0])


def row_features(label_names: list[str]) -> datasets.Features:
    """The row schema."""
    return datasets.Features(
        {
            "image": datasets.Image(),
            "captions": datasets.List(datasets.Value("string")),
            "label": datasets.ClassLabel(names=label_names),
            "labels": datasets.List(datasets.Value("int64")),
            "bbox": datasets.List(datasets.Value("float32")),
            "image_id": datasets.Value("string"),
            "source": datasets.Value("string"),
        }
    )


def prepare(
    make_source: Callable[[Path], Source],
    output: Path,
    options: dict,
    seed: int = 0,
    resize: int | None = None,
    shard_rows: int = 1000,
):
    """Writes the shards, the card and, last, the manifest into `output`; goes on where a killed run
    stopped, does nothing when all is there. Every shard says in its metadata which options made
    it.

    Args:
        make_source: reads the source; gets a folder for temporary files.
        options: everything that decides the result; kept in the manifest and compared on the next
            run: files by name, size, beginning and end, folders by the names, sizes and times of
            the files in them.
        seed: of the order of the rows.
        resize: reduces larger images to this shorter side; None keeps the files' bytes.
        shard_rows: rows of one shard.

    Raises:
        ValueError: `output` holds data made with other options or by someone else, or is itself a
            folder to read.
        BrokenRowError: an image that cannot be decoded, or a box outside of it.
    """
    if shard_rows < 1 or (resize is not None and resize < 1):
        raise ValueError(f"shards of {shard_rows} rows and a shorter side of {resize} px: both need at least 1")
    if seed < 0:
        raise ValueError(f"the seed is {seed}; it must be at least 0")
    decisive = {key: value for key, value in options.items() if key not in ("output", "push_to_hub")}
    options = {key: _described(value, output) for key, value in decisive.items() if value is not None}
    digest = hashlib.sha1(json.dumps(options, sort_keys=True).encode()).hexdigest()
    manifest, started = output / MANIFEST, output / WORK / "options.json"
    for path in (manifest, started):
        if path.exists() and (found := _read_record(path)["options"]) != options:
            changed = sorted(key for key in found.keys() | options.keys() if found.get(key) != options.get(key))
            raise ValueError(
                f"{output} was begun with other options ({', '.join(changed)}); give another --output or "
                "remove the folder"
            )
    if not manifest.exists() and not started.exists():
        _check_unused(output)
    if manifest.exists() and all(_is_own(output / name, digest) for name in _read_record(manifest)["shards"]):
        shutil.rmtree(output / WORK, ignore_errors=True)  # of a run that was killed at the very end
        return
    started.parent.mkdir(parents=True, exist_ok=True)
    # what it leaves there is named by content: other options may follow until shards are written
    source = make_source(output / WORK)
    wordless = sum(row["wordless"] for rows in source.rows.values() for row in rows)
    if wordless:
        logger.warning("%d captions are left out, since they hold no word of ASCII letters or digits", wordless)
    _write_text(started, json.dumps({"options": options}))
    schema = row_features(source.label_names).arrow_schema
    schema = schema.with_metadata({**schema.metadata, MADE_BY: digest})
    shards = {split: _shard_names(split, -(-len(rows) // shard_rows)) for split, rows in source.rows.items()}
    names = [name for split in shards for name in shards[split]]
    foreign = sorted({path.name for path in output.glob("*.parquet")} - set(names))
    if foreign:
        raise ValueError(f"{output / foreign[0]} {FOREIGN}")
    for number, (split, rows) in enumerate(source.rows.items()):
        order = np.random.default_rng([seed, number]).permutation(len(rows))
        with tqdm(total=len(rows), desc=split, unit="rows") as bar:
            for shard, name in enumerate(shards[split]):
                part = [rows[i] for i in order[shard * shard_rows : (shard + 1) * shard_rows]]
                if _is_own(output / name, digest):
                    bar.update(len(part))
                else:
                    _write_shard(output / name, part, source.read, schema, resize, bar)
    _write_text(output / "README.md", _card(source, seed, resize))
    sizes = {split: len(rows) for split, rows in source.rows.items()}
    _write_text(manifest, json.dumps({"options": options, "rows": sizes, "shards": names}, indent=1))
    shutil.rmtree(output / WORK)


def _described(value: object, output: Path) -> object:
    if isinstance(value, list):
        return [_described(item, output) for item in value]
    if not isinstance(value, Path):
        return value
    path, target = Path(os.path.realpath(value)), Path(os.path.realpath(output))
    if path == target:
        raise ValueError(f"{output}: it is read and cannot be written to; give another --output")
    return [value.name, fingerprint(path, target)] if value.exists() else [value.name]


def _shard_names(split: str, count: int) -> list[str]:
    return [f"{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]


def _read_record(path: Path) -> dict:
    """What a preparation wrote about itself."""
    record = parse_json(decode_text(path.read_bytes(), path), path)
    if not isinstance(record, dict) or not isinstance(record.get("options"), dict):
        raise ValueError(f"{path}: no preparation wrote this file; give another --output")
    return record


def _check_unused(output: Path) -> None:
    """Refuses to begin where files lie that would be taken for, or replaced by, those to write."""
    for path in sorted(output.glob("*.parquet")) + [output / "README.md"]:
        if path.exists():
            raise ValueError(f"{path} {FOREIGN}")


def _is_own(shard: Path, digest: str) -> bool:
    """Whether a shard is there and was made with the options of this digest.

    Raises:
        ValueError: it is there and was not.
    """
    if not shard.exists():
        return False
    try:
        made_by = pq.read_schema(shard).metadata.get(MADE_BY)
    except (OSError, ValueError, AttributeError):  # no Parquet file, or one without any metadata
        made_by = None
    if made_by != digest.encode():
        raise ValueError(f"{shard} {FOREIGN}")
    return True


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _write_shard(
    path: Path,
    rows: list[dict],
    read: Callable[[str], bytes],
    schema: pa.Schema,
    resize: int | None,
    bar: tqdm,
) -> None:
    partial = path.with_name(path.name + ".partial")
    # a dictionary would cost images half the reading speed
    with pq.ParquetWriter(partial, schema, use_dictionary=False) as writer:
        for start in range(0, len(rows), GROUP):
            group = []
            for row in rows[start : start + GROUP]:
                group.append(_with_image(row, read(row["file"]), resize))
                bar.update()
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    partial.replace(path)


def _with_image(row: dict, data: bytes, resize: int | None) -> dict:
    where, bbox = f"{row['file']} (row {row['image_id']})", row["bbox"]
    image = decode_image({"bytes": data, "path": None}, where)
    if bbox and not (-bbox[2] < bbox[0] < image.width and -bbox[3] < bbox[1] < image.height):
        raise BrokenRowError(
            f"{where}: its box {bbox} (x, y, width, height) lies outside the image of {image.width} x {image.height} px"
        )
    if resize is not None and min(image.size) > resize:
        scale = resize / min(image.size)
        file = io.BytesIO()
        png = Image.open(io.BytesIO(data)).format == "PNG"
        size = [max(resize, round(side * scale)) for side in image.size]
        image.resize(size, Image.Resampling.LANCZOS).save(
            file, "PNG" if png else "JPEG", **({} if png else {"quality": 95})
        )
        data, bbox = file.getvalue(), bbox and [value * scale for value in bbox]
    return {
        "image": {"bytes": data, "path": row["file"].rsplit("/", 1)[-1]},
        **{key: row[key] for key in row if key not in ("file", "wordless")},
        "bbox": bbox,
    }


def _card(source: Source, seed: int, resize: int | None) -> str:
    lines = [
        "---",
        "license: other",
        "license_name: see-the-card",
        f"pretty_name: {json.dumps(source.title, ensure_ascii=False)}",
        "task_categories: [text-to-image]",
        "tags: [t2i_supcon]",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    lines += [f'  - {{split: {split}, path: "{SHARDS.format(split)}"}}' for split in source.rows]
    lines += ["---", f"# {source.title}", "", f"- Licence: {source.licence}", f"- Split: {source.split}"]
    for split, rows in source.rows.items():
        free = Counter(row["label"] < 0 for row in rows)[True]
        lines.append(
            f"- `{split}`: {len(rows)} rows, {sum(len(row['captions']) for row in rows)} captions, {free} "
            "rows without a label"
        )
    lines += [
        f"- Rows shuffled once with seed {seed}",
        f"- Images: {f'shorter side at most {resize} px' if resize else 'the bytes of the original files'}",
        "- A row: `image`, `captions`, `label` (negative = none), `labels` (all of its own), `bbox` (x, y, width, "
        "height) or null, `image_id`, `source`",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'rows = load_dataset("{UNPUBLISHED}", split="{next(iter(source.rows))}")',
        "```",
        "",
        f"To train on it with the package `t2i_supcon`: `data.name: {UNPUBLISHED}` in a recipe.",
    ]
    lines += [
        "",
        f"{len(source.label_names)} labels, by id:",
        "",
        ", ".join(f"{i} {name}" for i, name in enumerate(source.label_names)),
        "",
    ]
    return "\n".join(lines)


def push_shards(output: Path, repository: str, private: bool | None = None, tag: str | None = None) -> str:
    """Publishes a prepared folder as a dataset repository of the Hub, in one commit; shards there
    of an earlier upload are replaced. Returns the commit's id.

    Raises:
        OSError: the Hub cannot be reached or refuses; the folder stays whole.
        ValueError: a tag that is there already.
    """
    record = _read_record(output / MANIFEST)
    files = {name: output / name for name in (*record["shards"], MANIFEST)}
    card = (output / "README.md").read_text(encoding="utf-8").replace(UNPUBLISHED, repository)
    files["README.md"] = card.encode()
    advice = f"the data is whole in {output}, and the same command goes on from there"
    return push_files(files, repository, "dataset", private=private, tag=tag, message="Upload data", advice=advice)
