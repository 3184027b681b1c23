"""Datasets with columns of their own, in the row schema."""

import json
from functools import partial

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import picture, write_dataset

from t2i_supcon.data import BrokenRowError, Columns, check_captions, load_rows
from t2i_supcon.data.shards import row_features


def write(folder, columns, features=None):
    folder.mkdir()
    n = len(next(iter(columns.values())))
    data = datasets.Dataset.from_dict({"photo": [picture(i) for i in range(n)], **columns}).cast_column(
        "photo", datasets.Image()
    )
    for name, feature in (features or {}).items():
        data = data.cast_column(name, feature)
    for split in ("train", "test"):
        data.to_parquet(folder / f"{split}-0.parquet")
    return str(folder)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("kind", "expected", "names"),
    [
        (["cat", "ant", None, "cat"], [1, 0, -1, 1], ["ant", "cat"]),
        ([10, 2, -1, 10], [1, 0, -1, 1], ["2", "10"]),
        ("class", [1, 0, 2, 1], ["b", "a", "10"]),
    ],
)
def test_labels_of_any_kind_become_ids(tmp_path, streaming, kind, expected, names):
    labels = [1, 0, 2, 1] if kind == "class" else kind
    features = {"kind": datasets.ClassLabel(names=names)} if kind == "class" else None
    name = write(tmp_path / "d", {"text": ["one", "two", "three", "four"], "kind": labels}, features)
    rows = load_rows(name, "train", columns=Columns(image="photo", captions="text", label="kind"), streaming=streaming)
    found = list(rows)
    assert [row["label"] for row in found] == expected and rows.features["label"].names == names
    assert [row["labels"] for row in found] == [[label] if label >= 0 else [] for label in expected]
    assert [row["captions"] for row in found] == [["one"], ["two"], ["three"], ["four"]]
    assert found[2]["image"]["bytes"] and found[2]["bbox"] is None and set(found[0]) == set(rows.features)


@pytest.mark.parametrize("streaming", [False, True])
def test_one_id_is_the_same_label_in_two_splits(tmp_path, streaming):
    name = write(tmp_path / "d", {"text": ["one", "two", "three"], "kind": ["b", "a", "c"]})
    columns = Columns(image="photo", captions="text", label="kind")
    rows = load_rows(name, "train", columns=columns, streaming=streaming, label_names=["x", "c", "b"])
    assert rows.features["label"].names == ["x", "c", "b", "a"] and [row["label"] for row in rows] == [2, 3, 1]


@pytest.mark.parametrize("streaming", [False, True])
def test_one_id_is_the_same_label_in_splits_that_number_them_otherwise(tmp_path, streaming):
    kind = datasets.ClassLabel(names=["green", "white"])
    name = write(tmp_path / "d", {"text": ["one", "two", "three"], "kind": [1, 0, 1]}, {"kind": kind})
    columns = Columns(image="photo", captions="text", label="kind")
    load = partial(load_rows, name, "train", columns=columns, streaming=streaming)
    for label_names, expected, ids in (
        (["blue", "green", "red", "white"], ["blue", "green", "red", "white"], [3, 1, 3]),
        (["blue", "white"], ["blue", "white", "green"], [1, 2, 1]),
        (["green", "white"], ["green", "white"], [1, 0, 1]),
    ):
        rows = load(label_names=label_names)
        assert rows.features["label"].names == expected and [row["label"] for row in rows] == ids
        assert [row["labels"] for row in rows] == [[label] for label in ids]
    prepared = str(write_dataset(tmp_path / "prepared", [0, 1, 1]))
    rows = load_rows(prepared, "train", streaming=streaming, label_names=["class 1", "class 0"])
    assert [row["label"] for row in rows] == [1, 0, 0] and [row["labels"] for row in rows] == [[1], [0], [0]]


@pytest.mark.parametrize("streaming", [False, True])
def test_labels_inside_a_column_and_several_captions(tmp_path, streaming):
    objects = [{"category": [2, 0], "area": [1, 2]}, {"category": [], "area": []}, {"category": [1, 1], "area": [3, 4]}]
    features = {
        "objects": {
            "category": datasets.List(datasets.ClassLabel(names=["cat", "dog", "ant"])),
            "area": datasets.List(datasets.Value("int64")),
        }
    }
    name = write(tmp_path / "d", {"texts": [["a", "b"], ["c"], ["d"]], "objects": objects, "id": [7, 8, 9]}, features)
    columns = Columns(image="photo", captions="texts", label=None, labels="objects.category", image_id="id")
    rows = list(load_rows(name, "train", columns=columns, streaming=streaming))
    assert [row["labels"] for row in rows] == [[0, 2], [], [1]] and [row["label"] for row in rows] == [2, -1, 1]
    assert [row["image_id"] for row in rows] == ["7", "8", "9"] and rows[0]["captions"] == ["a", "b"]


def test_a_folder_of_images_with_metadata_needs_no_preparation(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "own" / split).mkdir(parents=True)
        with open(tmp_path / "own" / split / "metadata.jsonl", "w") as table:
            for i in range(4):
                picture(i).save(tmp_path / "own" / split / f"{i}.png")
                table.write(json.dumps({"file_name": f"{i}.png", "text": f"picture {i}", "kind": "ab"[i % 2]}) + "\n")
    rows = load_rows(str(tmp_path / "own"), "train[:3]", columns=Columns(captions="text", label="kind"))
    assert len(rows) == 3 and rows["label"] == [0, 1, 0]
    from t2i_supcon.data import decode_image

    assert np.array_equal(np.asarray(decode_image(rows[1]["image"], "row")), np.asarray(picture(1)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"captions": "text", "label": "class"}, "no column 'class' for label; found photo, text, kind.*or null"),
        ({"captions": "text", "label": "kind", "labels": "all"}, "no column 'all' for labels"),
        ({"captions": "words", "label": "kind"}, "no column 'words' for captions"),
        ({"captions": "kind", "label": "kind"}, "row 0: the column 'kind' holds no caption or list of captions but 3"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_wrong_columns_are_named(tmp_path, columns, message, streaming):
    name = write(tmp_path / "d", {"text": ["one", "two"], "kind": [3, 4]})
    with pytest.raises(ValueError, match=message):
        list(load_rows(name, "train", columns=Columns(image="photo", **columns), streaming=streaming))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": "kind"}, r"the column 'kind' for image holds Value\('int64'\); it must hold images"),
        ({"captions": "photo"}, "the column 'photo' is named for image and for captions"),
        ({"label": "photo"}, "the column 'photo' is named for image and for label"),
        ({"label": "objects"}, "the column 'objects' for label holds .*; it must hold class ids or names"),
        ({"bbox": "kind"}, r"the column 'kind' for bbox holds Value\('int64'\); it must hold lists"),
        ({"bbox": "objects.boxes"}, r"the column 'objects.boxes' for bbox holds List\(List\(Value\('int64'\)\)\)"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_columns_of_another_kind_are_named(tmp_path, columns, message, streaming):
    objects = [{"boxes": [[0, 0, 2, 2]]}, {"boxes": []}]
    name = write(tmp_path / "d", {"text": ["one", "two"], "kind": [3, 4], "objects": objects})
    with pytest.raises(ValueError, match="^data '.*': " + message):
        load_rows(
            name,
            "train",
            columns=Columns(**{"image": "photo", "captions": "text", "label": None} | columns),
            streaming=streaming,
        )


@pytest.mark.parametrize("streaming", [False, True])
def test_nulls_are_no_captions_boxes_or_labels(tmp_path, streaming):
    objects = [[{"kind": "b"}, None, {"kind": "a"}], None, []]
    boxes = [{"box": [1, 2, 3, 4]}, {"box": None}, None]
    name = write(tmp_path / "d", {"texts": [["one", None], None, ["two"]], "objects": objects, "boxes": boxes})
    columns = Columns(image="photo", captions="texts", label=None, labels="objects.kind", bbox="boxes.box")
    rows = list(load_rows(name, "train", columns=columns, streaming=streaming))
    assert [row["captions"] for row in rows] == [["one", ""], [], ["two"]] and [row["labels"] for row in rows] == [
        [0, 1],
        [],
        [],
    ]
    assert [row["label"] for row in rows] == [1, -1, -1] and [row["bbox"] for row in rows] == [
        [1.0, 2.0, 3.0, 4.0],
        None,
        None,
    ]


def test_nulls_and_unnamed_labels_in_the_schemas_own_columns(tmp_path):
    write_dataset(tmp_path / "nulls", [[0], [1], [0, 1]], captions=[["one", None], None, ["two"]])
    rows = load_rows(str(tmp_path / "nulls"), "train")
    assert list(rows["captions"]) == [["one", ""], [], ["two"]] and list(rows["labels"]) == [[0], [1], [0, 1]]
    with pytest.raises(BrokenRowError, match="row 0: train-0: the caption '' holds no word"):
        check_captions(rows)
    path = write_dataset(tmp_path / "d", [[0], [-1], [0, 5]]) / "train-00000-of-00001.parquet"
    features = datasets.Features({**row_features(["a", "b"])})
    # ids up to 5, names of two
    pq.write_table(pq.read_table(path).replace_schema_metadata(features.arrow_schema.metadata), path)
    with pytest.raises(ValueError, match="row 2: the label 5 is none of the 2 that the data names"):
        load_rows(str(tmp_path / "d"), "train")
    assert list(load_rows(str(tmp_path / "d"), "train[:2]")["labels"]) == [[0], []]


@pytest.mark.parametrize("streaming", [False, True])
def test_numbers_with_gaps_in_a_csv_keep_their_names(tmp_path, streaming):
    for i in range(4):
        picture(i).save(tmp_path / f"{i}.png")
    lines = [f"{tmp_path}/{i}.png,picture {i},{kind}" for i, kind in enumerate(["10", "", "2", "10"])]
    (tmp_path / "train.csv").write_text("\n".join(["image,text,kind", *lines]) + "\n")
    rows = load_rows(str(tmp_path), "train", columns=Columns(captions="text", label="kind"), streaming=streaming)
    assert rows.features["label"].names == ["2", "10"] and [row["label"] for row in rows] == [1, -1, 0, 1]


def test_data_without_labels_is_unlabelled(tmp_path):
    name = write(tmp_path / "d", {"text": ["one", "two"]})
    rows = load_rows(name, "train", columns=Columns(image="photo", captions="text", label=None))
    assert rows["label"] == [-1, -1] and rows["labels"] == [[], []]


@pytest.mark.parametrize("streaming", [False, True])
def test_names_of_labels_count_though_only_the_lists_are_of_classes(tmp_path, streaming):
    kind = datasets.List(datasets.ClassLabel(names=["a", "b"]))
    columns = {"image_id": ["x", "y"], "captions": [["one"], ["two"]], "label": [1, 0], "labels": [[1], [0]]}
    name = write(tmp_path / "d", columns | {"bbox": [None, None]}, {"labels": kind})
    rows = load_rows(name, "train", columns=Columns(image="photo"), streaming=streaming)
    assert rows.features["label"].names == ["a", "b"] and [row["label"] for row in rows] == [1, 0]
