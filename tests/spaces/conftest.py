"""One server for all tests of the page, as a visitor's machine would meet it: a process of its own
on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "spaces" / "text_to_image"
PATIENCE = 300  # seconds, for a machine with much else to do
sys.path.insert(0, str(FOLDER))  # its files import each other as the app does


class Server:
    """A running page.

    Attributes:
        url: of the page.
        log: file with all that the process wrote.
        cache: folder of the files it serves.
    """

    def __init__(self, folder: Path, python: str = sys.executable, app: Path = FOLDER / "app.py", **environment: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log, self.cache = f"http://127.0.0.1:{port}", folder / "log.txt", folder / "cache"
        variables = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(self.cache), "HF_HUB_OFFLINE": "1"}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [python, app], env={**os.environ, **variables, **environment}, cwd=folder, stdout=log, stderr=log
            )
        for _ in range(10 * PATIENCE):
            try:
                urllib.request.urlopen(self.url, timeout=PATIENCE).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.1)
        raise RuntimeError(f"the page does not answer: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The page with the embedded models."""
    running = Server(tmp_path_factory.mktemp("space"))
    yield running
    running.stop()
