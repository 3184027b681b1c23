"""Pictures for people: labelled grids of images and plots of training curves."""

import json
import textwrap
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, FONT_SIZE, MAX_COLUMNS = 8, 13, 8
PANEL_WIDTH = 192  # pixels; a multiple of the sides that masks have, so that their squares come out alike
BACKGROUND = "#f4f4f4"  # light grey
LIGHT = (255, 190, 0)  # yellow
YARDSTICKS = {"_training_images": "training images", "_held_out_images": "held-out images"}  # by the end of a name


def enlarged(image: Image.Image, width: int) -> Image.Image:
    """The image at `width` pixels, its shape kept, if it is narrower.

    Bicubic: squares of colour, which pixels become otherwise, hide what a small picture shows.
    """
    if image.width >= width:
        return image
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.BICUBIC)


def labelled_grid(
    images: list[Image.Image], captions: list[str], columns: int = 4, min_width: int = 160
) -> Image.Image:
    """Lays out images in rows, each with its caption below; small images are enlarged.

    Args:
        images: of one size.
        captions: one per image.
        columns: images in a row.
        min_width: least width of a cell in pixels.
    """
    images = [enlarged(image, min_width) for image in images]
    width, height = images[0].size
    font = ImageFont.load_default(FONT_SIZE)
    wrapped = [textwrap.fill(caption, max(12, int(width / FONT_SIZE / 0.52)), max_lines=4) for caption in captions]
    text_height = (FONT_SIZE + 4) * max(text.count("\n") + 1 for text in wrapped)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_width, cell_height = width + MARGIN, height + text_height + 2 * MARGIN
    grid = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(grid)
    for i, (image, text) in enumerate(zip(images, wrapped)):
        x, y = MARGIN + i % columns * cell_width, MARGIN + i // columns * cell_height
        grid.paste(image, (x, y))
        draw.multiline_text((x, y + height + 3), text, fill="black", font=font, spacing=3)
    return grid


def image_strip(images: list[Image.Image], gap: int = 0, columns: int | None = None) -> Image.Image:
    """Sets images of one size side by side.

    Args:
        images: one or more.
        gap: pixels of background between them.
        columns: images in a row; all of them when absent.
    """
    columns = min(columns or len(images), len(images))
    rows = -(-len(images) // columns)
    width, height = images[0].width + gap, images[0].height + gap
    strip = Image.new("RGB", (columns * width - gap, rows * height - gap), BACKGROUND)
    for i, image in enumerate(images):
        strip.paste(image, (i % columns * width, i // columns * height))
    return strip


def attention_figure(image: Image.Image, words: list[str], attention: np.ndarray) -> Image.Image:
    """Shows where each word was read: the image, then per word the image in dark grey under a
    yellow light as strong as the word's attention.

    Each word is scaled to its own maximum, which its label states.

    Args:
        image: the picture drawn.
        words: T words.
        attention: (T, s, s) in [0, 1], of one stage.
    """
    image = enlarged(image, PANEL_WIDTH)
    panels, labels = [image], [" ".join(words)]
    for word, weights in zip(words, attention, strict=True):
        panels.append(attention_overlay(image, weights))
        labels.append(f"{word} (up to {weights.max():.0%})")
    return labelled_grid(panels, labels, _even_columns(len(panels)))


def attention_overlay(image: Image.Image, weights: np.ndarray) -> Image.Image:
    """The image in dark grey under a yellow light that is brightest where a word was read most.

    Args:
        image: the picture drawn.
        weights: (s, s) in [0, 1], of one word.
    """
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    light = np.asarray(Image.fromarray(weights.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR))
    light = light / max(light.max(), 1e-8)
    return Image.fromarray((0.3 * grey + 0.7 * light[..., None] * LIGHT).astype(np.uint8))


def mask_figure(image: Image.Image, words: list[str], masks: list[np.ndarray]) -> Image.Image:
    """Shows the image, then each block's mask: white where the text may change this place, black
    where it may not.

    Args:
        image: the picture drawn.
        words: what it was drawn from.
        masks: one (s, s) per block, in [0, 1].
    """
    image = enlarged(image, PANEL_WIDTH)
    panels, labels = [image], [" ".join(words)]
    for mask in masks:
        grey = Image.fromarray((mask * 255).round().astype(np.uint8))
        panels.append(grey.resize(image.size, Image.Resampling.NEAREST).convert("RGB"))
        labels.append(f"{len(mask)} px")
    return labelled_grid(panels, labels, _even_columns(len(panels)))


def _even_columns(n: int) -> int:
    """Columns that spread n panels evenly over as few rows as hold them."""
    return -(-n // -(-n // MAX_COLUMNS))


def plot_metrics(log: Path, output: Path) -> None:
    """Plots every loss term and every evaluated number of a run's `metrics.jsonl` over the steps,
    one small plot each.

    A number named like another plus an end of `YARDSTICKS` is that one's yardstick: a dashed line
    in its plot.
    """
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import MaxNLocator

    curves = defaultdict(list)
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for name, value in entry.items():
            if name not in ("step", "rows_per_second"):
                curves[name].append((entry["step"], value))
    yardsticks = {}
    for end, label in YARDSTICKS.items():
        for name in [name for name in curves if name.endswith(end)]:
            yardsticks[name.removesuffix(end)] = (curves.pop(name)[-1][1], label)
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    width, height = 3.4 * columns, 2.6 * rows  # inches
    # margins that are given and few ticks: matplotlib takes four times as long to find its own
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(0.55 / width, 0.6 / height, 1 - 0.2 / width, 1 - 0.3 / height, wspace=0.25, hspace=0.35)
    for place, (name, points) in enumerate(curves.items(), start=1):
        axis = figure.add_subplot(rows, columns, place)
        steps, values = zip(*points)
        axis.plot(steps, values, marker="." if len(points) < 30 else None, linewidth=1)
        if name in yardsticks:
            value, label = yardsticks[name]
            axis.axhline(value, linestyle="--", linewidth=1, color="gray", label=label)
            axis.legend(fontsize=7)
        axis.set_title(name, fontsize=9, y=1.0)
        axis.tick_params(labelsize=7)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(4))
        axis.grid(alpha=0.3)
    figure.supxlabel("step", fontsize=9)
    figure.savefig(output, dpi=110)
