"""Times this package against plain reference procedures, as ratios in one run on your machine.

python scripts/benchmark.py data      rows per second from Parquet to training batch, beside pure decoding and resizing
"""

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

CAPTION = "this bird number {} has a red head and long grey wings and sits on a branch"


def drawn_photo(rng: np.random.Generator) -> bytes:
    """A JPEG of about 90 kB and 500 x 400 pixels: smooth blobs with grain, which cost a decoder what a photograph does."""
    blobs = Image.fromarray(rng.integers(0, 256, (20, 25, 3), dtype=np.uint8)).resize((500, 400), Image.Resampling.BICUBIC)
    grain = np.asarray(blobs).astype(int) + rng.integers(-12, 12, (400, 500, 1))
    file = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def decode_and_resize(photos: list[bytes], sizes: tuple[int, ...]) -> float:
    """The limit, in images per second: PIL decodes, resizes to 76/64 of the highest size and reduces to the lower ones; nothing else."""
    started = time.perf_counter()
    for photo in photos:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        scale = sizes[-1] * 76 / 64 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        square = image.crop((0, 0, sizes[-1], sizes[-1]))
        for size in sizes[:-1]:
            square.resize((size, size), Image.Resampling.BILINEAR)
    return len(photos) / (time.perf_counter() - started)


def benchmark_data(repeats: int, num_rows: int) -> None:
    """Prints images per second of each path through the data, and as a share of the limit measured beside it."""
    from t2i_supcon.data import (  # late: --help should not wait
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

    rng = np.random.default_rng(0)
    photos = [drawn_photo(rng) for _ in range(num_rows)]
    rows = [make_row(str(i), [CAPTION.format(i % 50)] * 10, [i % 50], i % 50, str(i), "drawn") for i in range(num_rows)]
    tokenizer = build_tokenizer([CAPTION.format(i) for i in range(50)], 18)
    with tempfile.TemporaryDirectory() as folder:
        source = Source("drawn photographs", "none", "none", [str(i) for i in range(50)], {"train": rows}, lambda file: photos[int(file)])
        prepare(lambda work: source, Path(folder), {})

        def rate(streaming: bool, workers: int, sizes: tuple[int, ...], device: str = "cpu") -> float:
            data = load_rows(folder, "train", streaming=streaming)
            order = StreamedRows(data, "label", 0) if streaming else IndexedRows(data["label"], 0)
            samples = TrainingRows(None if streaming else data, tokenizer, sizes, 0, random_crop=True, flip=True)
            batches = iter(Batches(samples, BatchSampler(order, 20, 0, pairs=True), Collator(2), device, workers))
            list(islice(batches, 2 + 2 * workers))  # workers start, queues fill
            started = time.perf_counter()
            count = sum(len(batch) for batch in islice(batches, 2 * num_rows // 20))
            return count / (time.perf_counter() - started)

        print(f"{num_rows} drawn JPEGs of 500 x 400, {sum(map(len, photos)) / num_rows / 1000:.0f} kB; label pairs, median of {repeats} runs")
        for sizes in ((299,), (64, 128, 256)):
            # workers hand over uint8 pixels, which a GPU turns into floats; "meta" leaves that out of the training process as a GPU does
            paths = {
                "streaming": (True, 0, sizes),
                "map-style": (False, 0, sizes),
                "streaming, 1 worker": (True, 1, sizes, "meta"),
                "streaming, 2 workers": (True, 2, sizes, "meta"),
            }
            runs = [{"limit": decode_and_resize(photos, sizes)} | {k: rate(*path) for k, path in paths.items()} for _ in range(repeats)]
            print(f"\n{', '.join(f'{s} px' for s in sizes):30}{'images/s':>10}{'share of the limit':>20}")
            for name in runs[0]:
                print(f"{name:30}{median(r[name] for r in runs):>10.0f}{median(r[name] / r['limit'] for r in runs):>20.2f}")
            print(f"{'2 workers / 1 worker':30}{'':10}{median(r['streaming, 2 workers'] / r['streaming, 1 worker'] for r in runs):>20.2f}")

        data = load_rows(folder, "train", streaming=True)
        batches = Batches(TrainingRows(None, tokenizer, (64,), 0), BatchSampler(StreamedRows(data, "label", 0), 20, 0, True), Collator(2))
        resident = []
        for number, _ in enumerate(islice(batches, 6 * num_rows // 20), 1):
            if number % (num_rows // 20) == 0:
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
        print(f"\nmemory after epochs 1 to 6 of streaming: {', '.join(f'{size:.0f}' for size in resident)} MiB")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    data = kinds.add_parser("data", help="the way from Parquet shards to training batches")
    data.add_argument("--repeats", type=int, default=5, help="interleaved runs, of which the median is printed (default: 5)")
    data.add_argument("--rows", type=int, default=600, help="images to draw (default: 600)")
    options = parser.parse_args(arguments)
    benchmark_data(options.repeats, options.rows)


if __name__ == "__main__":
    main()
