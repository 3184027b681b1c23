"""What an evaluation computes: the Frechet distance beside scipy's matrix root, the features of the
FID network beside the plain network, and decoding beside them or before them."""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
import torch

from t2i_supcon.data import load_rows
from t2i_supcon.evaluation.pictures import Pictures, RealPictures
from t2i_supcon.memory import keep_freed_memory
from t2i_supcon.metrics import FeatureStatistics, feature_statistics, frechet_distance
from t2i_supcon.metrics.features import FIDInception, resize_torch

from .data import make_photo, write_shards
from .options import add_batch_size, add_device, add_repeats, check_device, positive_int
from .timers import Stopwatch
from .worker import Worker

BATCHES = 4  # of photographs, of which all but the first are decoded beside the network
HELP = "Frechet distances beside scipy's matrix root, Inception features beside the plain network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this benchmark."""
    parser.add_argument("--rows", type=positive_int, nargs="+", default=[1500, 10_000], help="(default: 1500 10000)")
    parser.add_argument("--width", type=positive_int, default=2048, help="of the features (default: 2048)")
    parser.add_argument("--side", type=positive_int, default=299, help="of the network's input (default: 299)")
    add_batch_size(parser, "16")
    add_repeats(parser, 3)
    add_device(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the times of both for each comparison.

    Raises:
        ValueError: a device that is not there, or scipy is not installed.
    """
    check_device(options.device)
    torch.manual_seed(0)
    print(
        f"medians of {options.repeats} interleaved runs\n{'':34}{'plain, s':>10}{'here, s':>10}{'ratio':>8}  difference"
    )
    for rows in options.rows:
        a, b = (rectified_statistics(rows, options.width, shift) for shift in (0.25, 0.35))
        runs = {
            "plain": lambda a=a, b=b: distance_by_matrix_root(a, b),
            "here": lambda a=a, b=b: frechet_distance(a, b),
        }
        report(f"Frechet distance, {rows} rows x {options.width}", runs, options)
    rows = options.batch_size or 16
    workers = {
        kind: Worker(serve_features, kind == "plain", rows, options.side, options.device) for kind in ("plain", "here")
    }
    for worker in workers.values():
        worker.ask()  # the first time asks for memory in any way
    report(f"Inception features, {rows} pictures", {kind: worker.ask for kind, worker in workers.items()}, options)
    for worker in workers.values():
        worker.end()
    keep_freed_memory()  # as evaluate.py does
    fast = random_network(options.device).speed_up()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        random = np.random.default_rng(0)
        write_shards([make_photo(random) for _ in range(BATCHES * rows)], Path(folder))
        photos = RealPictures(load_rows(folder, "train"), 256)

        def features(batches: Iterable[Pictures]) -> np.ndarray:
            images = (resize_torch(batch.images.to(options.device), options.side) for batch in batches)
            return np.concatenate([fast(one.contiguous(memory_format=torch.channels_last))[0].cpu() for one in images])

        runs = {"plain": lambda: features(photos.decoded(rows)), "here": lambda: features(photos.batches(rows))}
        report(f"decoding and features, {len(photos.rows)} photos", runs, options)


def random_network(device: str) -> FIDInception:
    """Of the same weights each time."""
    torch.manual_seed(0)
    return FIDInception().eval().requires_grad_(False).to(device)


def serve_features(pipe: Connection, plain: bool, rows: int, side: int, device: str) -> None:
    """Sends the features of the same random pictures whenever asked."""
    network = random_network(device)
    images = torch.rand(rows, 3, side, side, device=device) * 2 - 1
    if not plain:
        keep_freed_memory()  # as evaluate.py does
        network, images = network.speed_up(), images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        while pipe.recv():
            pipe.send(network(images)[0].cpu().numpy())


def rectified_statistics(rows: int, width: int, shift: float) -> FeatureStatistics:
    """Of correlated, rectified rows, as pooled features are."""
    g = torch.randn(rows, width + 1)
    return feature_statistics(torch.relu(g[:, 1:] + 0.5 * g[:, :1] + shift))


def distance_by_matrix_root(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The usual procedure: scipy's root of the product of both covariances.

    Raises:
        ValueError: scipy is not installed.
    """
    try:
        from scipy.linalg import sqrtm
    except ModuleNotFoundError as error:
        raise ValueError("this benchmark compares with scipy: pip install scipy") from error
    root = sqrtm(a.covariance @ b.covariance)
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return float(np.square(a.mean - b.mean).sum() + traces - 2 * np.trace(root.real))


def report(name: str, runs: dict[str, Callable[[], object]], options: argparse.Namespace) -> None:
    """Prints one line: the times of "plain" and "here", and how far their results lie apart."""
    watch, seconds, results = Stopwatch(options.device), defaultdict(list), {}
    for _ in range(options.repeats):
        for kind, compute in runs.items():
            started = watch.now()
            results[kind] = np.asarray(compute())
            seconds[kind].append(watch.now() - started)
    plain, here = (median(seconds[kind]) for kind in ("plain", "here"))
    apart = np.abs(results["here"] - results["plain"]).max() / np.abs(results["plain"]).max()
    print(f"{name:34}{plain:>10.3f}{here:>10.3f}{plain / here:>8.1f}{apart:>12.1e}", flush=True)
