"""Options that several benchmarks share."""

import argparse

import torch


def positive_int(text: str) -> int:
    """An option's value that must be at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def add_repeats(parser: argparse.ArgumentParser, default: int) -> None:
    """Adds how often everything is measured."""
    parser.add_argument(
        "--repeats",
        type=positive_int,
        default=default,
        help=f"interleaved runs, of which the median is printed (default: {default})",
    )


def add_batch_size(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the rows of a batch, by default as described."""
    parser.add_argument("--batch-size", type=positive_int, help=f"rows (default: {default})")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds where to run; see `check_device`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run (default: cpu)")


def check_device(device: str) -> None:
    """Looks whether the device is there.

    Raises:
        ValueError: a GPU is asked for and torch sees none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here")
