"""CUB-200-2011 birds from the official archive and ten captions an image."""

import argparse
import logging
import math
from collections import Counter
from pathlib import Path

from .archives import BrokenArchiveError, Files, read_plain_pickle
from .shards import Source, make_row

HELP = "birds: CUB-200-2011, with ten captions an image"
logger = logging.getLogger(__name__)
LISTS = ("images", "image_class_labels", "classes", "train_test_split", "bounding_boxes")
GAN_SPLIT = "the class-disjoint split of the text-to-image GAN papers (filenames.pickle)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of CUB."""
    parser.add_argument("--images", type=Path, required=True, help="CUB_200_2011.tgz")
    parser.add_argument(
        "--captions", type=Path, required=True, help="archive or folder with text/<class>/<image>.txt, e.g. birds.zip"
    )
    parser.add_argument(
        "--split",
        choices=["gan", "official"],
        default="gan",
        help="gan: the GAN papers' class-disjoint split (default)",
    )
    for split in ("train", "test"):
        parser.add_argument(
            f"--filenames-{split}",
            type=Path,
            help=f"{split}/filenames.pickle of the gan split, if not in the captions archive",
        )


def read(options: argparse.Namespace, work: Path) -> Source:
    """Reads CUB as the options say."""
    filenames = {"train": options.filenames_train, "test": options.filenames_test}
    return read_cub(options.images, options.captions, work, options.split, filenames)


def read_cub(
    images: Path, captions: Path, work: Path, split: str = "gan", filenames: dict[str, Path | None] | None = None
) -> Source:
    """Reads CUB. Images that the split does not name are left out, and counted in the log.

    Args:
        images: `CUB_200_2011.tgz`, or the folder it unpacks to.
        captions: archive or folder with `text/<class>/<image>.txt`, one caption a line.
        work: folder for temporary files.
        split: "gan", the class-disjoint split of `filenames.pickle`, or "official", that of
            `train_test_split.txt`.
        filenames: the pickles of the split by "train" and "test"; by default those in the captions
            archive.

    Raises:
        ValueError: files that are missing or do not fit together.
    """
    archive = Files(images, work)
    root = next(
        (name.removesuffix("images.txt") for name in archive.names if name.rsplit("/", 1)[-1] == "images.txt"), None
    )
    if root is None:
        raise BrokenArchiveError(f"{images}: images.txt is missing; give CUB_200_2011.tgz as it was downloaded")
    tables = {part: _read_table(archive, f"{root}{part}.txt") for part in LISTS}
    texts = Files(captions, work)
    keys = {number: row[0].removesuffix(".jpg") for number, row in tables["images"].items()}
    of = _official_split(tables) if split == "official" else _gan_split(texts, filenames or {}, set(keys.values()))
    _check_images(archive, root, tables, of)
    found = _caption_files(texts)
    class_ids = {number: i for i, number in enumerate(tables["classes"])}
    rows = {"train": [], "test": []}
    for number, key in keys.items():
        if key not in of:
            continue
        file = f"{root}images/{key}.jpg"
        if key not in found:
            raise FileNotFoundError(f"{captions}: the captions {key}.txt of {file} are missing")
        lines = found[key][0].read(found[key][1]).decode("utf-8", "replace").splitlines()
        label = class_ids.get(_entry(tables, "image_class_labels", number, file)[0])
        if label is None:
            raise ValueError(
                f"{file}: image_class_labels.txt gives it the class "
                f"{tables['image_class_labels'][number][0]}, which classes.txt lacks"
            )
        bbox = _read_box(
            _entry(tables, "bounding_boxes", number, file), f"{images}: bounding_boxes.txt: image {number} ({file})"
        )
        rows[of[key]].append(make_row(file, lines, [label], label, key, "CUB-200-2011", bbox))
    return Source(
        title="CUB-200-2011 with captions",
        licence="images for non-commercial research only (Caltech-UCSD Birds-200-2011); captions by Reed et al. (2016)",
        split=GAN_SPLIT if split == "gan" else "the official one (train_test_split.txt)",
        label_names=[row[0] for row in tables["classes"].values()],
        rows=rows,
        read=archive.read,
    )


def _read_table(archive: Files, name: str) -> dict[str, list[str]]:
    """Lines `number value ...` by number."""
    table = {}
    for line in archive.read(name).decode().splitlines():
        number, *values = line.split() or [""]
        if number in table:
            raise ValueError(f"{archive.path}: {name} has two lines {number}")
        if values:
            table[number] = values
    return table


def _entry(tables: dict, part: str, number: str, file: str) -> list[str]:
    if number not in tables[part]:
        raise ValueError(f"{file}: image {number} is missing in {part}.txt")
    return tables[part][number]


def _check_images(archive: Files, root: str, tables: dict, of: dict[str, str]) -> None:
    """Compares the lists with each other and with the files; logs how many images are in no
    split."""
    present = {
        name
        for name in archive.names
        if name.startswith(f"{root}images/") and name.endswith(".jpg") and "/._" not in name
    }
    listed = Counter(f"{root}images/{row[0]}" for row in tables["images"].values())
    for file, count in listed.items():
        if count > 1:
            raise ValueError(f"{archive.path}: images.txt lists {file} twice")
        if file not in present:
            raise FileNotFoundError(f"{archive.path}: {file} is missing, which images.txt lists")
    for part in ("image_class_labels", "train_test_split", "bounding_boxes"):
        for number in tables[part]:
            if number not in tables["images"]:
                raise ValueError(f"{archive.path}: {part}.txt lists the image {number}, which images.txt lacks")
    left = sorted(present - {f"{root}images/{key}.jpg" for key in of})
    if left:
        logger.warning(
            "%d of %d images are left out, since the split does not name them: %s, ...",
            len(left),
            len(present),
            left[0],
        )


def _read_box(words: list[str], where: str) -> list[float]:
    """x, y, width and height."""
    try:
        x, y, width, height = map(float, words)
    except ValueError as error:
        raise ValueError(f"{where}: the box {' '.join(words)!r} is not four numbers x, y, width, height") from error
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise ValueError(f"{where}: the box {' '.join(words)!r} has no area")
    return [x, y, width, height]


def _official_split(tables: dict) -> dict[str, str]:
    of = {}
    for number, (file, *_) in tables["images"].items():
        side = _entry(tables, "train_test_split", number, file)[0]
        if side not in ("0", "1"):
            raise ValueError(
                f"{file}: train_test_split.txt gives image {number} the side {side!r}, which is neither 0 nor 1"
            )
        of[file.removesuffix(".jpg")] = "train" if side == "1" else "test"
    return of


def _caption_files(texts: Files) -> dict[str, tuple[Files, str]]:
    """Where the captions of `<class>/<image>` lie; the original birds.zip packs them once more, in
    text.zip."""
    inner = [texts.inner(name) for name in texts.names if name.rsplit("/", 1)[-1] == "text.zip"]
    every = [
        (files, name)
        for files in (*inner, texts)
        for name in files.names
        if name.endswith(".txt") and "__MACOSX" not in name
    ]
    return {"/".join(name.removesuffix(".txt").split("/")[-2:]): (files, name) for files, name in every}


def _gan_split(texts: Files, filenames: dict[str, Path | None], keys: set[str]) -> dict[str, str]:
    of = {}
    for split in ("train", "test"):
        where, inside = (
            filenames.get(split),
            [name for name in texts.names if f"/{name}".endswith(f"/{split}/filenames.pickle")],
        )
        if where is None and not inside:
            raise FileNotFoundError(
                f"{texts.path}: {split}/filenames.pickle is missing, which lists the {split} images of the "
                "GAN papers' split; "
                f"give it with --filenames-{split}, or take the official split with --split official"
            )
        data = where.read_bytes() if where else texts.read(inside[0])
        listed = read_plain_pickle(data, where or f"{texts.path}/{inside[0]}")
        if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
            raise BrokenArchiveError(f"{where or inside[0]}: not a list of names")
        for key in listed:
            if key not in keys:
                raise ValueError(f"{where or inside[0]}: it lists {key!r}, which images.txt lacks")
            if of.setdefault(key, split) != split:
                raise ValueError(f"{where or inside[0]}: {key!r} is in both splits")
    return of
