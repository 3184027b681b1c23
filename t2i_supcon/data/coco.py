"""COCO 2014 from the official archives, with one label an image by a stated rule and all of them
beside it."""

import argparse
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from .archives import Files, decode_text, parse_json
from .shards import Source, log_unnamed, make_row

HELP = "photographs of everyday things: COCO 2014, with five captions an image"
SPLITS = {"train": "train2014", "test": "val2014"}
MAX_AREA = 1e12  # pixels; no image has as many
FIELDS = {  # of the lists in captions_*.json and instances_*.json, what every entry needs
    "captions": {"images": {"id": int, "file_name": str}, "annotations": {"id": int, "image_id": int, "caption": str}},
    "instances": {
        "categories": {"id": int, "name": str},
        "annotations": {"id": int, "image_id": int, "category_id": int, "area": (int, float)},
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of COCO."""
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="train2014.zip and val2014.zip")
    parser.add_argument("--annotations", type=Path, required=True, help="annotations_trainval2014.zip")
    parser.add_argument(
        "--label-rule",
        choices=["largest", "most_frequent", "rarest"],
        default="largest",
        help="which category is the label: the one that covers most of the image (largest, default), has the most "
        "objects in it, or is in the fewest training images",
    )


def read(options: argparse.Namespace, work: Path) -> Source:
    """Reads COCO as the options say."""
    return read_coco(options.images, options.annotations, work, options.label_rule)


def read_coco(images: list[Path], annotations: Path, work: Path, label_rule: str = "largest") -> Source:
    """Reads COCO: train2014 becomes the training split, val2014 the test split.

    Images without objects stay, unlabelled. Ties of a rule go to the category with the lowest id.

    Args:
        images: `train2014.zip` and `val2014.zip`, or folders.
        annotations: `annotations_trainval2014.zip`, or a folder.
        work: folder for temporary files.
        label_rule: "largest", the category whose objects together cover the largest area of the
            image; "most_frequent", the one with the most objects in the image; "rarest", the one in
            the fewest training images.

    Raises:
        ValueError: files that are missing or do not fit together.
    """
    archives, texts = [Files(path, work) for path in images], Files(annotations, work)
    captions, instances = (
        {split: _read_lists(texts, f"{kind}_{part}.json", FIELDS[kind]) for split, part in SPLITS.items()}
        for kind in ("captions", "instances")
    )
    names = _category_names(instances, annotations)
    ids = {category: number for number, category in enumerate(names)}
    areas = {}
    for split, part in SPLITS.items():
        listed, where = captions[split]["images"], f"{annotations}: captions_{part}.json"
        _check_images(listed, captions[split]["annotations"], where)
        _check_images(listed, instances[split]["annotations"], f"{annotations}: instances_{part}.json")
        areas[split] = _areas(instances[split]["annotations"], ids, f"{annotations}: instances_{part}.json")
    images_with = Counter(label for objects in areas["train"].values() for label in objects)
    rows, pictures, listed_as = {split: [] for split in SPLITS}, {}, {}
    for split, part in SPLITS.items():
        captions_of = defaultdict(list)
        for caption in captions[split]["annotations"]:
            captions_of[caption["image_id"]].append(caption["caption"])
        for image in captions[split]["images"]:
            listed, objects = image["file_name"], areas[split].get(image["id"], {})
            file = f"{part}/{listed}"
            archive, name = pictures[file] = _find_picture(archives, listed, part)
            first = listed_as.setdefault((archive.path, name), file)
            if first != file:
                raise ValueError(f"{annotations}: both {first} and {file} are the image {archive.path}/{name}")
            label, image_id = pick_label(objects, label_rule, images_with), str(PurePosixPath(listed).with_suffix(""))
            rows[split].append(make_row(file, captions_of[image["id"]], sorted(objects), label, image_id, "COCO 2014"))
    for archive in archives:
        used = {name for other, name in pictures.values() if other is archive}
        log_unnamed(archive.pictures, used, f"{annotations} (of {archive.path})")
    return Source(
        title="COCO 2014 with captions and labels",
        licence="annotations CC BY 4.0 (COCO Consortium); images under the terms of Flickr, each with a "
        "licence of its own",
        split=f"the official one, train2014 and val2014 (as test); one label an image by the rule "
        f"`{label_rule}`, all of them in `labels`",
        label_names=list(names.values()),
        rows=rows,
        read=lambda file: pictures[file][0].read(pictures[file][1]),
    )


def _find_picture(archives: list[Files], listed: str, part: str) -> tuple[Files, str]:
    """The archive and name of a part's picture. Both parts may hold one of the same name: the
    folder or the archive of the other part is then not looked into."""
    found = []
    for archive in archives:
        for name in archive.find_by_stem(listed):
            folders = {archive.path.name, archive.path.stem, *name.split("/")[:-1]}
            if part in folders or not folders & set(SPLITS.values()):
                found.append((archive, name))
    as_written = [place for place in found if f"/{place[1]}".endswith(f"/{listed}")]
    found = as_written or found
    where = ", ".join(str(archive.path) for archive in archives)
    if not found:
        raise FileNotFoundError(f"{where}: the image {listed} of captions_{part}.json is missing")
    if len(found) > 1:
        (first, one), (second, other) = found[:2]
        raise ValueError(
            f"{where}: the image {listed} of captions_{part}.json may be {first.path}/{one} or "
            f"{second.path}/{other}; name the folder or archive of each part after it: {', '.join(SPLITS.values())}"
        )
    return found[0]


def pick_label(objects: dict[int, list[float]], rule: str, images_with: Counter) -> int:
    """The one label of an image, -1 without objects.

    Args:
        objects: areas of the objects of each label.
        rule: see `read_coco`.
        images_with: number of training images by label.
    """
    score = {
        "largest": lambda label: sum(objects[label]),
        "most_frequent": lambda label: len(objects[label]),
        "rarest": lambda label: -images_with[label],
    }[rule]
    return max(sorted(objects), key=score, default=-1)


def _category_names(instances: dict[str, dict[str, list[dict]]], annotations: Path) -> dict[int, str]:
    """The names of the categories by id, in the order of the ids; both files must agree."""
    names = {}
    for split, part in SPLITS.items():
        where = f"{annotations}: instances_{part}.json"
        check_unique(instances[split]["categories"], "id", f"{where}: the categories")
        check_unique(instances[split]["categories"], "name", f"{where}: the categories")
        for category in instances[split]["categories"]:
            name = names.setdefault(category["id"], category["name"])
            if name != category["name"]:
                raise ValueError(
                    f"{where}: category {category['id']} is {category['name']!r}, in the other file {name!r}"
                )
    return dict(sorted(names.items()))


def _areas(annotations: list[dict], ids: dict[int, int], where: str) -> dict[int, dict[int, list[float]]]:
    """The areas of the objects of each image (by id) and label."""
    areas = defaultdict(lambda: defaultdict(list))
    for annotation in annotations:
        category, area = annotation["category_id"], annotation["area"]
        if category not in ids:
            raise ValueError(f"{where}: annotation {annotation['id']} has the unknown category {category}")
        if not 0 <= area < MAX_AREA:
            raise ValueError(
                f"{where}: annotation {annotation['id']} has the area {area!r:.40}; it must be a number of pixels, 0 "
                "or more"
            )
        areas[annotation["image_id"]][ids[category]].append(area)
    return areas


def _check_images(images: list[dict], annotations: list[dict], where: str) -> None:
    """Refuses images and annotations that are listed twice, and annotations of other images."""
    for key in ("id", "file_name"):
        check_unique(images, key, f"{where}: the images")
    check_unique(annotations, "id", f"{where}: the annotations")
    known = {image["id"] for image in images}
    for annotation in annotations:
        if annotation["image_id"] not in known:
            raise ValueError(f"{where}: annotation {annotation['id']} is of the unknown image {annotation['image_id']}")


def check_unique(entries: list[dict], key: str, what: str) -> None:
    """Refuses two entries that have the same value of `key`; `what` begins the message."""
    for value, count in Counter(entry[key] for entry in entries).most_common(1):
        if count > 1:
            raise ValueError(f"{what} with the {key} {value!r} are {count}; give each once")


def _read_lists(texts: Files, name: str, fields: dict[str, dict[str, type]]) -> dict[str, list[dict]]:
    """The lists of a JSON file, whose entries have the stated fields."""
    inside = [found for found in texts.names if found.rsplit("/", 1)[-1] == name]
    remedy = "give annotations_trainval2014.zip as it was downloaded"
    if not inside:
        raise FileNotFoundError(f"{texts.path}: {name} is missing; {remedy}")
    if len(inside) > 1:
        raise ValueError(f"{texts.path}: it holds both {inside[0]} and {inside[1]}; {remedy}")
    where = f"{texts.path}: {inside[0]}"
    # outlines are most of the file; they are dropped object by object
    content = parse_json(
        decode_text(texts.read(inside[0]), where),
        where,
        lambda pairs: {key: value for key, value in pairs if key != "segmentation"},
    )
    for part, types in fields.items():
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(f"{where}: the list {part!r} is missing")
        for number, entry in enumerate(content[part], 1):
            wrong = [key for key, kind in types.items() if not _is_a(kind, entry, key)]
            if wrong:
                raise ValueError(
                    f"{where}: entry {number} of {part!r} has no {wrong[0]!r} of the right type: {str(entry)[:100]}"
                )
    return content


def _is_a(kind: type | tuple[type, ...], entry: object, key: str) -> bool:
    value = entry.get(key) if isinstance(entry, dict) else None
    return isinstance(value, kind) and not isinstance(value, bool)
