"""A process of its own for what is measured, with its own way of getting memory from the system and
its own peak of it."""

import multiprocessing
from collections.abc import Callable


class Worker:
    """A process that answers whenever it is asked.

    Args:
        serve: what the process runs; it takes the end of a pipe and `arguments`, and sends an
            answer for each True it receives, until it receives False.
        arguments: of `serve`.
    """

    def __init__(self, serve: Callable[..., None], *arguments: object):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self) -> object:
        """One more answer."""
        self.pipe.send(True)
        return self.pipe.recv()

    def end(self) -> None:
        """Lets the process end, after the answers it still has to give."""
        self.pipe.send(False)
