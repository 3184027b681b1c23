"""Grids and plots: sizes, pixels and the numbers they show."""

import json

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image

from t2i_supcon.figures import (
    MARGIN,
    attention_figure,
    enlarged,
    image_strip,
    labelled_grid,
    mask_figure,
    plot_metrics,
)


def test_enlarging_is_bicubic():
    image = picture(0, 32).crop((0, 0, 32, 16))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    # of bytes and with `antialias`, torch takes the kernel that Pillow has (a = -0.5)
    expected = torch.nn.functional.interpolate(pixels, size=(50, 100), mode="bicubic", antialias=True)
    drawn = torch.from_numpy(np.array(enlarged(image, 100))).permute(2, 0, 1)[None]
    assert (drawn.int() - expected.int()).abs().max() <= 2  # each rounds between its two passes
    assert enlarged(image, 32) is image and enlarged(image, 20) is image


@pytest.mark.parametrize("size", [64, 200])
def test_a_grid_holds_each_image_in_a_cell_that_is_wide_enough(size):
    images = [picture(i, size) for i in range(5)]
    width = max(size, 160)
    grid = np.array(labelled_grid(images, [f"caption {i}" for i in range(5)], columns=3))
    cell_height = (grid.shape[0] - MARGIN) // 2
    for i, image in enumerate(images):
        x, y = MARGIN + i % 3 * (width + MARGIN), MARGIN + i // 3 * cell_height
        assert np.array_equal(grid[y : y + width, x : x + width], np.array(enlarged(image, width)))
        assert grid[y + width : y + cell_height - MARGIN, x : x + width].min() < 128  # there is text


def test_a_strip_sets_images_side_by_side():
    images = [picture(i, 8) for i in range(3)]
    assert np.array_equal(np.array(image_strip(images)), np.concatenate([np.array(image) for image in images], axis=1))


def test_a_strip_may_have_gaps_and_rows():
    images = [picture(i, 8) for i in range(5)]
    strip = np.array(image_strip(images, gap=2, columns=3))
    assert strip.shape == (18, 28, 3)
    for i, image in enumerate(images):
        y, x = i // 3 * 10, i % 3 * 10
        assert np.array_equal(strip[y : y + 8, x : x + 8], np.array(image))
        strip[y : y + 8, x : x + 8] = 0xF4
    assert (strip == 0xF4).all()


def panel(figure, i, columns, rows, width=192):
    """The i-th panel's pixels, (width, width) grey values, of a figure whose images are enlarged to
    `width`."""
    y, x = i // columns * ((figure.height - MARGIN) // rows), i % columns * (width + MARGIN)
    return np.array(figure.convert("L"))[MARGIN + y : MARGIN + y + width, MARGIN + x : MARGIN + x + width].astype(float)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_attention_lights_up_the_place_a_word_was_read(shade):
    image = Image.new("RGB", (64, 64), (shade,) * 3)
    attention = np.full((3, 8, 8), 0.01, dtype=np.float32)
    peaks = [(1, 6), (5, 2), (7, 7)]
    for word, (y, x) in enumerate(peaks):
        attention[word, y, x] = 0.2 * (word + 1)  # each word has its own maximum
    figure = attention_figure(image, ["a", "red", "heart"], attention)
    assert (panel(figure, 0, 4, 1) == shade).all()
    for i, (y, x) in enumerate(peaks, start=1):
        light = panel(figure, i, 4, 1)
        brightest = np.argwhere(light == light.max()).mean(axis=0) / 24  # 192 / 8 pixels a cell
        assert abs(brightest - (y + 0.5, x + 0.5)).max() < 0.7
        assert light.max() == panel(figure, 1, 4, 1).max() > light.min() + 100


def test_attention_and_words_must_match():
    with pytest.raises(ValueError):
        attention_figure(picture(0), ["a", "heart"], np.ones((3, 4, 4), dtype=np.float32))


def test_many_words_fill_even_rows():
    figure = attention_figure(
        picture(0, 64), [f"word{i}" for i in range(11)], np.random.default_rng(0).random((11, 8, 8))
    )
    assert figure.width == 6 * (192 + MARGIN) + MARGIN  # 12 panels: 6 + 6, not 8 + 4
    assert panel(figure, 11, 6, 2).std() > 10


def test_a_mask_is_white_where_it_is_one():
    masks = [np.eye(4, dtype=np.float32), np.zeros((8, 8), dtype=np.float32), np.full((64, 64), 0.4, dtype=np.float32)]
    figure = mask_figure(picture(0, 64), ["a", "heart"], masks)
    assert np.array_equal(panel(figure, 1, 4, 1), np.kron(np.eye(4), np.full((48, 48), 255)))
    assert (panel(figure, 2, 4, 1) == 0).all() and (panel(figure, 3, 4, 1) == 102).all()


def test_a_plot_is_drawn_for_every_number(tmp_path):
    lines = [{"step": 0, "eval/fd": 3.0, "eval/fd_training_images": 1.0}] + [
        {"step": s, "loss": 1 / s, "rows_per_second": 5} for s in range(1, 9)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    plot_metrics(tmp_path / "metrics.jsonl", tmp_path / "metrics.png")
    image = np.array(Image.open(tmp_path / "metrics.png").convert("L"))
    left, right = image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]
    assert left.min() < 100 and right.min() < 100  # two plots, none of them blank
