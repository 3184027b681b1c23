"""Whole training steps at the published sizes, beside the procedures of the papers' code."""

import argparse
from statistics import median

from .options import add_batch_size, add_device, add_repeats, check_device
from .steps import Setting, Sizes, StepProcess
from .timers import peak_rate

HELP = "training steps at the published sizes, beside the papers'; about ten minutes on two CPU cores"
BATCH_SIZES = {"attngan": 4, "dmgan": 4, "galip": 4, "ssagan": 2, "damsm": 48}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this benchmark."""
    parser.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(BATCH_SIZES)} (default: all)")
    parser.add_argument(
        "--mixed-precision",
        choices=("no", "bf16", "fp16"),
        default="no",
        help="of this package; the plain procedure runs in float32",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile for this package")
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="let the plain procedure keep freed memory too, to see the rest of the gain alone",
    )
    add_batch_size(parser, "4; SSA-GAN 2, DAMSM 48")
    add_repeats(parser, 5)
    add_device(parser)


def run(options: argparse.Namespace, sizes: dict[str, Sizes] | None = None, peak_divisor: int = 1) -> None:
    """Prints seconds, parts, operations and memory of one step of each model, beside the plain
    procedure's.

    Args:
        options: see `add_arguments`.
        sizes: of some models' networks, by name; the published ones elsewhere.
        peak_divisor: see `peak_rate`.

    Raises:
        ValueError: an unknown model, or a device, batch size or precision that cannot be.
    """
    check_device(options.device)
    if unknown := set(options.models) - set(BATCH_SIZES):
        raise ValueError(f"unknown model {', '.join(sorted(unknown))}; choose from {', '.join(BATCH_SIZES)}")
    if options.mixed_precision == "fp16" and options.device == "cpu":
        raise ValueError("--mixed-precision fp16 needs --device cuda")
    peaks = {kind: peak_rate(options.device, kind, peak_divisor) for kind in ("no", options.mixed_precision)}
    reached = ", ".join(
        f"{peak / 1e9:.0f} GFLOP/s in {'float32' if kind == 'no' else kind}" for kind, peak in peaks.items()
    )
    print(
        f"{options.device}: large matrix products or convolutions reach {reached}; random weights and images, "
        f"median of {options.repeats} interleaved steps"
    )
    for model in options.models or BATCH_SIZES:
        common = {"device": options.device, "sizes": (sizes or {}).get(model, Sizes())}
        rows = options.batch_size or BATCH_SIZES[model]
        here = Setting(model, rows, False, precision=options.mixed_precision, compiled=options.compile, **common)
        plain = Setting(model, rows, True, keep_memory=options.keep_memory, **common)
        compare(StepProcess(plain), StepProcess(here), options.repeats, peaks)


def compare(plain: StepProcess, here: StepProcess, repeats: int, peaks: dict[str, float]) -> None:
    """Times both, step by step in turn, and prints the table; `peaks` is by precision."""
    both = (plain, here)
    ratios = [plain.step() / here.step() for _ in range(repeats)]
    what = f"{here.setting.model}, {here.setting.batch_size} rows"
    print(f"\n{what:24}{'plain, s':>12}{'share':>8}{'here, s':>12}{'share':>8}{'ratio':>8}")
    for name in dict.fromkeys(name for process in both for parts in process.parts for name in parts):
        row = [process.part(name) for process in both]
        shares = [seconds / median(process.totals) for seconds, process in zip(row, both)]
        ratio = f"{row[0] / row[1]:8.2f}" if all(row) else f"{'':8}"
        print(f"  {name:34}{row[0]:>10.3f}{shares[0]:>8.0%}{row[1]:>12.3f}{shares[1]:>8.0%}{ratio}")
    totals = [median(process.totals) for process in both]
    print(
        f"  {'whole step':34}{totals[0]:>10.3f}{'':8}{totals[1]:>12.3f}{'':8}{median(ratios):>8.2f}  "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )
    operations = [process.operations for process in both]
    print(
        f"  {'10^9 operations (FLOPs)':34}{operations[0] / 1e9:>10.0f}{'':8}"
        f"{operations[1] / 1e9:>12.0f}{'':8}{operations[0] / operations[1]:>8.2f}"
    )
    used = [count / total / peaks[process.setting.precision] for count, total, process in zip(operations, totals, both)]
    print(f"  {'share of that peak':34}{used[0]:>10.2f}{'':8}{used[1]:>12.2f}")
    memory = [process.stop() / 2**30 for process in both]
    print(f"  {'peak memory, GiB':34}{memory[0]:>10.2f}{'':8}{memory[1]:>12.2f}{'':8}{memory[0] / memory[1]:>8.2f}")
    apart = max(
        abs(plain.terms[name] - value) / max(abs(value), 1e-6)
        for name, value in here.terms.items()
        if name in plain.terms
    )
    print(f"  losses of the first step differ by at most {apart:.1e} of their size")
