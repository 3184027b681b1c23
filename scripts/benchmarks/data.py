"""The way from Parquet shards to training batches, beside pure decoding."""

import argparse
import io
import resource
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerFast

from t2i_supcon.data import (
    Batches,
    BatchSampler,
    Collator,
    IndexedRows,
    Source,
    StreamedRows,
    TrainingRows,
    build_tokenizer,
    load_rows,
    make_row,
    prepare,
)
from t2i_supcon.memory import keep_freed_memory

from .options import add_repeats, positive_int

HELP = "the way from Parquet shards to training batches, beside pure decoding"
CAPTION = "this bird number {} has a red head and long grey wings and sits on a branch"
LABELS, BATCH = 50, 20  # labels are fewer where rows are so few that some would be alone
SIZES = ((299,), (64, 128, 256))  # of phase 1 and of the stacked GANs
# By name: streaming, workers and the device that a batch is taken to. Workers hand over uint8
# pixels, which a GPU turns into floats; "meta" leaves that out of the training process, as it does.
PATHS = {
    "streaming": (True, 0, "cpu"),
    "map-style": (False, 0, "cpu"),
    "streaming, 1 worker": (True, 1, "meta"),
    "streaming, 2 workers": (True, 2, "meta"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this benchmark."""
    add_repeats(parser, 5)
    parser.add_argument("--rows", type=positive_int, default=600, help="images to draw (default: 600)")


def run(options: argparse.Namespace) -> None:
    """Prints images per second of each path through the data, and as a share of the limit measured
    beside it.

    Raises:
        ValueError: too few rows for a batch.
    """
    if options.rows < BATCH:
        raise ValueError(f"--rows is {options.rows}; a batch takes {BATCH}")
    keep_freed_memory()  # as `train` does
    random = np.random.default_rng(0)
    photos = [make_photo(random) for _ in range(options.rows)]
    tokenizer = build_tokenizer([CAPTION.format(i) for i in range(LABELS)], 18)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(photos, Path(folder))
        print(
            f"{len(photos)} drawn JPEGs of 500 x 400, {sum(map(len, photos)) / len(photos) / 1000:.0f} kB; label "
            f"pairs, median of {options.repeats} runs"
        )
        for sizes in SIZES:
            runs = [
                {"limit": decoding_rate(photos, sizes)}
                | {name: loading_rate(folder, len(photos), tokenizer, sizes, *path) for name, path in PATHS.items()}
                for _ in range(options.repeats)
            ]
            print_rates(sizes, runs)
        resident = resident_memory(folder, len(photos), tokenizer)
    print(f"\nmemory after epochs 1 to 6 of streaming: {', '.join(f'{size:.0f}' for size in resident)} MiB")


def make_photo(random: np.random.Generator) -> bytes:
    """A JPEG of about 90 kB and 500 x 400 pixels: smooth blobs with grain, which cost a decoder
    what a photograph does."""
    blobs = Image.fromarray(random.integers(0, 256, (20, 25, 3), dtype=np.uint8))
    grain = np.asarray(blobs.resize((500, 400), Image.Resampling.BICUBIC)).astype(int)
    grain = grain + random.integers(-12, 12, (400, 500, 1))
    file = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def write_shards(photos: list[bytes], folder: Path) -> None:
    """Prepares the photographs as `prepare_data.py` does."""
    labels = [i % min(LABELS, len(photos) // 2) for i in range(len(photos))]
    rows = [
        make_row(str(i), [CAPTION.format(label)] * 10, [label], label, str(i), "drawn")
        for i, label in enumerate(labels)
    ]
    names = [str(i) for i in range(LABELS)]
    source = Source("drawn photographs", "none", "none", names, {"train": rows}, lambda file: photos[int(file)])
    prepare(lambda work: source, folder, {})


def decoding_rate(photos: list[bytes], sizes: tuple[int, ...]) -> float:
    """The limit, in images per second: PIL decodes, resizes to 76/64 of the highest size and
    reduces to the lower ones; nothing else."""
    started = time.perf_counter()
    for photo in photos:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        scale = sizes[-1] * 76 / 64 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        square = image.crop((0, 0, sizes[-1], sizes[-1]))
        for size in sizes[:-1]:
            square.resize((size, size), Image.Resampling.BILINEAR)
    return len(photos) / (time.perf_counter() - started)


def loading_rate(
    folder: str,
    num_rows: int,
    tokenizer: PreTrainedTokenizerFast,
    sizes: tuple[int, ...],
    streaming: bool,
    workers: int,
    device: str,
) -> float:
    """Images per second that arrive in training batches, over two epochs once queues are full."""
    data = load_rows(folder, "train", streaming=streaming)
    order = StreamedRows(data, "label", 0) if streaming else IndexedRows(data["label"], 0)
    samples = TrainingRows(None if streaming else data, tokenizer, sizes, 0, random_crop=True, flip=True)
    batches = iter(Batches(samples, BatchSampler(order, BATCH, 0, pairs=True), Collator(2), device, workers))
    list(islice(batches, 2 + 2 * workers))
    started = time.perf_counter()
    count = sum(len(batch) for batch in islice(batches, 2 * num_rows // BATCH))
    return count / (time.perf_counter() - started)


def print_rates(sizes: tuple[int, ...], runs: list[dict[str, float]]) -> None:
    print(f"\n{', '.join(f'{size} px' for size in sizes):30}{'images/s':>10}{'share of the limit':>20}")
    for name in runs[0]:
        rate, share = median(run[name] for run in runs), median(run[name] / run["limit"] for run in runs)
        print(f"{name:30}{rate:>10.0f}{share:>20.2f}")
    gain = median(run["streaming, 2 workers"] / run["streaming, 1 worker"] for run in runs)
    print(f"{'2 workers / 1 worker':30}{'':10}{gain:>20.2f}")


def resident_memory(folder: str, num_rows: int, tokenizer: PreTrainedTokenizerFast) -> list[float]:
    """MiB of this process after each of six epochs of streaming."""
    order = StreamedRows(load_rows(folder, "train", streaming=True), "label", 0)
    samples, sampler = TrainingRows(None, tokenizer, (64,), 0), BatchSampler(order, BATCH, 0, True)
    batches = islice(Batches(samples, sampler, Collator(2)), 6 * (num_rows // BATCH))
    resident = []
    for number, _ in enumerate(batches, 1):
        if number % (num_rows // BATCH) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * resource.getpagesize() / 2**20)
    return resident
