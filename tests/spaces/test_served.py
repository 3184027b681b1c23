"""Files that the page hands out."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image
from served import picture_file, served_file


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def test_a_picture_keeps_its_pixels_and_what_it_says(folder):
    drawn = picture(0)
    drawn.info = {"prompt": "a red “heart” ❤️\x00", "seed": "1"}
    file = Path(picture_file(drawn))
    assert file.is_relative_to(folder) and file.suffix == ".png"
    with Image.open(file) as found:
        assert found.text["seed"] == "1" and found.text["prompt"].startswith("a red “heart” ❤️")
        assert np.array_equal(np.asarray(found), np.asarray(drawn))


def test_one_content_is_one_file_that_is_never_half_written(folder):
    """Whoever reads while others write the same finds all of it."""
    content, wrong = os.urandom(2**20), []
    path = Path(served_file(content, "film.gif"))
    assert path == Path(served_file(content, "film.gif")) != Path(served_file(content[1:], "film.gif"))
    writers = [threading.Thread(target=lambda: [served_file(content, "film.gif") for _ in range(50)]) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.read_bytes() != content:
            wrong.append(path)
    assert not wrong and [file.name for file in path.parent.iterdir()] == ["film.gif"]


def test_a_file_that_was_emptied_away_comes_again_and_a_used_one_is_young(folder):
    path = Path(served_file(b"some", "one.gif"))
    os.utime(path, (0, 0))
    assert served_file(b"some", "one.gif") == str(path) and path.stat().st_mtime > 1e9
    path.unlink()
    assert Path(served_file(b"some", "one.gif")).read_bytes() == b"some"
