"""What the `evaluate` modules take for a set of vectors: rows, or the path of a file that holds
them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .arrays import UNREADABLE, Array
from .statistics import FeatureStatistics, feature_statistics

Source = Array | Sequence | str | Path


def rows_of(source: Source) -> Array:
    """Rows as given, or those of an `.npy` file, or of `features` in an `.npz`. A list of one path
    counts as the path, since a column of an `evaluate` module is always a list.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no rows.
    """
    path = path_of(source)
    if path is None:
        return source if hasattr(source, "shape") else np.asarray(source)
    with _one_error(path):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded["features"]


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    """Turns what numpy raises for a file without vectors, or a damaged one, into one ValueError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"{path} holds no vectors: expected an .npy, or an .npz with `features`") from error


def statistics_of(source: Source | FeatureStatistics) -> FeatureStatistics:
    """Statistics as given, those in an `.npz` with `mu` and `sigma`, or those of rows; see
    `rows_of`."""
    if isinstance(source, FeatureStatistics):
        return source
    path = path_of(source)
    if path is not None and path.suffix == ".npz":
        with _one_error(path), np.load(path, allow_pickle=False) as file:
            complete = "mu" in file
        if complete:
            return FeatureStatistics.load(path)
    return feature_statistics(rows_of(source))


def path_of(source: Source | FeatureStatistics) -> Path | None:
    """The path that `source` is, or None for rows."""
    if isinstance(source, Sequence) and len(source) == 1 and not isinstance(source, str):
        source = source[0]
    return Path(source) if isinstance(source, (str, Path)) else None
