"""Signals: noted once, obeyed between two steps, and by all processes at the same one."""

import os
import signal
import time

import pytest
import torch
from accelerate import Accelerator
from training.conftest import assert_same_run, launch, launch_by_torchrun, newest

from t2i_supcon.training.stopping import StopSignal


def test_one_ctrl_c_is_noted_and_a_second_one_aborts(capfd):
    before = signal.getsignal(signal.SIGINT)
    with StopSignal(Accelerator()) as stop:
        assert stop.received() == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received() == signal.SIGINT and "again aborts" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) == before


def test_several_processes_stop_at_the_same_step_and_go_on(tmp_path):
    whole = launch_by_torchrun(tmp_path / "whole", "0")
    assert whole.returncode == 0, whole.stderr
    stopped = launch(tmp_path / "run", "5")  # the second process alone is signalled, in step 5
    assert stopped.returncode != 0 and "stopped by SIGTERM after step 5 of 9" in stopped.stdout, stopped.stderr
    state = newest(tmp_path / "run")
    assert state["step"] == 5 and [data["taken"] for data in state["data"]] == [5, 5]
    assert not torch.equal(state["rng"][0]["torch"], state["rng"][1]["torch"])
    assert launch(tmp_path / "run", "0").returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run", steps=9)
