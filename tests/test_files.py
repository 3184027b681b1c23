"""Folders that are complete or absent, and of one process at a time, and their names."""

import os
import signal
import subprocess
import sys

import pytest

from t2i_supcon.files import new_folder, only_user, recover_folder, short_name


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


def test_a_folder_is_of_one_process_until_that_ends_or_is_killed(tmp_path):
    holding = "import sys; from pathlib import Path; from t2i_supcon.files import only_user\n"
    holding += "with only_user(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    run = tmp_path / "runs" / "one"
    with subprocess.Popen(
        [sys.executable, "-c", holding, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(FileExistsError, match="another run is writing into .*one: .*another --output-dir"):
            with only_user(run, patience=0):
                raise AssertionError("two at once")
        with only_user(tmp_path / "runs" / "two", patience=0):  # a neighbour is free
            os.kill(other.pid, signal.SIGKILL)
    for _ in range(2):
        with only_user(run, patience=0):
            pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/run could not be written: Not a directory; choose another --output-dir"):
        with only_user(tmp_path / "file" / "run"):
            raise AssertionError("there is no such folder")


def test_a_run_gives_its_folders_their_names(tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    named = {
        "runs/scl/model": "scl",
        "runs/scl/best": "scl/best",
        "me/dmgan-coco-scl": "dmgan-coco-scl",
        "model": "plain",
    }
    assert {source: short_name(source) for source in named} == named
