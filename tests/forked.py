"""Scripts as processes of their own that start at once.

A new interpreter needs seconds for torch and transformers. A process forked from the tests' has
them loaded; it is one of its own in all else: its environment, folder, files, signals and exit
code, and the script runs from its first line.
"""

import concurrent.futures.thread
import logging
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from accelerate.state import AcceleratorState, GradientState

FORK = multiprocessing.get_context("fork")
TIMEOUT = 300  # seconds


class Forked:
    """`[sys.executable, script, *arguments]`, as `subprocess.Popen` would start it, output and all.

    Args:
        command: whose first word is passed over.
        cwd: its folder; that of the tests when absent.
        env: all of its environment; that of the tests when absent.
        new_session: make it the leader of a process group.
        stdout: a file for all that it writes, in place of what `communicate` returns.
        stderr: `subprocess.STDOUT`, beside a file.
    """

    def __init__(
        self,
        command: Sequence[object],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        new_session: bool = False,
        stdout: IO[str] | None = None,
        stderr: int | None = None,
    ):
        self.command = [str(word) for word in command]
        self.files = [tempfile.TemporaryFile("w+") for _ in range(2)] if stdout is None else [stdout, stdout]
        self.process = FORK.Process(target=self._child, args=(cwd, env, new_session))
        self.process.start()
        self.pid, self.kill, self.terminate = self.process.pid, self.process.kill, self.process.terminate

    def _child(self, cwd: Path | None, env: Mapping[str, str] | None, new_session: bool) -> None:
        if new_session:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, file in zip((1, 2), self.files):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
        concurrent.futures.thread._threads_queues.clear()  # threads that are not here, which its exit would wait for
        logging.getLogger().handlers.clear()  # pytest's, which show nothing here
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        if cwd is not None:
            os.chdir(cwd)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        sys.argv = self.command[1:]
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")

    @property
    def returncode(self) -> int | None:
        """None while it runs, negative for the signal that ended it."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self) -> int | None:
        """Waits for its end; its exit code."""
        self.process.join()
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Waits for its end; what it wrote to stdout and stderr."""
        self.process.join(TIMEOUT)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"{' '.join(self.command)} did not end in {TIMEOUT} s")
        written = []
        for file in self.files:
            file.seek(0)
            written.append(file.read())
            file.close()
        return written[0], written[1]


def run(command: Sequence[object], check: bool = False, **options) -> subprocess.CompletedProcess:
    """As `subprocess.run` does, and what it wrote in the result."""
    out, errors = (process := Forked(command, **options)).communicate()
    done = subprocess.CompletedProcess(process.command, process.returncode, out, errors)
    if check:
        done.check_returncode()
    return done


def run_together(command: Sequence[object], processes: int = 2) -> subprocess.CompletedProcess:
    """A script in several processes on the CPU that know each other, as torchrun starts them; what
    they wrote, and the exit code of the first that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    started = [
        Forked(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    written = [process.communicate() for process in started]
    codes = [process.returncode for process in started if process.returncode]
    out, errors = ("".join(part) for part in zip(*written))
    return subprocess.CompletedProcess(started[0].command, codes[0] if codes else 0, out, errors)
