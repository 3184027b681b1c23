"""Pictures of many prompts as files: each picture with what it was drawn from, a labelled grid of
them all, and figures of what the words did."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .data import to_pil
from .figures import attention_figure, enlarged, image_strip, labelled_grid, mask_figure
from .files import check_regular_file, short_name
from .models.base import MAX_IMAGES, check_count
from .pipeline import TextToImagePipeline, noises_of_prompts

PROMPTS_AT_ONCE = 8
COLUMNS = 8  # pictures of one prompt side by side
SIDE = 80  # pixels, at least, of each of them


def read_prompts(path: Path) -> list[str]:
    """Reads the lines of a UTF-8 text file that are not blank.

    Raises:
        OSError, ValueError: no such file, something other than a file, or bytes that are not UTF-8.
    """
    check_regular_file(path)
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}: line {line} is not UTF-8 (byte {content[error.start]:#04x}); save the file in UTF-8"
        ) from error
    return [line for line in lines if line.strip()]


def make_room(grid: Path) -> None:
    """Makes the folder that a grid and the files beside it go into.

    Raises:
        OSError, ValueError: a name that pictures cannot be saved under, or a folder that cannot be
            made or written.
    """
    if grid.suffix.lower() != ".png":
        raise ValueError(f"{grid}: the grid is saved as PNG; give it a name that ends in .png")
    if grid.exists():
        check_regular_file(grid)
    grid.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=grid.parent):  # what may be written is known for sure by writing
        pass


def save_gallery(
    draw: TextToImagePipeline,
    prompts: Iterable[str],
    grid: Path,
    num_images_per_prompt: int = 1,
    seed: int = 0,
    truncation: float | None = None,
    attention: bool = False,
) -> tuple[list[Path], list[Path]]:
    """Draws N pictures of each prompt and saves them one by one and together.

    Beside `grid.png` there will be `grid-1-1.png` to `grid-1-N.png` with the pictures of the first
    prompt, `grid-2-1.png` and so on. Their PNG text says prompt, seed, number among the N, model
    and truncation. In the grid, words that the model left out stand in brackets.

    Args:
        draw: draws the pictures.
        prompts: at least one.
        grid: file of the grid; see `make_room`.
        num_images_per_prompt: N.
        seed: the same one draws the same pictures.
        truncation: bound of the noise.
        attention: whether to save, as `grid-attention-1.png` and so on, what the words did to each
            prompt's first picture.

    Returns:
        The grid and the figures of attention, and the single pictures.

    Raises:
        ValueError: no prompt, too many pictures, a prompt without a known word, or attention asked
            of a GAN that has neither attention nor masks; nothing is saved then.
    """
    prompts = _checked([draw], prompts, grid, num_images_per_prompt)
    noise = {"seed": seed, "truncation": truncation}
    figures = [word_figure(draw, prompt, **noise) for prompt in prompts] if attention else []
    drawn = draw(iter(prompts), num_images_per_prompt=num_images_per_prompt, batch_size=PROMPTS_AT_ONCE, **noise)
    shared = {"model": draw.model.source, "seed": str(seed)}
    if truncation is not None:
        shared["truncation"] = str(truncation)
    pictures, strips, digits = [], [], len(str(len(prompts)))
    for number, (prompt, images) in enumerate(zip(prompts, drawn), start=1):
        strips.append(prompt_strip(images, SIDE))
        for n, image in enumerate(images, start=1):
            pictures.append(grid.with_name(f"{grid.stem}-{number:0{digits}}-{n}.png"))
            image.save(pictures[-1], pnginfo=png_text({"prompt": prompt, "image": str(n), **shared}))
    figure_files = [grid.with_name(f"{grid.stem}-attention-{n:0{digits}}.png") for n in range(1, len(figures) + 1)]
    for figure, file in zip(figures, figure_files):
        figure.save(file)
    labels = [draw.prompt_words(prompt).marked for prompt in prompts]
    labelled_grid(strips, labels).save(grid, pnginfo=png_text(shared))
    return [grid, *figure_files], pictures


def save_side_by_side(
    draws: Sequence[TextToImagePipeline],
    prompts: Iterable[str],
    grid: Path,
    num_images_per_prompt: int = 1,
    seed: int = 0,
    truncation: float | None = None,
) -> Path:
    """Draws the same prompts with several models, from the same seed, into one grid: a cell for
    each prompt and model, which names both. Smaller pictures are enlarged.

    Args:
        draws: one pipeline a model.
        prompts, grid, num_images_per_prompt, seed, truncation: as of `save_gallery`.

    Returns:
        The grid.

    Raises:
        ValueError: as `save_gallery`; nothing is saved then.
    """
    prompts = _checked(draws, prompts, grid, num_images_per_prompt)
    noise = {"seed": seed, "truncation": truncation}
    columns, side = [], max([SIDE, *(draw.model.config.image_size for draw in draws)])
    for draw in draws:
        drawn = draw(prompts, num_images_per_prompt=num_images_per_prompt, batch_size=PROMPTS_AT_ONCE, **noise)
        title = short_name(draw.model.source)
        labels = [f"{title}: {draw.prompt_words(prompt).marked}" for prompt in prompts]
        columns.append([(prompt_strip(images, side), label) for images, label in zip(drawn, labels)])
    cells = [cell for row in zip(*columns) for cell in row]
    text = {"seed": str(seed), "model": ", ".join(draw.model.source for draw in draws)}
    strips, labels = zip(*cells)
    labelled_grid(strips, labels, len(draws) * max(1, 6 // len(draws))).save(grid, pnginfo=png_text(text))
    return grid


def prompt_strip(images: Sequence[Image.Image], side: int) -> Image.Image:
    """The pictures of one prompt beside each other, each at least `side` pixels wide."""
    images = [enlarged(image, side) for image in images]
    return image_strip(images, gap=max(1, images[0].width // 32), columns=COLUMNS)


def _checked(
    draws: Sequence[TextToImagePipeline], prompts: Iterable[str], grid: Path, num_images_per_prompt: int
) -> list[str]:
    """The prompts, if all can be drawn and saved; no time is spent on any before."""
    prompts = list(prompts)
    if not prompts:
        raise ValueError("nothing to draw: give at least one prompt")
    num_images_per_prompt = check_count("num_images_per_prompt", num_images_per_prompt)
    if len(prompts) * num_images_per_prompt * len(draws) > MAX_IMAGES:
        models = f" x {len(draws)} models" if len(draws) > 1 else ""
        raise ValueError(
            f"{len(prompts)} prompts x {num_images_per_prompt} images{models} are more than the {MAX_IMAGES:,} of one "
            "grid; draw them in several runs"
        )
    for draw in draws:
        draw.preprocess(prompts)  # finds a prompt without a known word
    make_room(grid)
    return prompts


def word_figure(draw: TextToImagePipeline, prompt: str, seed: int, truncation: float | None) -> Image.Image:
    """The first picture of a prompt and where its words were read, or where they may change it."""
    inputs = draw.preprocess([prompt])
    noise, conditioning_noise = next(noises_of_prompts(draw.model.config, 1, seed=seed, truncation=truncation))
    output = draw.model.generate(**inputs, noise=noise, conditioning_noise=conditioning_noise, output_attentions=True)
    image = to_pil(output.images[-1][0])
    words = [token.removeprefix("▁") for token in draw.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])]
    if output.attentions:
        return attention_figure(image, words, output.attentions[-1][0].float().cpu().numpy())
    return mask_figure(image, words, [mask[0, 0].float().cpu().numpy() for mask in output.masks])


def png_text(fields: dict[str, str]) -> PngInfo:
    """Text chunks of a PNG file, in UTF-8."""
    info = PngInfo()
    for name, value in fields.items():
        info.add_itxt(name, value)
    return info
