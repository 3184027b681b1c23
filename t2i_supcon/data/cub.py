"""CUB-200-2011 birds from the official archive and ten captions an image."""

from pathlib import Path

from .archives import BrokenArchiveError, Files, read_plain_pickle
from .shards import Source, make_row

LISTS = ("images", "image_class_labels", "classes", "train_test_split", "bounding_boxes")
GAN_SPLIT = "the class-disjoint split of the text-to-image GAN papers (filenames.pickle)"


def read_cub(images: Path, captions: Path, work: Path, split: str = "gan", filenames: dict[str, Path | None] | None = None) -> Source:
    """Reads CUB.

    Args:
        images: `CUB_200_2011.tgz`, or the folder it unpacks to.
        captions: archive or folder with `text/<class>/<image>.txt`, one caption a line.
        work: folder for temporary files.
        split: "gan", the class-disjoint split of `filenames.pickle`, or "official", that of `train_test_split.txt`.
        filenames: the pickles of the split by "train" and "test"; by default those in the captions archive.

    Raises:
        ValueError: files that are missing or do not fit together.
    """
    archive = Files(images, work)
    root = next((name.removesuffix("images.txt") for name in archive.names if name.rsplit("/", 1)[-1] == "images.txt"), None)
    if root is None:
        raise BrokenArchiveError(f"{images}: images.txt is missing; give CUB_200_2011.tgz as it was downloaded")
    tables = {part: _read_table(archive, f"{root}{part}.txt") for part in LISTS}
    texts = Files(captions, work)
    keys = {number: row[0].removesuffix(".jpg") for number, row in tables["images"].items()}
    if split == "official":
        of = {keys[number]: "train" if row[0] == "1" else "test" for number, row in tables["train_test_split"].items()}
    else:
        of = _gan_split(texts, filenames or {}, set(keys.values()))
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
            raise ValueError(f"{file}: image_class_labels.txt gives it the class {tables['image_class_labels'][number][0]}, which classes.txt lacks")
        bbox = [float(value) for value in _entry(tables, "bounding_boxes", number, file)]
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
    return {words[0]: words[1:] for line in archive.read(name).decode().splitlines() if len(words := line.split()) > 1}


def _entry(tables: dict, part: str, number: str, file: str) -> list[str]:
    if number not in tables[part]:
        raise ValueError(f"{file}: image {number} is missing in {part}.txt")
    return tables[part][number]


def _caption_files(texts: Files) -> dict[str, tuple[Files, str]]:
    """Where the captions of `<class>/<image>` lie; the original birds.zip packs them once more, in text.zip."""
    inner = [texts.inner(name) for name in texts.names if name.rsplit("/", 1)[-1] == "text.zip"]
    every = [(files, name) for files in (*inner, texts) for name in files.names if name.endswith(".txt") and "__MACOSX" not in name]
    return {"/".join(name.removesuffix(".txt").split("/")[-2:]): (files, name) for files, name in every}


def _gan_split(texts: Files, filenames: dict[str, Path | None], keys: set[str]) -> dict[str, str]:
    of = {}
    for split in ("train", "test"):
        where, inside = filenames.get(split), [name for name in texts.names if f"/{name}".endswith(f"/{split}/filenames.pickle")]
        if where is None and not inside:
            raise FileNotFoundError(
                f"{texts.path}: {split}/filenames.pickle is missing, which lists the {split} images of the GAN papers' split; "
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
