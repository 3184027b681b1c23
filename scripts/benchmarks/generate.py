"""Drawing at the published sizes: each way to run a model, beside the papers' procedure."""

import argparse
import copy
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import torch
from torch import Tensor

from t2i_supcon.data import word_tokenizer
from t2i_supcon.export import draw_rows, example_inputs, open_session, to_onnx
from t2i_supcon.models import GANS, TextToImageModel

from .options import add_batch_size, add_repeats
from .procedures import plain_operators
from .timers import Stopwatch

HELP = "pictures at the published sizes by eager, compiled and ONNX models, beside the papers' procedure"
MAX_WORDS, ROWS = 18, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this benchmark."""
    parser.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(GANS)} (default: all)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes a minute")
    add_batch_size(parser, str(ROWS))
    add_repeats(parser, 3)


def run(options: argparse.Namespace, configs: dict[str, dict] | None = None) -> None:
    """Prints the time of a picture by each way, as a ratio to the papers' procedure, and how far
    its pixels lie apart.

    Args:
        options: see `add_arguments`.
        configs: arguments of the configs of some GANs, by name; the published sizes elsewhere.

    Raises:
        ValueError: an unknown model, or the extra `onnx` is not installed.
    """
    if unknown := set(options.models) - set(GANS):
        raise ValueError(f"unknown model {', '.join(sorted(unknown))}; choose from {', '.join(GANS)}")
    rows = options.batch_size or ROWS
    print(f"cpu, {torch.get_num_threads()} threads; {rows} pictures one by one, median of {options.repeats} runs")
    for name in options.models or GANS:
        model = build_model(name, (configs or {}).get(name, {}))
        limit = min(MAX_WORDS, getattr(model.config.text_config, "max_position_embeddings", MAX_WORDS))
        inputs = example_inputs(model, rows, limit)
        report(name, ways(model, inputs, limit, options.no_compile), rows, options.repeats)


def build_model(name: str, config: dict) -> TextToImageModel:
    """A model of random weights; those that start at zero or one, where parts of it would do
    nothing, are moved."""
    torch.manual_seed(0)
    model = GANS[name].composite(GANS[name].config(**config)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1 or not parameter.any():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def ways(
    model: TextToImageModel, inputs: dict[str, Tensor], limit: int, no_compile: bool
) -> dict[str, Callable[[], Tensor]]:
    """By name, what draws one image of (3, S, S) of each row of the inputs; the first one is the
    papers' procedure."""
    last = copy.deepcopy(model)
    last.generator.to(memory_format=torch.channels_last)

    def eager(drawn_by: TextToImageModel, plain: bool = False) -> Callable[[], Tensor]:
        def draw() -> Tensor:
            with plain_operators() if plain else nullcontext():
                return drawn_by.generate(**inputs).images[-1]

        return draw

    found = {"papers' procedure": eager(model, plain=True), "eager": eager(model), "channels_last": eager(last)}
    if not no_compile:
        compiled = copy.deepcopy(model)
        compiled.generator.compile()
        found["compiled"] = eager(compiled)
    tokenizer = word_tokenizer({f"word{i}": i for i in range(1, 20)}, limit)
    session = open_session(to_onnx(model, tokenizer).SerializeToString())
    return found | {"ONNX": lambda: draw_rows(session, **inputs)}


def report(name: str, found: dict[str, Callable[[], Tensor]], rows: int, repeats: int) -> None:
    """Prints a table of one model, from interleaved runs after one that warms up."""
    watch, seconds = Stopwatch("cpu"), defaultdict(list)
    drawn = {way: draw() for way, draw in found.items()}
    for _ in range(repeats):
        for way, draw in found.items():
            started = watch.now()
            draw()
            seconds[way].append((watch.now() - started) / rows)
    expected, *_ = drawn.values()
    plain = median(seconds["papers' procedure"])
    print(f"\n{name:24}{'s per picture':>14}{'ratio':>8}  difference of pixels")
    for way, images in drawn.items():
        apart = (images - expected).abs().max().item()
        print(f"  {way:22}{median(seconds[way]):>14.3f}{plain / median(seconds[way]):>8.2f}{apart:>12.1e}", flush=True)
