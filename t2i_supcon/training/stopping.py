"""Stopping a run from outside, between two steps."""

import os
import signal
import threading

import torch
from accelerate import Accelerator

NOTICE = b"\nstopping after this step; Ctrl-C again aborts at once\n"


class StopSignal:
    """Notes SIGTERM and Ctrl-C while entered, instead of dying of them; a second Ctrl-C interrupts
    at once.

    Args:
        accelerator: of this process; several processes stop together when any of them is signalled.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._number = 0

    def __enter__(self) -> "StopSignal":
        # Python gives signals to no other thread
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT) if in_main_thread
        }
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self._number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.accelerator.is_main_process:
            os.write(2, NOTICE)  # print may not be called here: the signal may have interrupted another print

    def received(self) -> int:
        """The number of the signal to stop for, or 0: the same in all processes, which call this
        after each step."""
        if self.accelerator.num_processes == 1:
            return self._number
        noted = torch.tensor(float(self._number > 0), device=self.accelerator.device)
        stops = self.accelerator.reduce(noted, "sum") > 0
        return (self._number or int(signal.SIGTERM)) if stops else 0
