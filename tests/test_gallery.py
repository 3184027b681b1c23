"""Pictures as files: their pixels, names and texts."""

import os
from copy import deepcopy

import numpy as np
import pytest
from PIL import Image
from test_pipeline import save_model

from t2i_supcon.figures import MARGIN, enlarged
from t2i_supcon.gallery import make_room, read_prompts, save_gallery, save_side_by_side
from t2i_supcon.pipeline import TextToImagePipeline, load_pipeline

PROMPTS = ["a red zebra star", "a blue square"]


@pytest.fixture
def draw(tokenizer, tmp_path):
    return load_pipeline(str(save_model("attngan", tokenizer, tmp_path / "model")))


def test_each_picture_is_a_file_that_says_what_it_was_drawn_from(draw, tmp_path):
    together, single = save_gallery(draw, PROMPTS, tmp_path / "new" / "out.png", 3, seed=5, truncation=0.9)
    assert [file.name for file in together] == ["out.png"]
    assert [file.name for file in single] == [f"out-{p}-{n}.png" for p in (1, 2) for n in (1, 2, 3)]
    drawn = draw(PROMPTS, num_images_per_prompt=3, seed=5, truncation=0.9)
    for number, file in enumerate(single):
        prompt, n = divmod(number, 3)
        picture = Image.open(file)
        assert np.array_equal(np.asarray(picture), np.asarray(drawn[prompt][n]))
        assert picture.text == {
            "prompt": PROMPTS[prompt],
            "image": str(n + 1),
            "model": str(tmp_path / "model"),
            "seed": "5",
            "truncation": "0.9",
        }


def test_text_beyond_latin_letters_is_kept(draw, tmp_path):
    _, (file,) = save_gallery(draw, ["a red звезда ★"], tmp_path / "out.png")
    assert Image.open(file).text["prompt"] == "a red звезда ★"


def test_the_grid_has_gaps_between_pictures_and_brackets_around_words_left_out(draw, tmp_path, monkeypatch):
    labels = []
    from t2i_supcon import gallery

    whole = gallery.labelled_grid
    monkeypatch.setattr(gallery, "labelled_grid", lambda *args: labels.append(args[1]) or whole(*args))
    (file,), single = save_gallery(draw, PROMPTS, tmp_path / "out.png", 2)
    assert labels == [["a red [zebra] star", "a blue square"]]
    grid = np.asarray(Image.open(file))
    for i in range(2):
        x = MARGIN + i * (2 * 80 + 2 + MARGIN)  # two pictures of 80 px and a gap
        cell = grid[MARGIN : MARGIN + 80, x : x + 2 * 80 + 2]
        first, second = (np.asarray(enlarged(Image.open(one), 80)) for one in single[2 * i : 2 * i + 2])
        assert np.array_equal(cell[:, :80], first) and np.array_equal(cell[:, 82:], second)
        assert (cell[:, 80:82] == 0xF4).all()


def test_many_pictures_of_a_prompt_fill_several_rows(draw, tmp_path):
    (file,), single = save_gallery(draw, PROMPTS[1:], tmp_path / "out.png", 10)
    assert Image.open(file).width == 8 * (80 + 2) - 2 + 2 * MARGIN and len(single) == 10


def test_numbers_of_many_prompts_sort_as_text(draw, tmp_path):
    _, single = save_gallery(draw, PROMPTS[1:] * 10, tmp_path / "out.png")
    assert [file.name for file in single] == sorted(file.name for file in single)


def test_what_cannot_be_drawn_leaves_nothing_behind(draw, tokenizer, tmp_path):
    galip = load_pipeline(str(save_model("galip", tokenizer, tmp_path / "galip")))
    for pipeline, prompts, options, message in (
        (draw, [], {}, "nothing to draw"),
        (draw, [*PROMPTS, "zebra"], {}, "no word of the prompt 'zebra'"),
        (draw, PROMPTS, {"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        (
            draw,
            PROMPTS,
            {"num_images_per_prompt": 10**9},
            "num_images_per_prompt is 1000000000; it must be at least 1 and at most",
        ),
        (draw, PROMPTS * 6, {"num_images_per_prompt": 1000}, "12 prompts x 1000 images are more than"),
        (draw, PROMPTS, {"truncation": -1}, "truncation is -1"),
        (draw, PROMPTS, {"seed": -1}, "seed is -1"),
        (galip, PROMPTS, {"attention": True}, "has no attentions to return"),
    ):
        with pytest.raises(ValueError, match=message):
            save_gallery(pipeline, prompts, tmp_path / "pictures" / "out.png", **options)
        assert not list((tmp_path).rglob("*.png"))


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for path, message in (
        ("grid.jpg", "ends in .png"),
        ("grid", "ends in .png"),
        ("folder.png", "folder.png: a folder"),
        ("pipe.png", "pipe.png: a pipe or device"),
        ("file/grid.png", "file"),
        (f"{'x' * 300}/grid.png", "too long"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            make_room(tmp_path / path)
    make_room(tmp_path / "some" / "where" / "grid.png")
    assert not list((tmp_path / "some" / "where").iterdir())


def test_prompts_are_read_from_lines_of_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa red star\r\n\n  \nяблоко\na blue one".encode())
    assert read_prompts(file) == ["a red star", "яблоко", "a blue one"]
    file.write_bytes(b"a red star\na gr\xfcn one\n")
    with pytest.raises(ValueError, match=r"prompts.txt: line 2 is not UTF-8 \(byte 0xfc\)"):
        read_prompts(file)
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("none", "no such file"), ("", "a folder"), ("pipe", "a pipe or device")):
        with pytest.raises(OSError, match=message):
            read_prompts(tmp_path / name)


def test_models_draw_the_same_prompts_side_by_side(draw, tokenizer, tmp_path):
    """A cell for each prompt and model, from the same seed; smaller pictures are enlarged."""
    other = load_pipeline(str(save_model("ssagan", tokenizer, tmp_path / "runs" / "ssagan" / "model")))
    grid = save_side_by_side([draw, other], PROMPTS, tmp_path / "out.png", 2, seed=5)
    assert draw.model.config.image_size != other.model.config.image_size
    drawn, side = np.asarray(Image.open(grid)), 80
    for column in range(4):
        pair = (draw, other)[column % 2](PROMPTS[column // 2], num_images_per_prompt=2, seed=5)
        x = MARGIN + column * (2 * side + 2 + MARGIN)
        for n, image in enumerate(pair):
            cell = drawn[MARGIN:, x + n * (side + 2) :][:side, :side]
            assert np.array_equal(cell, np.asarray(enlarged(image, side)))


def test_labels_side_by_side_begin_with_what_tells_models_apart(draw, tmp_path, monkeypatch):
    labels = []
    from t2i_supcon import gallery

    whole = gallery.labelled_grid
    monkeypatch.setattr(gallery, "labelled_grid", lambda *args: labels.append(args[1]) or whole(*args))
    draws = [TextToImagePipeline(deepcopy(draw.model), draw.tokenizer) for _ in range(4)]
    sources = ("runs/a/model", "runs/a/best", "me/gan", "me/gan@seed-1")
    for one, source in zip(draws, sources):
        one.model.source = source
    grid = save_side_by_side(draws, ["a red star"], tmp_path / "out.png")
    assert labels == [tuple(f"{name}: a red star" for name in ("a", "a/best", "gan", "gan@seed-1"))]
    assert Image.open(grid).text["model"] == ", ".join(sources)


def test_models_side_by_side_are_checked_before_any_draws(draw, tmp_path):
    with pytest.raises(ValueError, match="no word of the prompt 'zebra'"):
        save_side_by_side([draw, draw], ["a red star", "zebra"], tmp_path / "out.png")
    with pytest.raises(ValueError, match="num_images_per_prompt is -1;"):
        save_side_by_side([draw, draw], PROMPTS, tmp_path / "out.png", -1)
    with pytest.raises(ValueError, match="10 prompts x 600 images x 2 models are more than the 10,000"):
        save_side_by_side([draw, draw], PROMPTS * 5, tmp_path / "out.png", 600)
    assert not (tmp_path / "out.png").exists()
