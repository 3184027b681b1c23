"""Two real processes against one: the same losses and the same gradients, for every network that is trained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_steps import ENCODER_CASES, GAN_CASES, run_all
from torch.testing import assert_close

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(Path(__file__).parent / "distributed_steps.py")]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"process-{i}.pt", weights_only=True) for i in range(2)]


@pytest.fixture(scope="module")
def one_process() -> dict:
    return run_all()


@pytest.mark.parametrize("case", [*GAN_CASES, *ENCODER_CASES])
def test_two_processes_step_as_one_with_the_whole_batch(case, one_process, two_processes):
    expected = one_process[case]
    assert any(name.endswith(".grad") and value.any() for name, value in expected.items())
    for found in two_processes:
        assert found[case].keys() == expected.keys()
        for name, value in expected.items():
            assert_close(found[case][name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_processes_stay_alike(two_processes):
    first, second = two_processes
    for case in (*GAN_CASES, *ENCODER_CASES):
        assert all(torch.equal(value, second[case][name]) for name, value in first[case].items())


def test_batches_of_different_sizes_are_refused(two_processes):
    for found in two_processes:
        assert "batches have 4 in 1 views, 3 in 1 views; all need the same number of rows" in found["unequal"]


def test_what_diverges_in_one_process_stops_all(one_process, two_processes):
    assert one_process["diverged"].startswith("TrainingDivergedError: step 1: d_adv is nan")
    assert [found["diverged"] for found in two_processes] == [one_process["diverged"]] * 2
