"""What the `evaluate` modules take for a set of vectors: rows, or the path of a file that holds
them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .arrays import Array, reading
from .statistics import FeatureStatistics, feature_statistics

Source = Array | Sequence | str | Path
VECTORS = "vectors: expected an .npy, or an .npz with `features`"


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
    with reading(path, VECTORS):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded["features"]


def statistics_of(source: Source | FeatureStatistics) -> FeatureStatistics:
    """Statistics as given, those in an `.npz` with `mu` and `sigma`, or those of rows; see
    `rows_of`."""
    if isinstance(source, FeatureStatistics):
        return source
    path = path_of(source)
    if path is not None and path.suffix == ".npz":
        with reading(path, VECTORS), np.load(path, allow_pickle=False) as file:
            holds_statistics = "mu" in file
        if holds_statistics:
            return FeatureStatistics.load(path)
    return feature_statistics(rows_of(source))


def path_of(source: Source | FeatureStatistics) -> Path | None:
    """The path that `source` is, or None for rows."""
    if isinstance(source, Sequence) and len(source) == 1 and not isinstance(source, str):
        source = source[0]
    return Path(source) if isinstance(source, (str, Path)) else None
