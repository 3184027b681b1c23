"""COCO 2014 from the official archives, with one label an image by a stated rule and all of them
beside it."""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

from .archives import Files
from .shards import Source, make_row

HELP = "photographs of everyday things: COCO 2014, with five captions an image"
SPLITS = {"train": "train2014", "test": "val2014"}
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
    archives = [Files(path, work) for path in images]
    found = {
        name.rsplit("/", 1)[-1]: (archive, name)
        for archive in archives
        for name in archive.names
        if name.endswith(".jpg")
    }
    texts = Files(annotations, work)
    captions, instances = (
        {split: _read_json(texts, f"{kind}_{part}.json", FIELDS[kind]) for split, part in SPLITS.items()}
        for kind in ("captions", "instances")
    )
    for split, part in SPLITS.items():
        _check_images(captions[split]["images"], captions[split]["annotations"], f"{annotations}: captions_{part}.json")
        _check_images(
            captions[split]["images"], instances[split]["annotations"], f"{annotations}: instances_{part}.json"
        )
    names = {
        category["id"]: category["name"]
        for category in sorted(instances["train"]["categories"], key=lambda category: category["id"])
    }
    ids = {category: number for number, category in enumerate(names)}
    areas = {
        split: _areas(instances[split]["annotations"], ids, f"{annotations}: instances_{SPLITS[split]}.json")
        for split in SPLITS
    }
    common = Counter(label for objects in areas["train"].values() for label in objects)
    rows = {split: [] for split in SPLITS}
    for split in SPLITS:
        of_image = defaultdict(list)
        for caption in captions[split]["annotations"]:
            of_image[caption["image_id"]].append(caption["caption"])
        for image in captions[split]["images"]:
            name, objects = image["file_name"], areas[split].get(image["id"], {})
            if name not in found:
                raise FileNotFoundError(
                    f"{', '.join(map(str, images))}: the image {name} of captions_{SPLITS[split]}.json is missing"
                )
            rows[split].append(
                make_row(
                    name,
                    of_image[image["id"]],
                    sorted(objects),
                    pick_label(objects, label_rule, common),
                    name[:-4],
                    "COCO 2014",
                )
            )
    return Source(
        title="COCO 2014 with captions and labels",
        licence="annotations CC BY 4.0 (COCO Consortium); images under the terms of Flickr, each with a "
        "licence of its own",
        split=f"the official one, train2014 and val2014 (as test); one label an image by the rule "
        f"`{label_rule}`, all of them in `labels`",
        label_names=list(names.values()),
        rows=rows,
        read=lambda name: found[name][0].read(found[name][1]),
    )


def pick_label(objects: dict[int, list[float]], rule: str, common: Counter) -> int:
    """The one label of an image, -1 without objects.

    Args:
        objects: areas of the objects of each label.
        rule: see `read_coco`.
        common: number of training images by label.
    """
    score = {
        "largest": lambda label: sum(objects[label]),
        "most_frequent": lambda label: len(objects[label]),
        "rarest": lambda label: -common[label],
    }[rule]
    return max(sorted(objects), key=score, default=-1)


def _areas(annotations: list[dict], ids: dict[int, int], where: str) -> dict[int, dict[int, list[float]]]:
    areas = defaultdict(lambda: defaultdict(list))
    for annotation in annotations:
        if annotation["category_id"] not in ids:
            raise ValueError(
                f"{where}: annotation {annotation['id']} has the unknown category {annotation['category_id']}"
            )
        areas[annotation["image_id"]][ids[annotation["category_id"]]].append(annotation["area"])
    return areas


def _check_images(images: list[dict], annotations: list[dict], where: str) -> None:
    for key in ("id", "file_name"):
        value, count = Counter(image[key] for image in images).most_common(1)[0] if images else (None, 0)
        if count > 1:
            raise ValueError(f"{where}: the images with the {key} {value!r} are {count}; give each once")
    known = {image["id"] for image in images}
    for annotation in annotations:
        if annotation["image_id"] not in known:
            raise ValueError(f"{where}: annotation {annotation['id']} is of the unknown image {annotation['image_id']}")


def _read_json(texts: Files, name: str, fields: dict[str, dict[str, type]]) -> dict[str, list[dict]]:
    """The lists of a JSON file, whose entries have the stated fields."""
    inside = [found for found in texts.names if found.rsplit("/", 1)[-1] == name]
    if not inside:
        raise FileNotFoundError(
            f"{texts.path}: {name} is missing; give annotations_trainval2014.zip as it was downloaded"
        )
    where = f"{texts.path}: {inside[0]}"
    try:  # outlines are most of the file; they are dropped object by object
        content = json.loads(
            texts.read(inside[0]),
            object_hook=lambda entry: {key: value for key, value in entry.items() if key != "segmentation"},
        )
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error})") from error
    for part, types in fields.items():
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(f"{where}: the list {part!r} is missing")
        for number, entry in enumerate(content[part], 1):
            wrong = [
                key
                for key, kind in types.items()
                if not isinstance(entry, dict) or not isinstance(entry.get(key), kind)
            ]
            if wrong:
                raise ValueError(
                    f"{where}: entry {number} of {part!r} has no {wrong[0]!r} of the right type: {str(entry)[:100]}"
                )
    return content
