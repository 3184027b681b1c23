"""COCO's official archives, drawn small, to batches a training step reads; and what is wrong with
broken ones."""

import json
import shutil

import pytest
from data.conftest import jpeg, training_batch, write_zip
from prepare_data import main

from t2i_supcon.data import load_rows


@pytest.fixture
def coco():
    """The two JSON files of each part of COCO 2014, five images each: the last one without
    objects."""
    files, categories = {}, [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    for part in ("train2014", "val2014"):
        images = [{"id": 10 + i, "file_name": f"COCO_{part}_{10 + i:012d}.jpg"} for i in range(5)]
        captions = [
            {"image_id": 10 + i, "id": 5 * i + k, "caption": f"a person and dog {i} seen {k} times"}
            for i in range(5)
            for k in range(5)
        ]
        boxes = [(10 + i, c, a) for i in range(4) for c, a in ((1, 30.0), (18, 20.0), (18, 5.0))] + [(10, 90, 1.5)]
        instances = [
            {"id": k, "image_id": i, "category_id": c, "area": a, "bbox": [0, 0, 5, 5], "segmentation": [[0, 0, 5, 5]]}
            for k, (i, c, a) in enumerate(boxes)
        ]
        files[f"annotations/captions_{part}.json"] = {"images": images, "annotations": captions}
        files[f"annotations/instances_{part}.json"] = {
            "images": images,
            "annotations": instances,
            "categories": categories,
        }
    return files


def prepare_coco(folder, coco, *more, missing=()):
    for part in ("train2014", "val2014"):
        names = [image["file_name"] for image in coco[f"annotations/captions_{part}.json"]["images"]]
        files = {f"{part}/{name}": jpeg(i) for i, name in enumerate(names) if name not in missing}
        write_zip(folder / f"{part}.zip", {**files, **{f"__MACOSX/{part}/._{name}": b"\0\5\26\7" for name in names}})
    annotations = write_zip(
        folder / "annotations_trainval2014.zip", {name: json.dumps(value) for name, value in coco.items()}
    )
    images = [str(folder / "train2014.zip"), str(folder / "val2014.zip")]
    main(["coco", "--images", *images, "--annotations", str(annotations), "--output", str(folder / "coco"), *more])
    return folder / "coco"


def test_coco_to_a_training_batch(tmp_path, coco):
    out = prepare_coco(tmp_path, coco)
    rows = load_rows(str(out), "train")
    assert len(rows) == len(load_rows(str(out), "test")) == 5 and rows.features["label"].names == [
        "person",
        "dog",
        "toothbrush",
    ]
    by_id = {row["image_id"]: row for row in rows}
    assert (
        by_id["COCO_train2014_000000000010"]["labels"] == [0, 1, 2]
        and len(by_id["COCO_train2014_000000000011"]["captions"]) == 5
    )
    assert by_id["COCO_train2014_000000000014"]["label"] == -1 and by_id["COCO_train2014_000000000014"]["labels"] == []
    assert all(row["bbox"] is None for row in rows)
    batch = training_batch(out, num_classes=3)
    assert batch.images[0].shape == (4, 3, 8, 8) and batch.labels.shape == (4, 3) and batch.labels.sum() > 0
    assert (
        "1 rows without a label" in (out / "README.md").read_text() and "`largest`" in (out / "README.md").read_text()
    )


@pytest.mark.parametrize(("rule", "expected"), [("largest", [0, 0]), ("most_frequent", [1, 1]), ("rarest", [2, 0])])
def test_label_rules(tmp_path, coco, rule, expected):
    by_id = {
        row["image_id"]: row["label"]
        for row in load_rows(str(prepare_coco(tmp_path, coco, "--label-rule", rule)), "train")
    }
    assert [by_id["COCO_train2014_000000000010"], by_id["COCO_train2014_000000000011"]] == expected


def test_the_areas_of_a_category_add_up(tmp_path, coco):
    """The person of 30 is the largest object; both dogs together are larger."""
    for entry in coco["annotations/instances_train2014.json"]["annotations"]:
        entry["area"] += 6.0 * (entry["category_id"] == 18)
    assert {row["label"] for row in load_rows(str(prepare_coco(tmp_path, coco)), "train") if row["labels"]} == {1}


def test_mistakes_in_coco_are_named(tmp_path, coco):
    with pytest.raises(
        SystemExit, match="error: .*the image COCO_val2014_000000000012.jpg of captions_val2014.json is missing"
    ):
        prepare_coco(tmp_path, coco, missing=["COCO_val2014_000000000012.jpg"])
    coco["annotations/instances_val2014.json"]["annotations"][3]["category_id"] = 91
    with pytest.raises(SystemExit, match="instances_val2014.json: annotation 3 has the unknown category 91"):
        prepare_coco(tmp_path, coco)
    coco["annotations/instances_val2014.json"]["annotations"][3]["category_id"] = 1
    del coco["annotations/captions_train2014.json"]["annotations"][:5]
    with pytest.raises(SystemExit, match="COCO_train2014_000000000010.jpg: it has no caption"):
        prepare_coco(tmp_path, coco)
    del coco["annotations/instances_val2014.json"]
    with pytest.raises(SystemExit, match="instances_val2014.json is missing"):
        prepare_coco(tmp_path, coco)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda captions, instances: instances.pop("categories"),
            "instances_train2014.json: the list 'categories' is missing",
        ),
        (
            lambda captions, instances: instances.pop("annotations"),
            "instances_train2014.json: the list 'annotations' is missing",
        ),
        (
            lambda captions, instances: captions.update(images={}),
            "captions_train2014.json: the list 'images' is missing",
        ),
        (
            lambda captions, instances: captions["annotations"][0].update(caption="a \ud800 cat"),
            "train2014/.*: the caption 'a .* cat' is no Unicode text",
        ),
        (
            lambda captions, instances: instances["annotations"][2].pop("area"),
            "instances_train2014.json: entry 3 of 'annotations' has no 'area'",
        ),
        (
            lambda captions, instances: captions["annotations"].append(7),
            "captions_train2014.json: entry 26 of 'annotations' has no 'id'",
        ),
        (
            lambda captions, instances: instances["annotations"][4].update(image_id=999),
            "instances_train2014.json: annotation 4 is of the unknown image 999",
        ),
        (
            lambda captions, instances: captions["annotations"][4].update(image_id=999),
            "captions_train2014.json: annotation 4 is of the unknown image 999",
        ),
        (
            lambda captions, instances: captions["images"].append({"id": 10, "file_name": "x.jpg"}),
            "the images with the id 10 are 2",
        ),
        (
            lambda captions, instances: captions["images"].append({**captions["images"][0], "id": 99}),
            "file_name 'COCO_.*10.jpg' are 2",
        ),
    ],
)
def test_lists_of_coco_that_do_not_fit_are_named(tmp_path, coco, change, message):
    change(coco["annotations/captions_train2014.json"], coco["annotations/instances_train2014.json"])
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        prepare_coco(tmp_path, coco)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, i: i["annotations"][2].update(area=float("nan")), "annotation 2 has the area nan; it must be"),
        (lambda c, i: i["annotations"][2].update(area=-1.0), "annotation 2 has the area -1.0; it must be"),
        (lambda c, i: i["annotations"][2].update(area=float("inf")), "annotation 2 has the area inf; it must be"),
        (lambda c, i: i["annotations"][2].update(area=10**400), "annotation 2 has the area 10+; it must be"),
        (lambda c, i: i["annotations"][2].update(id=1), "the annotations with the id 1 are 2; give each once"),
        (lambda c, i: i["annotations"][2].update(id=True), "entry 3 of 'annotations' has no 'id'"),
        (lambda c, i: c["annotations"][2].update(id=1), "the annotations with the id 1 are 2; give each once"),
        (lambda c, i: i["categories"][0].update(id=1), "the categories with the id 1 are 2; give each once"),
        (lambda c, i: i["categories"][0].update(name="dog"), "the categories with the name 'dog' are 2"),
        (
            lambda c, i: i.update(categories=[{"id": 18, "name": "cat"}]),
            "category 18 is 'dog', in the other file 'cat'",
        ),
    ],
)
def test_values_of_coco_that_decide_wrongly_are_named(tmp_path, coco, change, message):
    change(coco["annotations/captions_train2014.json"], coco["annotations/instances_train2014.json"])
    with pytest.raises(SystemExit, match=f"^error: .*_(train|val)2014.json: .*{message}"):
        prepare_coco(tmp_path, coco)


def test_pictures_of_one_name_in_both_parts_of_coco_are_told_apart(tmp_path, coco, caplog):
    for part in ("train2014", "val2014"):
        for number, image in enumerate(coco[f"annotations/captions_{part}.json"]["images"]):
            image["file_name"] = f"{number}.jpg"
        write_zip(tmp_path / f"{part}.zip", {f"{part}/{i}.JPG": jpeg(i + 10 * (part == "val2014")) for i in range(6)})
    annotations = write_zip(tmp_path / "a.zip", {name: json.dumps(value) for name, value in coco.items()})
    command = ["coco", "--annotations", str(annotations), "--output", str(tmp_path / "out"), "--images"]
    main([*command, str(tmp_path / "val2014.zip"), str(tmp_path / "train2014.zip")])
    for split, first in (("train", 0), ("test", 10)):
        rows = load_rows(str(tmp_path / "out"), split)
        assert {row["image_id"]: row["image"]["bytes"] for row in rows} == {str(i): jpeg(i + first) for i in range(5)}
    assert "1 of 6 images are left out" in caplog.text and "train2014/5.JPG" in caplog.text
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(SystemExit, match="the image 0.jpg of captions_val2014.json is missing"):
        main([*command, str(tmp_path / "train2014.zip")])
    for number, part in enumerate(("train2014", "val2014")):
        (tmp_path / part / part).mkdir(parents=True)
        (tmp_path / f"{part}.zip").rename(tmp_path / f"{number}.zip")
        write_zip(tmp_path / f"{number}.zip", {f"{i}.jpg": jpeg(i) for i in range(5)})
    with pytest.raises(SystemExit, match="0.jpg of captions_train2014.json may be .*0.zip/0.jpg or .*1.zip/0.jpg"):
        main([*command, str(tmp_path / "0.zip"), str(tmp_path / "1.zip")])
