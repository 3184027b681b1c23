"""Grids and plots: sizes, pixels and the numbers they show."""

import json

import numpy as np
from conftest import picture
from PIL import Image

from t2i_supcon.figures import MARGIN, image_strip, labelled_grid, plot_metrics


def test_a_grid_holds_each_image_enlarged_pixel_by_pixel():
    images = [picture(i, 64) for i in range(5)]
    grid = np.array(labelled_grid(images, [f"caption {i}" for i in range(5)], columns=3))
    cell_height = (grid.shape[0] - MARGIN) // 2
    for i, image in enumerate(images):
        x, y = MARGIN + i % 3 * (192 + MARGIN), MARGIN + i // 3 * cell_height
        enlarged = np.array(image).repeat(3, axis=0).repeat(3, axis=1)
        assert np.array_equal(grid[y : y + 192, x : x + 192], enlarged)
        assert grid[y + 192 : y + cell_height - MARGIN, x : x + 192].min() < 128  # there is text


def test_a_strip_sets_images_side_by_side():
    images = [picture(i, 8) for i in range(3)]
    assert np.array_equal(np.array(image_strip(images)), np.concatenate([np.array(image) for image in images], axis=1))


def test_a_plot_is_drawn_for_every_number(tmp_path):
    lines = [{"step": 0, "eval/fd": 3.0, "eval/fd_training_images": 1.0}] + [{"step": s, "loss": 1 / s, "rows_per_second": 5} for s in range(1, 9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    plot_metrics(tmp_path / "metrics.jsonl", tmp_path / "metrics.png")
    image = np.array(Image.open(tmp_path / "metrics.png").convert("L"))
    left, right = image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]
    assert left.min() < 100 and right.min() < 100  # two plots, none of them blank
