"""Checkpoints and the finished model of a run on the Hub, published beside the training."""

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..hub import folder_files, prepare_repository, push_model

logger = logging.getLogger(__name__)


class Uploads:
    """Publishes models of a run, each in one commit on the main branch and then a tag `step-N`.

    Checkpoints go in the background: training neither waits for them nor ends with them. One that
    fails, or comes while another is on its way, is logged and left out; the next one holds all that
    it held.

    Args:
        repository: "user/name"; made where there is none.
        folder: of the run.

    Raises:
        OSError: the Hub cannot be reached or refuses, before anything is trained.
    """

    def __init__(self, repository: str, folder: Path):
        self.repository = repository
        self.folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._under_way: tuple[int, Future] | None = None
        prepare_repository(repository)

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        """Publishes what `save` writes into a folder, in the background."""
        if self._under_way is not None and not self._under_way[1].done():
            logger.warning(
                "step %d is not published: step %d is still on its way to %s", step, self._under_way[0], self.repository
            )
            return
        self._report()
        snapshot = self.folder / f".partial-upload-{step:08d}"
        save(snapshot)
        self._under_way = step, self._pool.submit(self._push_and_remove, snapshot, step)

    def finish(self, step: int, model: Path) -> None:
        """Waits for what is on its way, and publishes the finished model.

        Raises:
            OSError: it could not be published; says how to do that later.
        """
        self._pool.shutdown(wait=True)
        self._report()
        advice = f"the model is whole in {model}: python scripts/push_to_hub.py {model} {self.repository}"
        self._push(model, step, advice)

    def _push_and_remove(self, snapshot: Path, step: int) -> None:
        try:
            self._push(snapshot, step)
        finally:
            shutil.rmtree(snapshot)

    def _push(self, folder: Path, step: int, advice: str | None = None) -> None:
        options = {"tag": f"step-{step}", "move_tag": True, "message": f"Step {step:,}", "advice": advice}
        push_model(folder_files(folder), self.repository, **options)

    def _report(self) -> None:
        """Logs the failure of the last one, if it failed."""
        if self._under_way is None:
            return
        step, future = self._under_way
        if (error := future.exception()) is not None:
            reason = " ".join(str(error).split())
            logger.warning("step %d was not published (%s); the next checkpoint will be", step, reason)
        self._under_way = None
