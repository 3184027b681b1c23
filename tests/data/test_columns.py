"""Datasets with columns of their own, in the row schema."""

import json

import datasets
import numpy as np
import pytest
from conftest import picture

from t2i_supcon.data import Columns, load_rows


def write(folder, columns, features=None):
    folder.mkdir()
    n = len(next(iter(columns.values())))
    data = datasets.Dataset.from_dict({"photo": [picture(i) for i in range(n)], **columns}).cast_column("photo", datasets.Image())
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
def test_labels_inside_a_column_and_several_captions(tmp_path, streaming):
    objects = [{"category": [2, 0], "area": [1, 2]}, {"category": [], "area": []}, {"category": [1, 1], "area": [3, 4]}]
    features = {
        "objects": {"category": datasets.List(datasets.ClassLabel(names=["cat", "dog", "ant"])), "area": datasets.List(datasets.Value("int64"))}
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


def test_data_without_labels_is_unlabelled(tmp_path):
    name = write(tmp_path / "d", {"text": ["one", "two"]})
    rows = load_rows(name, "train", columns=Columns(image="photo", captions="text", label=None))
    assert rows["label"] == [-1, -1] and rows["labels"] == [[], []]
