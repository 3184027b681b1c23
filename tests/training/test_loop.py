"""Whole runs on a tiny dataset: what they leave behind, and that a stopped run goes on as if it had
not been."""

import importlib
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import LoggerType
from conftest import CAPTIONS, TINY, TINY_IMAGE, TINY_TEXT, encoded, full_disk, picture, states_equal, write_dataset
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModel, AutoTokenizer

from t2i_supcon import training
from t2i_supcon.data import BrokenRowError, IndexedRows
from t2i_supcon.models import DAMSMConfig, DAMSMModel, SSAGANForTextToImage
from t2i_supcon.training import train
from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from t2i_supcon.training.guidance import TERMS
from t2i_supcon.training.loop import Window
from t2i_supcon.training.optimisation import take_step
from t2i_supcon.training.phase import StepResult
from t2i_supcon.training.recipe import parse_recipe, recipe_values
from t2i_supcon.training.stopping import StopSignal
from t2i_supcon.training.train import choose_precision

ROOT = Path(__file__).parents[2]
EVERY = {"log_every": 2, "sample_every": 4, "eval_every": 4, "checkpoint_every": 3, "keep_checkpoints": 9}


def encoder_recipe(folder, **changes):
    values = {
        "phase": "encoders",
        "model_config": {"text_config": TINY_TEXT, "image_config": TINY_IMAGE},
        "image_size": 16,
        "data": {"name": str(folder), "random_crop": True, "flip": True},
        "steps": 7,
        "batch_size": 8,
        "loss_weights": {"words": 1, "sent": 1, "supcon": 1},
        "lr_schedule": "cosine",
    }
    return parse_recipe(values | EVERY | changes)


def gan_recipe(data, encoders, **changes):
    values = {
        "phase": "gan",
        "model": "ssagan",
        "encoders": str(encoders),
        "model_config": TINY["ssagan"],
        "data": {"name": str(data)},
        "steps": 7,
        "batch_size": 8,
        "loss_weights": {"d_adv": 1, "d_magp": 1, "g_adv": 1, "words": 0.1, "sent": 0.1, "supcon": 0.1},
        "magp_every": 2,
        "ema_decay": 0.9,
        "augmentation": ["translation", "cutout"],
    }
    return parse_recipe(values | EVERY | changes)


@pytest.fixture
def phase1(tiny_data, tmp_path):
    train(encoder_recipe(tiny_data), tmp_path / "phase1")
    return tmp_path / "phase1"


def entries(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest(folder):
    return load_checkpoint(list_checkpoints(folder / "checkpoints")[-1])


def assert_same_run(*folders, steps=7):
    """The last checkpoints and all that was logged, but for the seconds it took."""
    a, b = map(newest, folders)
    for state in (a, b):
        state.pop("window")  # holds seconds; its sums are in the log
    assert a["step"] == steps and states_equal(a, b)
    plain = [
        [{name: value for name, value in e.items() if name != "rows_per_second"} for e in entries(folder)]
        for folder in folders
    ]
    assert plain[0] == plain[1]


def start(recipe, folder, *options):
    """The script as a process, in a process group of its own."""
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe_values(recipe)))
    command = [sys.executable, "scripts/train.py", "--recipe", path, "--output-dir", folder, *options]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True)


def wait_for_step(process, folder, step):
    while not (folder / "metrics.jsonl").exists() or not any(e["step"] >= step for e in complete_entries(folder)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def complete_entries(folder):
    return [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def test_both_phases_leave_everything_they_promise(tiny_data, phase1, tmp_path, capsys):
    recipe = gan_recipe(tiny_data, phase1 / "model")
    train(recipe, tmp_path / "phase2")
    printed = capsys.readouterr().out
    assert "not FID" in printed and "chance" in printed and str(tmp_path / "phase2" / "model") in printed
    for folder, terms in (
        (phase1, {"words", "sent", "supcon"}),
        (tmp_path / "phase2", {"d_adv", "d_magp", "g_adv", "words", "sent", "supcon"}),
    ):
        logged = entries(folder)
        assert [e["step"] for e in logged if "words" in e] == [2, 4, 6, 7]
        assert [e["step"] for e in logged if "eval/recall@1" in e] == [0, 4, 7]
        assert terms <= set().union(*logged)
        for name in ("metrics.png", "samples/step-00000004.png", "samples/step-00000007.png"):
            assert Image.open(folder / name).size > (100, 50)
    assert isinstance(AutoModel.from_pretrained(phase1 / "model"), DAMSMModel)
    model = SSAGANForTextToImage.from_pretrained(tmp_path / "phase2" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "phase2" / "model")
    encoders = DAMSMModel.from_pretrained(phase1 / "model")
    for name, value in encoders.text_encoder.state_dict().items():
        assert torch.equal(value, model.text_encoder.state_dict()[name])  # frozen all the way
    checkpoint = load_checkpoint(list_checkpoints(tmp_path / "phase2" / "checkpoints")[-1])
    for name, value in checkpoint["phase"]["modules"]["ema"].items():
        assert torch.equal(value, model.generator.state_dict()[name])
    assert model.generate(tokenizer(["a red star"], return_tensors="pt")["input_ids"]).images[-1].shape == (
        1,
        3,
        16,
        16,
    )
    with pytest.raises(FileExistsError, match="--resume"):
        train(recipe, tmp_path / "phase2")


@pytest.mark.parametrize("data", [{}, {"streaming": True}, {"streaming": True, "workers": 1}])
@pytest.mark.parametrize("phase", ["encoders", "gan"])
def test_a_resumed_run_equals_one_never_stopped(tiny_data, phase1, tmp_path, phase, data):
    recipe = encoder_recipe(tiny_data) if phase == "encoders" else gan_recipe(tiny_data, phase1 / "model")
    recipe = replace(recipe, data=replace(recipe.data, flip=True, **data))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole)
    train(recipe, broken)
    for path in list_checkpoints(broken / "checkpoints")[1:]:  # as if killed between steps 3 and 6
        shutil.rmtree(path)
    train(recipe, broken, resume=True)
    assert_same_run(whole, broken)


def test_the_scale_of_fp16_gradients_is_resumed(tiny_data, tmp_path, monkeypatch):
    class WithScaler(Accelerator):  # fp16 itself needs a GPU
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)

    recipe = encoder_recipe(tiny_data, checkpoint_every=3)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module("t2i_supcon.training.train"), "Accelerator", WithScaler)
        train(recipe, tmp_path / "whole")
        train(recipe, tmp_path / "parts", max_steps=3)
        train(recipe, tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert newest(tmp_path / "parts")["scaler"]["scale"] == 8.0 * 2**3
    with pytest.raises(ValueError, match="--mixed-precision"):
        train(recipe, tmp_path / "parts", resume=True)


def test_an_overflow_of_fp16_spoils_no_number_of_the_log():
    window = Window()
    for norm in (3.0, float("inf"), 5.0):
        window.add(
            StepResult({"words": torch.tensor(norm > 4).float()}, gradient_norms={"encoders": torch.tensor(norm)}),
            8,
            1.0,
        )
    window = Window(*window.state())
    window.add(StepResult(gradient_norms={"discriminator": torch.tensor(float("nan"))}), 8, 1.0)
    assert window.means() == {"words": pytest.approx(2 / 3), "grad_norm/encoders": 4.0}


def test_the_scale_of_fp16_gradients_and_skipped_updates_are_logged():
    class Skipping(torch.optim.SGD):
        step_was_skipped = True

    accelerator = SimpleNamespace(
        scaler=torch.amp.GradScaler("cpu", init_scale=8.0), unscale_gradients=lambda optimizer: None
    )
    weight = torch.nn.Parameter(torch.ones(1))
    (weight * float("inf")).backward()
    accelerator.scaler.scale(torch.zeros(1))
    values = take_step(accelerator, Skipping([weight]), StepResult({"words": torch.tensor(1.0)}), "encoders", 0)
    assert values.statistics["gradient_scale"] == 8 and values.statistics["skipped_encoders"] == 1
    assert values.gradient_norms["encoders"].isinf()


def test_resume_with_other_sizes_is_refused(tiny_data, phase1):
    bigger = encoder_recipe(
        tiny_data, model_config={"text_config": {**TINY_TEXT, "embedding_dim": 9}, "image_config": TINY_IMAGE}
    )
    before = sorted(path.name for path in (phase1 / "checkpoints").iterdir())
    with pytest.raises(
        ValueError, match=r"model.text_encoder.embedding.weight has shape \(\d+, 7\) there and \(\d+, 9\) here"
    ):
        train(bigger, phase1, resume=True)
    assert sorted(path.name for path in (phase1 / "checkpoints").iterdir()) == before


def test_resume_with_another_number_of_processes_is_refused(tiny_data, phase1):
    newest = list_checkpoints(phase1 / "checkpoints")[-1]
    state = load_checkpoint(newest)
    save_checkpoint(newest.parent, state["step"], state | {"rng": state["rng"] * 2, "data": state["data"] * 2}, keep=9)
    with pytest.raises(ValueError, match="written by 2 processes, and this run's number is 1: set --num_processes 2"):
        train(encoder_recipe(tiny_data), phase1, resume=True)


def test_sigterm_saves_after_the_step_and_says_how_to_go_on(tiny_data, tmp_path):
    recipe = encoder_recipe(
        tiny_data, steps=3000, log_every=1, checkpoint_every=3000, sample_every=9999, eval_every=9999
    )
    recipe = replace(recipe, data=replace(recipe.data, workers=1))
    process = start(recipe, tmp_path / "run", "--tracker", "none")
    wait_for_step(process, tmp_path / "run", 2)
    os.killpg(process.pid, signal.SIGTERM)  # the workers too, as torch's launcher does
    out, errors = process.communicate()
    assert process.returncode == 143, errors
    stopped = newest(tmp_path / "run")["step"]
    assert (
        f"stopped by SIGTERM after step {stopped:,} of 3,000; the same command with --resume goes on from "
        f"{tmp_path / 'run'}" in out
    )
    assert "Traceback" not in errors
    train(recipe, tmp_path / "run", resume=True, max_steps=3)
    train(recipe, tmp_path / "whole", max_steps=stopped + 3)
    assert_same_run(tmp_path / "whole", tmp_path / "run", steps=stopped + 3)


def test_killed_at_random_it_goes_on_from_a_complete_checkpoint(tiny_data, tmp_path):
    recipe = encoder_recipe(
        tiny_data, steps=3000, log_every=1, checkpoint_every=1, keep_checkpoints=2, sample_every=5, eval_every=5
    )
    chance, folder, reached = random.Random(0), tmp_path / "run", 0
    for _ in range(3):
        process = start(recipe, folder, "--resume", "--tracker", "none")
        wait_for_step(process, folder, reached + chance.randint(1, 12))
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        kept, reached = newest(folder)["step"], complete_entries(folder)[-1]["step"]
        assert kept >= reached - 2  # a step may be logged while its checkpoint is being written
    train(recipe, folder, resume=True, max_steps=3)
    train(recipe, tmp_path / "whole", max_steps=kept + 3)
    assert_same_run(tmp_path / "whole", folder, steps=kept + 3)


def test_a_full_disk_stops_the_run_which_goes_on_once_there_is_room(tiny_data, tmp_path):
    recipe = encoder_recipe(tiny_data, best_metric=None)
    train(recipe, tmp_path / "run", max_steps=4)
    before = (tmp_path / "run" / "checkpoints" / "step-00000004" / "state.pt").read_bytes()
    with (
        full_disk(len(before) // 2),
        pytest.raises(OSError, match="step-00000006 could not be written: File too large"),
    ):
        train(recipe, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "checkpoints" / "step-00000004" / "state.pt").read_bytes() == before
    with open(tmp_path / "run" / "metrics.jsonl", "a") as log:
        log.write('{"step": 6, "words": 1')  # as far as there was room
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("room", "tracker", "named"),
    [(3, None, "recipe.yaml"), (1_500, None, "metrics.jsonl"), (1_500, "tensorboard", "(metrics.jsonl|tensorboard)")],
)
def test_a_full_disk_is_named_by_whatever_is_written(tiny_data, tmp_path, capfd, room, tracker, named):
    recipe = encoder_recipe(tiny_data, log_every=1, sample_every=99, eval_every=99, checkpoint_every=99)
    train(recipe, tmp_path / "first", max_steps=1)  # writes what is kept of the data
    capfd.readouterr()
    with (
        full_disk(room),
        pytest.raises(
            OSError, match=f"{named} could not be written: File too large; complete checkpoints are untouched"
        ),
    ):
        train(recipe, tmp_path / "run", tracker=tracker)
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_killed_in_its_evaluation_has_saved_the_step(tiny_data, tmp_path, monkeypatch):
    class Killed(BaseException):
        """What no handler of the program sees."""

    def killed(phase):
        if phase.step == 4:
            raise Killed
        return {"recall@1": 0.5, "recall@10": 0.5}

    recipe = encoder_recipe(tiny_data, checkpoint_every=4)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("t2i_supcon.training.EncoderPhase.evaluate", killed)
        train(recipe, tmp_path / "run")
    assert newest(tmp_path / "run")["step"] == 4
    train(recipe, tmp_path / "run", resume=True)
    assert [e["step"] for e in entries(tmp_path / "run") if "eval/recall@1" in e] == [0, 4, 7]


def test_a_signal_during_an_evaluation_stops_the_run_behind_it(tiny_data, tmp_path, monkeypatch):
    evaluate = training.EncoderPhase.evaluate

    def signalled(phase):
        if phase.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(phase)

    recipe = encoder_recipe(tiny_data)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="143"):
        patch.setattr("t2i_supcon.training.EncoderPhase.evaluate", signalled)
        train(recipe, tmp_path / "run")
    assert newest(tmp_path / "run")["step"] == 4
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


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


@pytest.mark.parametrize("phase", ["encoders", "gan"])
def test_a_run_in_pieces_equals_one_never_stopped(tiny_data, phase1, tmp_path, capsys, phase):
    recipe = encoder_recipe(tiny_data) if phase == "encoders" else gan_recipe(tiny_data, phase1 / "model")
    train(recipe, tmp_path / "whole")
    for part in (4, 1, 9):  # the first piece ends where samples, an evaluation and a best model are due
        capsys.readouterr()
        train(recipe, tmp_path / "pieces", resume=True, max_steps=part)
        if part < 9:
            assert (
                f"stopped after step {newest(tmp_path / 'pieces')['step']} of 7; the same command with --resume"
                in capsys.readouterr().out
            )
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")


def launch(folder, *arguments):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, Path(__file__).with_name("several_processes.py"), folder, *arguments]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_processes_that_find_different_checkpoints_say_so(tmp_path):
    for rank in range(2):  # folders of the same path on two machines that share no disk
        (tmp_path / f"run-{rank}" / "checkpoints").mkdir(parents=True)
    save_checkpoint(tmp_path / "run-0" / "checkpoints", 4, {"step": 4}, keep=1)
    refused = launch(tmp_path / "run-{rank}", "0")
    assert refused.returncode != 0
    assert (
        "the processes find different checkpoints" in refused.stderr
        and "step-00000004, None): give all machines one shared" in refused.stderr
    )


def test_several_processes_stop_at_the_same_step_and_go_on(tmp_path):
    whole = launch(tmp_path / "whole", "0")
    assert whole.returncode == 0, whole.stderr
    stopped = launch(tmp_path / "run", "5")  # the second process alone is signalled, in step 5
    assert stopped.returncode != 0 and "stopped by SIGTERM after step 5 of 9" in stopped.stdout, stopped.stderr
    state = newest(tmp_path / "run")
    assert state["step"] == 5 and [data["taken"] for data in state["data"]] == [5, 5]
    assert not torch.equal(state["rng"][0]["torch"], state["rng"][1]["torch"])
    assert launch(tmp_path / "run", "0").returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run", steps=9)


def test_what_a_stopped_run_owed_its_last_step_is_made_up_for(tiny_data, tmp_path, monkeypatch):
    recipe = encoder_recipe(tiny_data)
    train(recipe, tmp_path / "whole")
    at_step_4 = iter([0, 0, 0, signal.SIGTERM])
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(StopSignal, "received", lambda self: next(at_step_4))
        train(recipe, tmp_path / "run")
    assert stopped.value.code == 143
    assert [e["step"] for e in entries(tmp_path / "run") if "eval/recall@1" in e] == [0]
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert (tmp_path / "run" / "samples" / "step-00000004.png").exists()


@pytest.mark.parametrize(("metric", "better"), [("recall@10", max), ("frechet_encoder", min), (None, None)])
def test_the_best_model_is_kept_and_named(tiny_data, phase1, tmp_path, capsys, metric, better):
    recipe = gan_recipe(
        tiny_data, phase1 / "model", best_metric=metric, eval_every=1, checkpoint_every=1, generator_learning_rate=0.03
    )
    capsys.readouterr()
    train(recipe, tmp_path / "run")
    printed, best = capsys.readouterr().out, tmp_path / "run" / "best"
    if metric is None:
        assert not best.exists() and "\nbest" not in printed
        return
    values = {
        e["step"]: e[f"eval/{metric}"] for e in entries(tmp_path / "run") if e["step"] > 0 and f"eval/{metric}" in e
    }
    step = better(values, key=values.get)
    assert len(set(values.values())) > 1, values
    assert f"{best} (step {step}: {metric} {values[step]:.4g})" in printed
    saved = SSAGANForTextToImage.from_pretrained(best).generator.state_dict()
    ema = load_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{step:08d}")["phase"]["modules"]["ema"]
    assert states_equal(dict(saved), dict(ema))


def test_a_network_that_took_no_part_judges_and_chooses_the_best(tiny_data, phase1, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    judge = {"features": f"encoder:{phase1 / 'model'}", "images": 20, "metrics": ["frechet", "kid"]}
    recipe = gan_recipe(tiny_data, phase1 / "model", evaluation=judge, best_metric="kid")
    train(recipe, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "20 pictures of held-out captions in encoder features, which took no part" in printed
    values = {e["step"]: e["eval/kid"] for e in entries(tmp_path / "run") if "eval/kid" in e}
    assert sorted(values) == [0, 4, 7] and "eval/frechet_training_images" in entries(tmp_path / "run")[-1]
    best = min((4, 7), key=values.get)
    assert f"{tmp_path / 'run' / 'best'} (step {best}: kid {values[best]:.4g})" in printed


def test_looking_at_a_run_does_not_change_it(tiny_data, phase1, tmp_path):
    seldom = gan_recipe(tiny_data, phase1 / "model", best_metric=None, sample_every=99, eval_every=99, log_every=99)
    train(seldom, tmp_path / "seldom")
    train(
        replace(seldom, best_metric="recall@1", sample_every=1, eval_every=1, log_every=1),
        tmp_path / "often",
        tracker="tensorboard",
    )
    a, b = (newest(tmp_path / run) for run in ("seldom", "often"))
    assert states_equal(a["phase"], b["phase"]) and states_equal(a["rng"], b["rng"])


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tiny_data, tmp_path, monkeypatch):
    recipe = encoder_recipe(tiny_data, learning_rate=1.0)
    calls = iter(range(1, 9))

    words = TERMS["words"]

    def spoilt(*arguments):
        return words.loss(*arguments) * (float("nan") if next(calls) == 4 else 1.0)

    monkeypatch.setitem(TERMS, "words", words._replace(loss=spoilt))
    with pytest.raises(
        FloatingPointError, match="step 4: words is nan; .*step-00000003 is from before: --resume goes on there"
    ):
        train(recipe, tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000003"]
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_weights_that_are_not_finite_are_never_saved(tiny_data, tmp_path, monkeypatch):
    def ruin(phase, batch):
        phase.towers.text_encoder.embedding.weight.data[0, 0] = float("inf")
        phase.step += 1
        return StepResult({"words": torch.tensor(1.0)})

    monkeypatch.setattr("t2i_supcon.training.EncoderPhase.train_step", ruin)
    with pytest.raises(
        FloatingPointError, match="weights of text_encoder are not finite after step 3. there is no checkpoint yet"
    ):
        train(encoder_recipe(tiny_data), tmp_path / "run")


def test_tensorboard_shows_what_the_log_holds(tiny_data, tmp_path):
    train(encoder_recipe(tiny_data), tmp_path / "run", tracker="tensorboard", max_steps=5)
    train(encoder_recipe(tiny_data), tmp_path / "run", tracker="tensorboard", resume=True)
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [image.step for image in shown.Images("samples")] == [4, 7]
    for name in ("words", "supcon", "rows_per_second", "eval/recall@1"):
        logged = [(e["step"], e[name]) for e in entries(tmp_path / "run") if name in e]
        assert [(e.step, e.value) for e in shown.Scalars(name)] == [
            (step, pytest.approx(value)) for step, value in logged
        ]


@pytest.mark.parametrize(
    ("name", "message"),
    [("wandb", "'wandb' is not installed: pip install wandb"), ("tensorbord", "'tensorbord' is unknown")],
)
def test_trackers_that_cannot_be_used_are_refused(tiny_data, tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("t2i_supcon.training.log.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    with pytest.raises(ValueError, match=f"tracker {message}.*; installed: tensorboard"):
        train(encoder_recipe(tiny_data), tmp_path / "run", tracker=name)
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_ends_before_the_checkpoint_is_refused(tiny_data, phase1):
    with pytest.raises(ValueError, match="the checkpoint is of step 7, and the recipe ends after 5 steps"):
        train(encoder_recipe(tiny_data, steps=5), phase1, resume=True)


def test_the_baseline_runs_the_same_code_without_pairs(tiny_data, tmp_path):
    train(
        encoder_recipe(tiny_data, sampling="independent", loss_weights={"words": 1, "sent": 1}, steps=2),
        tmp_path / "run",
    )
    assert not any("supcon" in e for e in entries(tmp_path / "run"))


def test_a_broken_image_stops_with_its_name_and_keeps_the_checkpoint(tmp_path):
    recipe = encoder_recipe(
        tmp_path / "bad", steps=9, batch_size=4, checkpoint_every=1, sampling="independent", loss_weights={"sent": 1}
    )
    order = [item.row for _, item in IndexedRows([0] * 8, recipe.seed, pairs=False).epoch(0)]
    broken = order[5]  # of the second step
    images = [b"broken" if row == broken else encoded(picture(row)) for row in range(8)]
    write_dataset(tmp_path / "bad", [0] * 8, images=images)
    write_dataset(tmp_path / "bad", [0] * 100, "test")
    message = f"train-00000-of-00001.parquet, row {broken}: train-{broken}: the image cannot be decoded"
    with pytest.raises(BrokenRowError, match=message):
        train(recipe, tmp_path / "run")
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000001"]


def test_broken_rows_within_the_share_stop_neither_training_nor_evaluations(tmp_path):
    """A training and a held-out row with a broken image, and a held-out row of unknown words."""
    for split, n in (("train", 24), ("test", 110)):
        images, captions = [encoded(picture(i)) for i in range(n)], [[CAPTIONS[i % 4]] for i in range(n)]
        images[3] = images[3][:60]
        if split == "test":
            captions[9] = ["zebra"]
        write_dataset(tmp_path / "data", [i % 3 for i in range(n)], split, captions, images)
    data = {"name": str(tmp_path / "data"), "max_broken_share": 0.1}
    train(encoder_recipe("", data=data, steps=1), tmp_path / "phase1")
    recipe = gan_recipe(tmp_path / "data", tmp_path / "phase1" / "model", steps=1)
    train(replace(recipe, data=replace(recipe.data, max_broken_share=0.1, streaming=True)), tmp_path / "phase2")
    for folder in ("phase1", "phase2"):
        assert {"eval/recall@1", "step"} <= entries(tmp_path / folder)[-1].keys()
    with pytest.raises(
        BrokenRowError, match=r"test-00000-of-00001.parquet, row 3: test-3: the image cannot be decoded"
    ):
        train(encoder_recipe(tmp_path / "data", steps=1), tmp_path / "strict")


def test_the_learning_rate_follows_the_schedule(tiny_data, phase1):
    """A checkpoint holds the rate of the step before it."""
    states = [load_checkpoint(path) for path in list_checkpoints(phase1 / "checkpoints")]
    assert [state["step"] for state in states] == [3, 6, 7]
    rates = [state["phase"]["optimizer"]["param_groups"][0]["lr"] for state in states]
    assert rates == pytest.approx([2e-3 * (1 + math.cos(math.pi * taken / 7)) / 2 for taken in (2, 5, 6)])


def test_frozen_trunk_keeps_its_weights(tiny_data, tmp_path):
    train(encoder_recipe(tiny_data, train_trunk=False), tmp_path / "run")
    first, last = (
        load_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[i])["phase"]["model"] for i in (0, -1)
    )
    changed = [key for key in first if key.endswith("weight") and not torch.equal(first[key], last[key])]
    moved = {re.sub(r"\..*", "", key.removeprefix("image_encoder.")) for key in changed}
    assert moved == {"text_encoder", "region_head", "image_head"}


def test_a_dry_run_shows_the_plan_and_trains_nothing(tiny_data, tmp_path, capsys):
    train(encoder_recipe(tiny_data, steps=6, batch_size=4, gradient_accumulation=2), tmp_path / "run", dry_run=True)
    printed = capsys.readouterr().out
    assert "precision: float32 on cpu" in printed
    model = DAMSMModel(DAMSMConfig(text_config={**TINY_TEXT, "vocab_size": 14}, image_config=TINY_IMAGE))
    assert f"{sum(p.numel() for p in model.image_encoder.parameters()):,} parameters" in printed
    assert "6 steps of 8 rows (pairs): 2.0 epochs of 24 rows" in printed
    assert "activations not included" in printed
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["first-batch.png"]


@pytest.mark.parametrize(
    ("asked", "launched", "gpu", "chosen"),
    [
        ("auto", None, False, "no"),
        ("auto", "no", True, "bf16"),  # the launcher says "no" by itself
        ("auto", "fp16", True, "fp16"),
        ("no", "bf16", True, "no"),
        ("fp16", "no", True, "fp16"),
    ],
)
def test_bf16_is_the_default_on_a_gpu(monkeypatch, asked, launched, gpu, chosen):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: gpu and not including_emulation)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert choose_precision(asked) == chosen
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_precision("auto") == (launched if launched == "fp16" or launched == "bf16" else "no")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_with_columns_of_its_own_trains_without_preparation(tmp_path, streaming):
    for split, n in (("train", 24), ("test", 100)):
        (tmp_path / "own" / split).mkdir(parents=True)
        with open(tmp_path / "own" / split / "metadata.jsonl", "w") as table:
            for i in range(n):
                picture(i).save(tmp_path / "own" / split / f"{i}.png")
                table.write(
                    json.dumps({"file_name": f"{i}.png", "text": CAPTIONS[i % 4], "kinds": ["abc"[i % 3], "d"]}) + "\n"
                )
    data = {
        "name": str(tmp_path / "own"),
        "caption_column": "text",
        "label_column": None,
        "labels_column": "kinds",
        "streaming": streaming,
    }
    recipe = encoder_recipe("", data=data, positives="jaccard", steps=4, eval_rows=100)
    train(recipe, tmp_path / "run")
    assert entries(tmp_path / "run")[-2]["supcon"] > 0
    resumed = replace(recipe, steps=5)
    train(resumed, tmp_path / "run", resume=True)
    assert entries(tmp_path / "run")[-1]["step"] == 5


def test_pairs_need_labels(tmp_path, tiny_data):
    with pytest.raises(ValueError, match="no labels to pair on: name their column in data.label_column"):
        train(
            encoder_recipe(tiny_data, data={"name": str(tiny_data), "label_column": None, "labels_column": None}),
            tmp_path / "run",
        )


def test_a_dry_run_counts_the_memory_that_training_holds(tiny_data, phase1, tmp_path, capsys):
    recipe = gan_recipe(tiny_data, phase1 / "model", steps=1, model_config={**TINY["ssagan"], "generator_channels": 32})
    capsys.readouterr()
    train(recipe, tmp_path / "run", dry_run=True)
    printed = capsys.readouterr().out
    train(recipe, tmp_path / "run")
    state = newest(tmp_path / "run")["phase"]
    encoders = DAMSMModel.from_pretrained(phase1 / "model")
    frozen = [*encoders.text_encoder.state_dict().values(), *encoders.image_encoder.state_dict().values()]
    weights = sum(x.nbytes for x in frozen) + sum(
        x.nbytes for module in state["modules"].values() for x in module.values()
    )
    moments = sum(
        x.nbytes for adam in state["optimizers"] for own in adam["state"].values() for x in own.values() if x.ndim
    )
    held = (
        f"weights {weights / 2**20:,.1f} + gradients {moments / 2 / 2**20:,.1f} + Adam's moments {moments / 2**20:,.1f}"
    )
    assert moments > 2 * 2**20
    assert f"memory of each process: {(weights + 1.5 * moments) / 2**20:,.1f} MiB = {held}" in printed
