"""Two real processes against one: the same losses and the same gradients, for every network that is
trained."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest
import torch
from accelerate.utils import DistributedType
from conftest import states_equal, write_dataset
from torch.testing import assert_close
from training.distributed_steps import ENCODER_CASES, GAN_CASES, run_all

from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint
from t2i_supcon.training.distributed import prepare_network


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Path:
    """What two processes left behind."""
    folder = tmp_path_factory.mktemp("processes")
    write_dataset(folder / "data", [i % 3 for i in range(24)], row_group=7)
    write_dataset(folder / "data", [i % 3 for i in range(100)], "test")
    done = forked.run_together([sys.executable, Path(__file__).with_name("distributed_steps.py"), folder])
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def two_processes(launched) -> list[dict]:
    """What each of them found."""
    return [torch.load(launched / f"process-{i}.pt", weights_only=True) for i in range(2)]


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
    assert one_process["diverged"].startswith("FloatingPointError: step 1: d_adv is nan")
    assert [found["diverged"] for found in two_processes] == [one_process["diverged"]] * 2


@pytest.mark.parametrize("phase", ["encoders", "gan"])
def test_a_run_of_two_processes_resumes_exactly(launched, phase):
    logs, checkpoints = [], []
    for run in ("whole", "parts"):
        folder = launched / f"{phase}-{run}"
        entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        logs.append([{name: value for name, value in e.items() if name != "rows_per_second"} for e in entries])
        checkpoints.append(load_checkpoint(list_checkpoints(folder / "checkpoints")[-1]))
        assert (folder / "model" / "model.safetensors").exists() and len(checkpoints[-1]["rng"]) == 2
        assert [state["rows"] for state in checkpoints[-1]["data"]] == [4 * 2 * 4] * 2  # steps, micro-batches, rows
    assert logs[0] == logs[1] and [e["step"] for e in logs[0] if "supcon" in e] == [1, 2, 3, 4]
    assert not torch.equal(*(state["torch"] for state in checkpoints[0]["rng"]))  # each process draws its own noise
    for state in checkpoints:
        del state["seconds"], state["window"]  # which holds seconds; its sums are in the log
    assert states_equal(*checkpoints)


@pytest.mark.parametrize(("kind", "processes"), [(DistributedType.FSDP, 1), (DistributedType.XLA, 4)])
def test_launches_that_would_train_something_else_are_refused(kind, processes, encoders):
    """What such a launch makes of the accelerator, without the machines for it."""
    launched = SimpleNamespace(distributed_type=kind, num_processes=processes)
    with pytest.raises(ValueError, match=f"launched as {kind.value}; every process trains whole networks here"):
        prepare_network(encoders, launched, sync_batch_norm=True)
