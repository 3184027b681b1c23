"""CUB-200-2011 birds from the official archive and ten captions an image."""

import argparse
import math
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from .archives import BrokenArchiveError, Files, check_file, decode_text, read_plain_pickle
from .shards import Source, check_label_names, log_unnamed, make_row

HELP = "birds: CUB-200-2011, with ten captions an image"
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
    archive, texts = Files(images, work), Files(captions, work)
    root = _only(archive, "images.txt", "give CUB_200_2011.tgz as it was downloaded").removesuffix("images.txt")
    lists = {part: _read_list(archive, f"{root}{part}.txt") for part in LISTS}
    keys = {number: _key(file) for number, file in lists["images"].items()}
    if split == "official":
        split_of = _official_split(lists)
    else:
        split_of = _gan_split(texts, filenames or {}, set(keys.values()))
    pictures = _check_images(archive, root, lists, split_of)
    captions_of = _caption_files(texts)
    class_ids = {number: i for i, number in enumerate(lists["classes"])}
    rows = {"train": [], "test": []}
    for number, key in keys.items():
        if key not in split_of:
            continue
        file = pictures[number]
        class_number = _entry(lists, "image_class_labels", number, file)
        if class_number not in class_ids:
            raise ValueError(
                f"{file}: image_class_labels.txt gives it the class {class_number}, which classes.txt lacks"
            )
        where = f"{images}: bounding_boxes.txt: image {number} ({file})"
        bbox = _read_box(_entry(lists, "bounding_boxes", number, file), where)
        lines = _read_captions(captions_of.get(key, []), f"{captions}: the captions {key}.txt of {file}")
        label = class_ids[class_number]
        rows[split_of[key]].append(make_row(file, lines, [label], label, key, "CUB-200-2011", bbox))
    return Source(
        title="CUB-200-2011 with captions",
        licence="images for non-commercial research only (Caltech-UCSD Birds-200-2011); captions by Reed et al. (2016)",
        split=GAN_SPLIT if split == "gan" else "the official one (train_test_split.txt)",
        label_names=check_label_names(list(lists["classes"].values()), f"{images}: classes.txt"),
        rows=rows,
        read=archive.read,
    )


def _only(files: Files, name: str, remedy: str) -> str:
    """The path of the one file of this name."""
    found = [path for path in files.names if path.rsplit("/", 1)[-1] == name]
    if not found:
        raise BrokenArchiveError(f"{files.path}: {name} is missing; {remedy}")
    if len(found) > 1:
        raise BrokenArchiveError(f"{files.path}: it holds both {found[0]} and {found[1]}; {remedy}")
    return found[0]


def _key(file: str) -> str:
    """`<class>/<image>`, without the suffix."""
    return str(PurePosixPath(file).with_suffix(""))


def _read_list(archive: Files, name: str) -> dict[str, str]:
    """Lines `number value` by number; a value may hold spaces."""
    values = {}
    for line in decode_text(archive.read(name), f"{archive.path}: {name}").splitlines():
        number, *value = line.strip().split(maxsplit=1) or [""]
        if number in values:
            raise ValueError(f"{archive.path}: {name} has two lines {number}")
        if value:
            values[number] = value[0]
    return values


def _entry(lists: dict[str, dict[str, str]], part: str, number: str, file: str) -> str:
    if number not in lists[part]:
        raise ValueError(f"{file}: image {number} is missing in {part}.txt")
    return lists[part][number]


def _check_images(archive: Files, root: str, lists: dict, split_of: dict[str, str]) -> dict[str, str]:
    """Compares the lists with each other and with the files; logs how many pictures are in no
    split. Returns the file of each image number."""
    counts = Counter(map(_key, lists["images"].values()))
    for file in lists["images"].values():
        if counts[_key(file)] > 1:
            raise ValueError(f"{archive.path}: images.txt lists {root}images/{file} twice, or with two suffixes")
    pictures = {}
    for number, file in lists["images"].items():
        found = archive.find_picture(f"{root}images/{file}")
        if found is None:
            raise FileNotFoundError(f"{archive.path}: {root}images/{file} is missing, which images.txt lists")
        pictures[number] = found
    for part in ("image_class_labels", "train_test_split", "bounding_boxes"):
        for number in lists[part]:
            if number not in lists["images"]:
                raise ValueError(f"{archive.path}: {part}.txt lists the image {number}, which images.txt lacks")
    used = {pictures[number] for number, file in lists["images"].items() if _key(file) in split_of}
    log_unnamed([name for name in archive.pictures if name.startswith(f"{root}images/")], used, "the split")
    return pictures


def _read_box(text: str, where: str) -> list[float]:
    """x, y, width and height."""
    try:
        x, y, width, height = map(float, text.split())
    except ValueError as error:
        raise ValueError(f"{where}: the box {text!r} is not four numbers x, y, width, height") from error
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise ValueError(f"{where}: the box {text!r} has no area")
    return [x, y, width, height]


def _official_split(lists: dict[str, dict[str, str]]) -> dict[str, str]:
    split_of = {}
    for number, file in lists["images"].items():
        side = _entry(lists, "train_test_split", number, file)
        if side not in ("0", "1"):
            raise ValueError(
                f"{file}: train_test_split.txt gives image {number} the side {side!r}, which is neither 0 nor 1"
            )
        split_of[_key(file)] = "train" if side == "1" else "test"
    return split_of


def _caption_files(texts: Files) -> dict[str, list[tuple[Files, str]]]:
    """Where the captions of `<class>/<image>` lie; the original birds.zip packs them once more, in
    text.zip."""
    inner = [texts.inner(name) for name in texts.names if name.rsplit("/", 1)[-1] == "text.zip"]
    captions_of = defaultdict(list)
    for files in (*inner, texts):
        for name in files.names:
            if name.endswith(".txt") and "__MACOSX" not in name:
                captions_of["/".join(name.removesuffix(".txt").split("/")[-2:])].append((files, name))
    return captions_of


def _read_captions(places: list[tuple[Files, str]], what: str) -> list[str]:
    """The lines of a file that lies in one of several places, or in all of them alike."""
    texts = [files.read(name) for files, name in places]
    if not texts:
        raise FileNotFoundError(f"{what} are missing")
    if len(set(texts)) > 1:
        raise ValueError(f"{what} differ between {places[0][1]} and {places[1][1]}; keep one of them")
    return texts[0].decode("utf-8", "replace").splitlines()


def _gan_split(texts: Files, filenames: dict[str, Path | None], keys: set[str]) -> dict[str, str]:
    split_of = {}
    for split in ("train", "test"):
        given = filenames.get(split)
        inside = [name for name in texts.names if f"/{name}".endswith(f"/{split}/filenames.pickle")]
        if given is None and not inside:
            raise FileNotFoundError(
                f"{texts.path}: {split}/filenames.pickle is missing, which lists the {split} images of the GAN papers' "
                f"split; give it with --filenames-{split}, or take the official split with --split official"
            )
        if given is None and len(inside) > 1:
            raise ValueError(f"{texts.path}: it holds both {inside[0]} and {inside[1]}; give --filenames-{split}")
        where = given or f"{texts.path}/{inside[0]}"
        listed = read_plain_pickle(check_file(given).read_bytes() if given else texts.read(inside[0]), where)
        if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
            raise BrokenArchiveError(f"{where}: not a list of names")
        for key in listed:
            if key not in keys:
                raise ValueError(f"{where}: it lists {key!r}, which images.txt lacks")
            if split_of.setdefault(key, split) != split:
                raise ValueError(f"{where}: {key!r} is in both splits")
    return split_of
