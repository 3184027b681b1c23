"""Folders that are complete or absent, files that are files, and what runs are called."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Gives a folder to fill that takes the place of `final` once the block ends without an error,
    and vanishes otherwise."""
    partial = partial_folder(final)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    recover_folder(final)
    if final.exists():
        os.replace(final, _replaced(final))  # deleting takes time, in which a killed process would leave half of it
    os.replace(partial, final)
    shutil.rmtree(_replaced(final), ignore_errors=True)


def partial_folder(final: Path) -> Path:
    """The one that `new_folder` gives, for other processes that fill it, too."""
    return final.with_name(f".partial-{final.name}")


def recover_folder(final: Path) -> None:
    """Puts `final` back where a process was killed between moving it aside and putting another one
    in its place."""
    if _replaced(final).exists() and not final.exists():
        os.replace(_replaced(final), final)
    shutil.rmtree(_replaced(final), ignore_errors=True)


def _replaced(final: Path) -> Path:
    return final.with_name(f".replaced-{final.name}")


@contextmanager
def only_user(folder: Path, patience: float = 15.0) -> Iterator[None]:
    """Keeps any other process out of this block with the same folder, which it makes if need be.

    Args:
        patience: seconds to wait for another one to leave. A killed process is gone at once, but
            its loader's workers, who hold what it held, notice after up to five.

    Raises:
        FileExistsError: another process is still there.
        OSError: `folder` cannot be written to.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise FileExistsError(
            f"another run is writing into {folder}: wait until it ends, or choose another --output-dir"
        ) from error
    except OSError as error:
        raise OSError(f"{folder} could not be written: {error.strerror}; choose another --output-dir") from error
    try:
        yield
    finally:
        lock.release()


def remove_partial_files(folder: Path, inside: str = "") -> None:
    """Removes what a process killed while it wrote has left in a folder, or in those that `inside`
    (a pattern) finds below it."""
    for left in folder.glob(f"{inside}/.partial-*" if inside else ".partial-*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def check_regular_file(path: Path) -> None:
    """Raises an OSError unless `path` is a file that can be read to its end: a named pipe, for one,
    would be waited for."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, no file")
    if not path.is_file():
        raise OSError(f"{path}: a pipe or device, no file")


def short_name(source: str) -> str:
    """The last part of a folder's or repository's name; of a run's folders `model` and `best` that
    of the run, too: runs/NAME/model is NAME, runs/NAME/best is NAME/best."""
    path = Path(source)
    run = path.absolute().parent.name  # `model` alone may be in the working directory
    return run if path.name == "model" else f"{run}/best" if path.name == "best" else path.name
