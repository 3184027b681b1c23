"""Names of data: equal for equal content, wherever it lies, and for nothing else."""

import json
import shutil

import datasets
import pytest
from conftest import encoded, picture, write_dataset

from t2i_supcon.data import load_rows, shard_files
from t2i_supcon.identity import HASHED_IMAGES, content_hash, other_data, pictures_hash


def hash_of(folder, streaming=False):
    files = shard_files(str(folder), "train")
    return content_hash(load_rows(str(folder), "train", streaming=streaming), files)


@pytest.mark.parametrize("streaming", [False, True])
def test_data_is_known_by_its_content(tiny_data, tmp_path, streaming):
    before = hash_of(tiny_data, streaming)
    shutil.copytree(tiny_data, tmp_path / "moved")
    assert hash_of(tmp_path / "moved", streaming) == before
    labels = [i % 3 for i in range(24)]
    changes = {
        "labels": {"labels": labels[::-1]},
        "captions": {"labels": labels, "captions": [["a red circle"]] * 24},
        "images": {"labels": labels, "images": [encoded(picture(i + 1)) for i in range(24)]},
        "boxes": {"labels": labels, "boxes": [[0, 0, 5, i + 1] for i in range(24)]},
    }
    hashes = {name: hash_of(write_dataset(tmp_path / name, **change), streaming) for name, change in changes.items()}
    assert len({before, *hashes.values()}) == 5


def test_every_picture_is_in_the_name_of_all(tiny_data, tmp_path):
    contents = [b"picture %d" % number for number in range(2 * HASHED_IMAGES)]

    def name_of(contents):
        images = [{"bytes": content, "path": None} for content in contents]
        return pictures_hash(datasets.Dataset.from_dict({"image": images}))

    names = {name_of([*contents[:number], b"picture X", *contents[number + 1 :]]) for number in range(0, 512, 73)}
    assert len(names | {name_of(contents), name_of(contents[:-1]), name_of(contents[::-1])}) == 8 + 3
    assert name_of([b"ab", b"c"]) != name_of([b"a", b"bc"])
    rows = load_rows(str(tiny_data), "train")
    assert pictures_hash(rows.select(range(3, 9))) == pictures_hash(rows.select(range(9)).select(range(3, 9)))
    shutil.copytree(tiny_data, tmp_path / "moved")
    assert pictures_hash(load_rows(str(tmp_path / "moved"), "train")) == pictures_hash(rows)


def test_pictures_in_files_and_rows_without_one_have_a_name(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(1)))
    images = [{"bytes": None, "path": str(tmp_path / "a.png")}, None]
    kept = datasets.Features({"image": datasets.Image(decode=False)})
    rows = datasets.Dataset.from_dict({"image": images}, features=kept)
    before = pictures_hash(rows)
    (tmp_path / "a.png").write_bytes(encoded(picture(2)))
    assert pictures_hash(rows) != before


def test_a_model_of_other_data_is_told_from_one_of_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert other_data(tmp_path, "emoji") is None  # nothing says what it was trained on
    for name in ("data/photos", "emoji"):
        (tmp_path / "training.json").write_text(json.dumps({"data": {"name": name}}))
        found = [other_data(tmp_path, one) for one in ("data/photos", "./data/photos/", str(tmp_path / "data/photos"))]
        assert found == ([None] * 3 if name == "data/photos" else ["emoji"] * 3)
    assert other_data("someone/model", "emoji") is None
