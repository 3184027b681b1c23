"""Folders that are complete or absent."""

import pytest

from t2i_supcon.files import new_folder


def test_new_folder_replaces_whole_or_not_at_all(tmp_path):
    final = tmp_path / "model"
    with new_folder(final) as partial:
        (partial / "a").write_text("1")
    with pytest.raises(RuntimeError), new_folder(final) as partial:
        (partial / "a").write_text("2")
        raise RuntimeError
    assert (final / "a").read_text() == "1" and [path.name for path in tmp_path.iterdir()] == ["model"]
