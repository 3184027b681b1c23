"""What every metric does first: numpy arrays or tensors of any precision become checked float64."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

Array = np.ndarray | torch.Tensor
# what numpy raises for a file that is damaged or holds something else
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def reading(path: str | Path, expected: str) -> Iterator[None]:
    """Turns what numpy raises for a file that is damaged or holds something else into one error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `path` holds no `expected`.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"{path} holds no {expected}") from error


def as_float64(values: Array) -> np.ndarray:
    """The same values as a float64 array on the CPU."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)


def as_rows(values: Array, name: str, at_least: int = 2) -> np.ndarray:
    """Checks (N, D) vectors; `name` and both numbers stand in the error.

    Raises:
        ValueError: another shape, fewer than `at_least` rows, or NaN or infinity.
    """
    rows = as_float64(values)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} have shape {rows.shape}; expected (N, D)")
    if len(rows) < at_least:
        raise ValueError(f"{name} have shape {rows.shape}; expected (N, D) with N of at least {at_least}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} hold NaN or infinity")
    return rows


def as_two_sets(a: Array, b: Array, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Checks two sets of vectors in one space; their numbers of rows may differ.

    Raises:
        ValueError: as `as_rows`, or vectors of two widths.
    """
    a, b = as_rows(a, names[0]), as_rows(b, names[1])
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{names[0]} are {a.shape[1]} wide but {names[1]} are {b.shape[1]} wide; both must come from one network"
        )
    return a, b


def as_labels(labels: Array, rows: int, name: str) -> np.ndarray:
    """Checks (N,) labels, one for each of `rows` rows.

    Raises:
        ValueError: another shape or number.
    """
    labels = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if labels.shape != (rows,):
        raise ValueError(f"{name} have shape {labels.shape}; expected ({rows},), one per row")
    return labels


def unit_rows(values: Array) -> np.ndarray:
    """(N, D) rows of length 1; zero rows stay zero, NaN stays NaN."""
    rows = as_float64(values)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-8)


def as_pairs(a: Array, b: Array, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Normalised (N, D) rows of which row i of both belongs together.

    Raises:
        ValueError: shapes that differ or are not (N, D).
    """
    a, b = as_float64(a), as_float64(b)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"{names[0]} have shape {a.shape} and {names[1]} {b.shape}; expected (N, D) twice")
    return unit_rows(a), unit_rows(b)
