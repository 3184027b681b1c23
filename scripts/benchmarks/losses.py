"""The word matching loss, forward and backward, beside a loop over the captions."""

import argparse
from collections import defaultdict
from statistics import median

import torch

from t2i_supcon.losses import matching_loss, word_relevance

from .options import add_batch_size, add_device, add_repeats, check_device
from .procedures import plain_word_loss
from .timers import Stopwatch

HELP = "the word matching loss, beside a loop over the captions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this benchmark."""
    add_batch_size(parser, "10, 16 and 48")
    add_repeats(parser, 11)
    add_device(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the times of both for each number of rows.

    Raises:
        ValueError: a device that is not there.
    """
    check_device(options.device)
    torch.manual_seed(0)
    watch = Stopwatch(options.device)
    print(
        f"word matching loss, 289 regions, 256 wide, captions of 8 to 18 words; {options.device}, median of "
        f"{options.repeats} interleaved runs"
    )
    print(f"{'rows':>6}{'loop, ms':>12}{'here, ms':>12}{'ratio':>8}{'difference':>14}")
    for rows in [options.batch_size] if options.batch_size else (10, 16, 48):
        regions = torch.randn(rows, 256, 17, 17, device=options.device) / 16
        words = torch.randn(rows, 18, 256, device=options.device)
        lengths = torch.randint(8, 19, (rows,))
        mask = (torch.arange(18)[None] < lengths[:, None]).long().to(options.device)
        leaves = [regions.requires_grad_(), words.requires_grad_()]
        losses = {
            "loop": lambda inputs=(*leaves, mask): plain_word_loss(*inputs, 4, 5, 10),
            "here": lambda inputs=(*leaves, mask): sum(matching_loss(10 * word_relevance(*inputs, 4, 5))),
        }
        runs = defaultdict(list)
        for _ in range(options.repeats + 1):
            for name, loss in losses.items():
                started = watch.now()
                torch.autograd.grad(loss(), leaves)
                runs[name].append(watch.now() - started)
        loop, here = (1000 * median(runs[name][1:]) for name in ("loop", "here"))  # the first run warms up
        apart = abs(1 - losses["here"]().item() / losses["loop"]().item())
        print(f"{rows:>6}{loop:>12.1f}{here:>12.1f}{loop / here:>8.2f}{apart:>14.1e}")
