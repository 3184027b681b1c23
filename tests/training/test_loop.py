"""Whole runs on a tiny dataset: what they leave behind, and that a stopped run goes on as if it had
not been."""

import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from conftest import TINY_IMAGE, TINY_TEXT, full_disk, states_equal, write_dataset
from forked import TIMEOUT, Forked
from PIL import Image
from training.conftest import assert_same_run, encoder_recipe, entries, gan_recipe, launch, newest
from transformers import AutoModel, AutoTokenizer

from t2i_supcon import training
from t2i_supcon.models import DAMSMModel, SSAGANForTextToImage
from t2i_supcon.training import train
from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from t2i_supcon.training.gan_phase import GANPhase
from t2i_supcon.training.guidance import TERMS
from t2i_supcon.training.loop import Run, Window
from t2i_supcon.training.phase import StepResult
from t2i_supcon.training.recipe import recipe_values
from t2i_supcon.training.stopping import StopSignal

ROOT = Path(__file__).parents[2]


def start(recipe, folder, *options):
    """The script as a process, in a process group of its own."""
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe_values(recipe)))
    command = [sys.executable, "scripts/train.py", "--recipe", path, "--output-dir", folder, *options]
    return Forked(command, cwd=ROOT, new_session=True)


def wait_for_step(process, folder, step):
    latest = time.monotonic() + TIMEOUT
    while not (folder / "metrics.jsonl").exists() or not any(e["step"] >= step for e in complete_entries(folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < latest, f"step {step} was not reached in {TIMEOUT} s"
        time.sleep(0.02)


def complete_entries(folder):
    return [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def test_both_phases_leave_everything_they_promise(tiny_data, phase1, phase2):
    printed = phase2.with_name("printed.txt").read_text()
    assert "not FID" in printed and "chance" in printed and str(phase2 / "model") in printed
    for folder, terms in (
        (phase1, {"words", "sent", "supcon"}),
        (phase2, {"d_adv", "d_magp", "g_adv", "words", "sent", "supcon"}),
    ):
        logged = entries(folder)
        assert [e["step"] for e in logged if "words" in e] == [2, 4, 6, 7]
        assert [e["step"] for e in logged if "eval/recall@1" in e] == [0, 4, 7]
        assert terms <= set().union(*logged)
        for name in ("metrics.png", "samples/step-00000004.png", "samples/step-00000007.png"):
            assert Image.open(folder / name).size > (100, 50)
    assert isinstance(AutoModel.from_pretrained(phase1 / "model"), DAMSMModel)
    model = SSAGANForTextToImage.from_pretrained(phase2 / "model")
    tokenizer = AutoTokenizer.from_pretrained(phase2 / "model")
    encoders = DAMSMModel.from_pretrained(phase1 / "model")
    for name, value in encoders.text_encoder.state_dict().items():
        assert torch.equal(value, model.text_encoder.state_dict()[name])  # frozen all the way
    checkpoint = load_checkpoint(list_checkpoints(phase2 / "checkpoints")[-1])
    for name, value in checkpoint["phase"]["modules"]["ema"].items():
        assert torch.equal(value, model.generator.state_dict()[name])
    assert model.generate(tokenizer(["a red star"], return_tensors="pt")["input_ids"]).images[-1].shape == (
        1,
        3,
        16,
        16,
    )
    with pytest.raises(FileExistsError, match="--resume"):
        train(gan_recipe(tiny_data, phase1 / "model"), phase2)


@pytest.mark.parametrize("data", [{}, {"streaming": True}, {"streaming": True, "workers": 1}])
@pytest.mark.parametrize("phase", ["encoders", "gan"])
def test_a_resumed_run_equals_one_never_stopped(tiny_data, phase1, phase2, tmp_path, phase, data):
    recipe = encoder_recipe(tiny_data) if phase == "encoders" else gan_recipe(tiny_data, phase1 / "model")
    assert recipe.data.flip
    whole, broken = phase1 if phase == "encoders" else phase2, tmp_path / "broken"
    if data:
        recipe, whole = replace(recipe, data=replace(recipe.data, **data)), tmp_path / "whole"
        train(recipe, whole)
    shutil.copytree(whole, broken)
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


def test_resume_with_other_sizes_is_refused(tiny_data, phase1, tmp_path):
    bigger = encoder_recipe(
        tiny_data, model_config={"text_config": {**TINY_TEXT, "embedding_dim": 9}, "image_config": TINY_IMAGE}
    )
    run = shutil.copytree(phase1, tmp_path / "run")
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    with pytest.raises(
        ValueError, match=r"model.text_encoder.embedding.weight has shape \(\d+, 7\) there and \(\d+, 9\) here"
    ):
        train(bigger, run, resume=True)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before


def test_resume_with_another_number_of_processes_is_refused(tiny_data, phase1, tmp_path):
    run = shutil.copytree(phase1, tmp_path / "run")
    newest = list_checkpoints(run / "checkpoints")[-1]
    state = load_checkpoint(newest)
    save_checkpoint(newest.parent, state["step"], state | {"rng": state["rng"] * 2, "data": state["data"] * 2}, keep=9)
    with pytest.raises(ValueError, match="written by 2 processes, and this run's number is 1: set --num_processes 2"):
        train(encoder_recipe(tiny_data), run, resume=True)


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
        tiny_data, steps=3000, log_every=1, checkpoint_every=1, keep_checkpoints=2, sample_every=3, eval_every=3
    )
    chance, folder, reached = random.Random(0), tmp_path / "run", 0
    for _ in range(3):
        process = start(recipe, folder, "--resume", "--tracker", "none")
        wait_for_step(process, folder, reached + chance.randint(1, 6))
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


def test_a_signal_during_an_evaluation_stops_the_run_behind_it(tiny_data, phase1, tmp_path, monkeypatch):
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
    assert_same_run(phase1, tmp_path / "run")


@pytest.mark.parametrize("phase", ["encoders", "gan"])
def test_a_run_in_pieces_equals_one_never_stopped(tiny_data, phase1, phase2, tmp_path, capsys, phase):
    recipe = encoder_recipe(tiny_data) if phase == "encoders" else gan_recipe(tiny_data, phase1 / "model")
    for part in (4, 1, 9):  # the first piece ends where samples, an evaluation and a best model are due
        capsys.readouterr()
        train(recipe, tmp_path / "pieces", resume=True, max_steps=part)
        if part < 9:
            assert (
                f"stopped after step {newest(tmp_path / 'pieces')['step']} of 7; the same command with --resume"
                in capsys.readouterr().out
            )
    assert_same_run(phase1 if phase == "encoders" else phase2, tmp_path / "pieces")


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


def test_what_a_stopped_run_owed_its_last_step_is_made_up_for(tiny_data, phase1, tmp_path, monkeypatch):
    recipe = encoder_recipe(tiny_data)
    at_step_4 = iter([0, 0, 0, signal.SIGTERM])
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(StopSignal, "received", lambda self: next(at_step_4))
        train(recipe, tmp_path / "run")
    assert stopped.value.code == 143
    assert [e["step"] for e in entries(tmp_path / "run") if "eval/recall@1" in e] == [0]
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(phase1, tmp_path / "run")
    assert (tmp_path / "run" / "samples" / "step-00000004.png").exists()


@pytest.mark.parametrize(("metric", "better"), [("recall@10", max), ("frechet_encoder", min), (None, None)])
def test_the_best_model_is_kept_and_named(tiny_data, phase1, tmp_path, monkeypatch, capsys, metric, better):
    recalls, evaluate = iter((0.9, 0.1, 0.3, 0.2, 0.3, 0.1, 0.25, 0.1)), GANPhase.evaluate
    if metric == "recall@10":  # so small an encoder finds as few after every step, but for chance
        monkeypatch.setattr(GANPhase, "evaluate", lambda phase: evaluate(phase) | {"recall@10": next(recalls)})
    recipe = gan_recipe(
        tiny_data,
        phase1 / "model",
        best_metric=metric,
        eval_every=1,
        checkpoint_every=1,
        generator_learning_rate=0.1,
        ema_decay=0.3,
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
    assert metric != "recall@10" or step == 2  # neither the untrained model nor a later one that is as good
    assert f"{best} (step {step}: {metric} {values[step]:.4g})" in printed
    saved = SSAGANForTextToImage.from_pretrained(best).generator.state_dict()
    ema = load_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{step:08d}")["phase"]["modules"]["ema"]
    assert states_equal(dict(saved), dict(ema))


def test_a_best_model_is_always_of_a_step_that_is_gone_on_from(tiny_data, phase1, tmp_path, monkeypatch):
    """Killed behind an evaluation, far from the next checkpoint."""
    options = {
        "best_metric": "recall@10",
        "eval_every": 2,
        "sample_every": 99,
        "checkpoint_every": 99,
        "log_every": 1,
        "steps": 5,
    }
    recipe = gan_recipe(tiny_data, phase1 / "model", **options)
    log_terms, evaluate, values = Run._log_terms, GANPhase.evaluate, iter((0.1, 0.2, 0.4, 0.3, 0.5))
    monkeypatch.setattr(GANPhase, "evaluate", lambda phase: evaluate(phase) | {"recall@10": next(values)})

    def die_at_3(run, bar):
        if run.step == 3:
            raise KeyboardInterrupt
        log_terms(run, bar)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_log_terms", die_at_3)
        train(recipe, tmp_path / "run")
    assert newest(tmp_path / "run")["step"] == 2 and (tmp_path / "run" / "best").exists()
    train(recipe, tmp_path / "run", resume=True)
    judged = {e["step"]: e["eval/recall@10"] for e in entries(tmp_path / "run") if "eval/recall@10" in e}
    assert judged == {0: 0.1, 2: 0.4, 4: 0.3, 5: 0.5}  # that of step 2 once more
    assert json.loads((tmp_path / "run" / "best" / "training.json").read_text())["step"] == 5


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


def test_the_best_model_is_chosen_by_either_number_of_a_measure(tiny_data, phase1, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    judge = {"features": f"encoder:{phase1 / 'model'}", "images": 20, "metrics": ["density_coverage"]}
    recipe = gan_recipe(tiny_data, phase1 / "model", evaluation=judge, best_metric="coverage", steps=2, eval_every=1)
    train(recipe, tmp_path / "run")
    printed = capsys.readouterr().out
    values = {e["step"]: e["eval/coverage"] for e in entries(tmp_path / "run") if "eval/coverage" in e}
    best = max((1, 2), key=values.get)
    assert f"{tmp_path / 'run' / 'best'} (step {best}: coverage {values[best]:.4g})" in printed
    assert re.search("^  density  .*untrained.*\n  coverage .*untrained", printed, re.MULTILINE)


def test_labels_that_no_training_row_has_are_refused_before_training(phase1, tmp_path, monkeypatch):
    monkeypatch.setenv("T2I_SUPCON_CACHE", str(tmp_path / "cache"))
    data = write_dataset(write_dataset(tmp_path / "data", [0, 1] * 8), [2, 3] * 8, "test")
    judge = {"features": f"encoder:{phase1 / 'model'}", "metrics": ["frechet", "label_accuracy"]}
    with pytest.raises(ValueError, match="no label of the held-out rows is among those of the training rows"):
        train(gan_recipe(data, phase1 / "model", evaluation=judge), tmp_path / "run", dry_run=True)
    assert not (tmp_path / "cache").exists()


def test_groups_choose_no_model_where_labels_have_none(tiny_data, phase1, tmp_path):
    judge = {"features": f"encoder:{phase1 / 'model'}", "metrics": ["label_accuracy"]}
    recipe = gan_recipe(tiny_data, phase1 / "model", evaluation=judge, best_metric="group_accuracy")
    with pytest.raises(ValueError, match="best_metric is 'group_accuracy', and data .* has no groups of labels"):
        train(recipe, tmp_path / "run", dry_run=True)


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


def test_a_recipe_that_ends_before_the_checkpoint_is_refused(tiny_data, phase1, tmp_path):
    run = shutil.copytree(phase1, tmp_path / "run")
    with pytest.raises(ValueError, match="the checkpoint is of step 7, and the recipe ends after 5 steps"):
        train(encoder_recipe(tiny_data, steps=5), run, resume=True)
