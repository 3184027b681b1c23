"""Pictures for people: labelled grids of images and plots of training curves."""

import json
import textwrap
from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

MARGIN, FONT_SIZE = 8, 13
YARDSTICK = "_training_images"


def labelled_grid(images: list[Image.Image], captions: list[str], columns: int = 4, min_width: int = 160) -> Image.Image:
    """Lays out images in rows, each with its caption below; small images are enlarged pixel by pixel.

    Args:
        images: of one size.
        captions: one per image.
        columns: images in a row.
        min_width: least width of a cell in pixels.
    """
    scale = max(1, -(-min_width // images[0].width))
    width, height = images[0].width * scale, images[0].height * scale
    font = ImageFont.load_default(FONT_SIZE)
    wrapped = [textwrap.fill(caption, max(12, int(width / FONT_SIZE / 0.52)), max_lines=4) for caption in captions]
    text_height = (FONT_SIZE + 4) * max(text.count("\n") + 1 for text in wrapped)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_width, cell_height = width + MARGIN, height + text_height + 2 * MARGIN
    grid = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), "#f4f4f4")
    draw = ImageDraw.Draw(grid)
    for i, (image, text) in enumerate(zip(images, wrapped)):
        x, y = MARGIN + i % columns * cell_width, MARGIN + i // columns * cell_height
        grid.paste(image.resize((width, height), Image.Resampling.NEAREST), (x, y))
        draw.multiline_text((x, y + height + 3), text, fill="black", font=font, spacing=3)
    return grid


def image_strip(images: list[Image.Image]) -> Image.Image:
    """Sets images of one size side by side."""
    strip = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    for i, image in enumerate(images):
        strip.paste(image, (i * image.width, 0))
    return strip


def plot_metrics(log: Path, output: Path) -> None:
    """Plots every loss term and every evaluated number of a run's `metrics.jsonl` over the steps, one small plot each.

    A number named like another plus `_training_images` is that one's yardstick: a dashed line in its plot.
    """
    from matplotlib.figure import Figure

    curves = defaultdict(list)
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for name, value in entry.items():
            if name not in ("step", "rows_per_second"):
                curves[name].append((entry["step"], value))
    yardsticks = {name.removesuffix(YARDSTICK): curves.pop(name)[-1][1] for name in list(curves) if name.endswith(YARDSTICK)}
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for (name, points), axis in zip(curves.items(), axes):
        steps, values = zip(*points)
        axis.plot(steps, values, marker="." if len(points) < 30 else None, linewidth=1)
        if name in yardsticks:
            axis.axhline(yardsticks[name], linestyle="--", linewidth=1, color="gray", label="training images")
            axis.legend(fontsize=7)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in list(axes):
        axis.set_visible(False)
    figure.supxlabel("step", fontsize=9)
    figure.savefig(output, dpi=110)
