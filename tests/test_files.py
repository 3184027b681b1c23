"""Folders that are complete or absent."""

import pytest

from t2i_supcon.files import new_folder, recover_folder


def test_new_folder_replaces_whole_or_not_at_all(tmp_path):
    final = tmp_path / "model"
    with new_folder(final) as partial:
        (partial / "a").write_text("1")
    with pytest.raises(RuntimeError), new_folder(final) as partial:
        (partial / "a").write_text("2")
        raise RuntimeError
    assert (final / "a").read_text() == "1" and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_moved_aside_by_a_killed_process_comes_back(tmp_path):
    final = tmp_path / "best"
    (tmp_path / ".replaced-best").mkdir()
    (tmp_path / ".replaced-best" / "a").write_text("1")
    recover_folder(final)
    assert (final / "a").read_text() == "1" and [path.name for path in tmp_path.iterdir()] == ["best"]
    (tmp_path / ".replaced-best").mkdir()
    recover_folder(final)
    assert (final / "a").read_text() == "1" and [path.name for path in tmp_path.iterdir()] == ["best"]
