"""Names of data: equal for equal content, wherever it lies, and for nothing else."""

import shutil

import pytest
from conftest import encoded, picture, write_dataset

from t2i_supcon.data import load_rows, shard_files
from t2i_supcon.identity import content_hash


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
