"""What a run writes down on its way: numbers in metrics.jsonl, sample pictures, and both in a
tracker of accelerate."""

import json
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import LoggerType
from PIL import Image

from .checkpoint import writing
from .recipe import Recipe, recipe_values

METRICS, SAMPLES = "metrics.jsonl", "samples"
EVALUATION = "eval/"  # what the names of evaluated numbers begin with, unlike those of loss terms


def check_tracker(name: str | None) -> None:
    """Refuses trackers that accelerate does not know or that are not installed, which accelerate
    itself would pass over.

    Raises:
        ValueError: names those that can be used.
    """
    installed = sorted(str(tracker.value) for tracker in get_available_trackers())
    if name is not None and name not in installed:
        known = name in LoggerType.list() and name != LoggerType.ALL
        problem = f"is not installed: pip install {name.replace('_', '-')}" if known else "is unknown"
        raise ValueError(f"tracker {name!r} {problem}; installed: {', '.join(installed) or 'none'}")


class RunLog:
    """The log of the main process. A full disk or a closed folder is an OSError that names the
    file.

    Args:
        folder: of the run.
        accelerator: whose trackers get the same numbers and pictures.
        recipe: shown by trackers beside the numbers.
        step: steps taken before; entries of later ones, which a resumed run writes again, are
            dropped.
        reviewed: whether that step's evaluation is done.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, recipe: Recipe, step: int = 0, reviewed: bool = False):
        self.path = folder / METRICS
        self.samples = folder / SAMPLES
        self._accelerator = accelerator
        with writing(folder):
            self.samples.mkdir(parents=True, exist_ok=True)
            self._cut(step, reviewed)
            self._start_trackers(recipe, step)
        self._excepthook, threading.excepthook = threading.excepthook, self._report_thread

    def _cut(self, step: int, reviewed: bool) -> None:
        if not self.path.exists():
            return
        written = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines = [line for line in written if line.endswith("\n")]  # a full disk may cut one
        try:
            entries = [(json.loads(line), line) for line in lines]
            if not all(isinstance(entry, dict) and "step" in entry for entry, _ in entries):
                raise ValueError("a line names no step")
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error}): mend that line, or remove the file") from error
        kept = [
            line
            for entry, line in entries
            if entry["step"] < step or (entry["step"] == step > 0 and (reviewed or not is_evaluation(entry)))
        ]
        partial = self.path.with_name(f".partial-{METRICS}")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, self.path)

    def _start_trackers(self, recipe: Recipe, step: int) -> None:
        for name in self._accelerator.log_with:
            # its table of hyper-parameters would be a run of its own; recipe.yaml lies beside it
            if name == LoggerType.TENSORBOARD:
                self._accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})
            else:
                values = {
                    key: json.dumps(value) if isinstance(value, (dict, list)) else value
                    for key, value in recipe_values(recipe).items()
                }
                self._accelerator.init_trackers("t2i_supcon", config=values)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds one line to metrics.jsonl, and the values to the tracker."""
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for tracker in self._accelerator.trackers:
            # MLflow takes no "@"
            names = {name: name.replace("@", "_at_") if tracker.name == "mlflow" else name for name in values}
            with self._tracking(tracker):
                tracker.log({names[name]: value for name, value in values.items()}, step=step)

    def picture(self, step: int, grid: Image.Image) -> None:
        """Saves a grid of samples, and shows it in trackers of pictures."""
        path = self.samples / f"step-{step:08d}.png"
        with writing(path):
            grid.save(path)
        pixels = np.asarray(grid.convert("RGB"))[None]  # (1, H, W, 3)
        for tracker in self._accelerator.trackers:
            with self._tracking(tracker):
                if tracker.name == "tensorboard":
                    tracker.log_images({"samples": pixels}, step=step, dataformats="NHWC")
                elif tracker.name in ("wandb", "swanlab"):
                    tracker.log_images({"samples": list(pixels)}, step=step)

    def _tracking(self, tracker: GeneralTracker) -> AbstractContextManager:
        return writing(self.path.parent / tracker.name) if tracker.requires_logging_directory else nullcontext()

    def _report_thread(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread of its own, whose error comes out again at the next call
        to it: once is enough."""
        if not issubclass(failure.exc_type, OSError):
            self._excepthook(failure)

    def evaluations(self) -> list[dict[str, float]]:
        """The numbers of every evaluation, oldest first."""
        entries = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [
            {name.removeprefix(EVALUATION): value for name, value in e.items()} for e in entries if is_evaluation(e)
        ]

    def close(self) -> None:
        try:
            for tracker in self._accelerator.trackers:
                with self._tracking(tracker):
                    tracker.finish()
        finally:
            threading.excepthook = self._excepthook


def is_evaluation(entry: dict) -> bool:
    return any(name.startswith(EVALUATION) for name in entry)
