"""The training loop: progress, logs, samples, evaluation, checkpoints, stop and resume, for any
`Phase`.
"""

import atexit
import hashlib
import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from ..data import Batches
from ..figures import labelled_grid, plot_metrics
from ..files import only_user, recover_folder, remove_partial_files
from .checkpoint import (
    list_checkpoints,
    load_checkpoint,
    restore_rng,
    rng_state,
    save_checkpoint,
    save_model,
    writing,
)
from .log import EVALUATION, METRICS, SAMPLES, RunLog
from .phase import Phase, StepResult
from .provenance import write_provenance
from .recipe import Recipe, fixed_values, recipe_values
from .stopping import StopSignal
from .uploads import Uploads

CHECKPOINTS, MODEL, BEST, CURVES, RECIPE = "checkpoints", "model", "best", "metrics.png", "recipe.yaml"


def run(
    phase: Phase,
    make_batches: Callable[[dict | None], Batches],
    recipe: Recipe,
    accelerator: Accelerator,
    folder: Path,
    resume: bool = False,
    max_steps: int | None = None,
    push_to_hub: str | None = None,
) -> None:
    """Trains `phase` for the recipe's steps.

    Leaves in `folder`: `model/` and `best/` (to load with from_pretrained), `recipe.yaml`,
    `metrics.jsonl`, `metrics.png`, `samples/` and `checkpoints/`.

    Args:
        make_batches: gives the endless batches of this process, from the start or behind a state of
            theirs.
        resume: go on from the newest checkpoint in `folder`, if it holds one.
        max_steps: stop after so many steps of this call at the latest, with a checkpoint, as if
            stopped by a signal.
        push_to_hub: repository of the Hub that gets every checkpoint's model and the finished one;
            see `Uploads`.

    Raises:
        FileExistsError: `folder` holds a run already and `resume` is not set, or a model that is no
            run's; or another run is writing into it.
        ValueError: the checkpoint does not fit the recipe, the number of processes or the device.
        OSError: something cannot be written, and the checkpoints are as they were; or the Hub
            refuses, at the start or for the finished model.
        FloatingPointError: a loss term or a weight is not finite; no checkpoint holds it.
        SystemExit: SIGTERM (code 143) or Ctrl-C (code 130) stopped the run, after a checkpoint.
    """
    check_folder(folder, resume)
    publishes = push_to_hub is not None and accelerator.is_main_process
    uploads = Uploads(push_to_hub, folder) if publishes else None
    try:
        with only_user(folder) if accelerator.is_main_process else nullcontext():
            Run(phase, make_batches, recipe, accelerator, folder, uploads).train(max_steps)
    except FloatingPointError as error:
        checkpoints = list_checkpoints(folder / CHECKPOINTS)
        kept = (
            f"{checkpoints[-1]} is from before: --resume goes on there" if checkpoints else "there is no checkpoint yet"
        )
        raise FloatingPointError(
            f"{error}. {kept}, with something changed, or the same happens again: a lower learning rate or "
            "weight of that term, max_grad_norm, "
            "or --mixed-precision no"
        ) from error


def check_folder(folder: Path, resume: bool) -> None:
    """Refuses to write over what is there.

    A run that ended before its first checkpoint left nothing to go on from: its folder may be used
    again.

    Raises:
        FileExistsError: `folder` holds checkpoints and `resume` is not set, or a model without any.
    """
    if list_checkpoints(folder / CHECKPOINTS):
        if not resume:
            raise FileExistsError(
                f"{folder} holds a run already: add --resume to go on with it, or choose another --output-dir"
            )
        return
    for name in (MODEL, BEST):
        if (folder / name).exists():
            raise FileExistsError(
                f"{folder / name} is of no run that could be resumed, and would be replaced: choose another "
                "--output-dir"
            )


class Run:
    """A run under way: what `run` was given, and what its checkpoints hold.

    Attributes:
        reviewed: the step whose samples and evaluation are done.
        best: step and value of the best evaluation, by the recipe's `best_metric`.
        images_seen: rows of all processes that were trained on, but for those in `window`.
        seconds: how long these steps took.
        window: what happened since the last line of the log.
    """

    def __init__(
        self,
        phase: Phase,
        make_batches: Callable[[dict | None], Batches],
        recipe: Recipe,
        accelerator: Accelerator,
        folder: Path,
        uploads: Uploads | None = None,
    ):
        self.phase = phase
        self.uploads = uploads
        self.recipe = recipe
        self.accelerator = accelerator
        self.folder = folder
        self.reviewed = -1
        self.best: list | None = None
        self.images_seen, self.seconds = 0, 0.0
        self.window = Window()
        self.batches = make_batches(self._restore())
        self.log: RunLog | None = None
        if accelerator.is_main_process:
            for name in (MODEL, BEST):
                recover_folder(folder / name)
            for name in ("", CHECKPOINTS, f"{CHECKPOINTS}/*"):
                remove_partial_files(folder, name)
            self.log = RunLog(folder, accelerator, recipe, self.step, self.reviewed == self.step)
            with writing(folder / RECIPE):
                (folder / RECIPE).write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False), encoding="utf-8")

    @property
    def step(self) -> int:
        """How many steps were taken, which the phase counts."""
        return self.phase.step

    def train(self, max_steps: int | None) -> None:
        """Takes the steps that are left, or `max_steps` of them."""
        until = self.recipe.steps if max_steps is None else min(self.recipe.steps, self.step + max_steps)
        try:
            with StopSignal(self.accelerator) as stop, self._progress_bar() as bar:
                number = self._take_steps(until, stop, bar)
            if self.step == self.recipe.steps and not number:
                self._finish()
            else:
                self._say_how_to_go_on(f"stopped by {signal.Signals(number).name}" if number else "stopped")
        finally:
            if self.log is not None:
                self.log.close()
        self.accelerator.wait_for_everyone()
        # not after an error, when the others may wait for this process
        atexit.register(self.accelerator.state.destroy_process_group)
        if number:
            raise SystemExit(128 + number)

    def _take_steps(self, until: int, stop: StopSignal, bar: tqdm) -> int:
        """Trains up to a step, which ends in a checkpoint; returns the signal that stopped it
        before, or 0."""
        endless = iter(self.batches)
        if self._review_is_due():
            self._review(bar)
            if self.step == self.recipe.steps:  # killed in its last evaluation, which the last checkpoint tells of
                self._save()
        while self.step < until:
            started = time.perf_counter()
            micro_batches = [next(endless) for _ in range(self.accelerator.gradient_accumulation_steps)]
            rows = sum(map(len, micro_batches)) * self.accelerator.num_processes
            self.window.add(self.phase.train_step(*micro_batches), rows, time.perf_counter() - started)
            bar.update()
            if self.step % self.recipe.log_every == 0 or self.step == self.recipe.steps:
                self._log_terms(bar)
            if number := stop.received():
                self._save()
                return number
            due = self.step % self.recipe.checkpoint_every == 0 or self.step == until
            if self._review_is_due():
                may_be_best = self.recipe.best_metric is not None and self._comes_at(self.recipe.eval_every)
                if due or may_be_best:  # a resumed run has to pass the step of the best model, too
                    self._save()  # a review may take minutes, in which the process may be killed
                self._review(bar)
                if number := stop.received():
                    self._save()
                    return number
            if due:
                self._save()
                if self.uploads is not None and self.step < self.recipe.steps:  # the last one is published as finished
                    self.uploads.checkpoint(self.step, self._save_model)
        return 0

    def _progress_bar(self) -> tqdm:
        shown = self.accelerator.is_main_process
        return tqdm(total=self.recipe.steps, initial=self.step, unit="step", disable=not shown, dynamic_ncols=True)

    def _log_terms(self, bar: tqdm) -> None:
        if self.accelerator.is_main_process:
            means = self.window.means()
            rate = self.window.rows / self.window.seconds
            self.log.write(self.step, {**means, "rows_per_second": round(rate, 1)})
            terms = " ".join(f"{name} {means[name]:.3g}" for name in self.window.terms if name in means)
            bar.set_postfix_str(f"{terms} {rate:.0f} rows/s")
        self.images_seen += self.window.rows
        self.seconds += self.window.seconds
        self.window = Window()

    def _comes_at(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.recipe.steps

    def _review_is_due(self) -> bool:
        return self.reviewed != self.step and (
            self._comes_at(self.recipe.sample_every) or self._comes_at(self.recipe.eval_every)
        )

    def _review(self, bar: tqdm) -> None:
        """Samples and evaluation, where this step is due for them."""
        bar.set_description_str("evaluating" if self.step else "evaluating the untrained model")
        if self.accelerator.is_main_process and self.step > 0 and self._comes_at(self.recipe.sample_every):
            self.log.picture(self.step, labelled_grid(*self.phase.samples()))
        if self._comes_at(self.recipe.eval_every):
            numbers = self.phase.evaluate()
            if self.accelerator.is_main_process:
                self.log.write(self.step, {f"{EVALUATION}{name}": value for name, value in numbers.items()})
                self._keep_best(numbers)
            self.accelerator.wait_for_everyone()
        bar.set_description_str("training")
        self.reviewed = self.step

    def _keep_best(self, numbers: dict[str, float]) -> None:
        """Saves the model if it is the best so far; an untrained one is not."""
        metric = self.recipe.best_metric
        if metric is None or self.step == 0:
            return
        value = numbers[metric]
        if math.isfinite(value) and (self.best is None or self.recipe.metrics()[metric](value, self.best[1])):
            self._save_model(self.folder / BEST)
            self.best = [self.step, value]

    def _judge(self) -> list:
        """What the value of the best model depends on but for the model."""
        held_out = self.phase.evaluation
        captions = None if held_out is None else hashlib.sha256(repr(held_out.captions).encode()).hexdigest()
        return [self.recipe.best_metric, captions, recipe_values(self.recipe).get("evaluation")]

    def _save(self) -> None:
        self._check_finite()
        rng, data = gather_object([rng_state(self.accelerator.device)]), gather_object([self.batches.state_dict()])
        if self.accelerator.is_main_process:
            state = {
                "recipe": fixed_values(self.recipe),
                "step": self.step,
                "phase": self.phase.state_dict(),
                "scaler": None
                if self.accelerator.scaler is None
                else self.accelerator.scaler.state_dict(),  # of fp16's gradients
                "rng": rng,  # of each process
                "data": data,  # of each process
                "images_seen": self.images_seen,
                "seconds": self.seconds,
                "window": self.window.state(),
                "reviewed": self.reviewed,
                "best": self.best,
                "judged_by": self._judge(),
            }
            save_checkpoint(self.folder / CHECKPOINTS, self.step, state, self.recipe.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _save_model(self, folder: Path) -> None:
        """Saves the model with its card and all that this is made of."""

        def describe(partial: Path) -> None:
            images_seen, seconds = self.images_seen + self.window.rows, self.seconds + self.window.seconds
            write_provenance(partial, self.phase, self.recipe, self.accelerator, images_seen, seconds, self.folder.name)

        save_model(self.phase, folder, describe)

    def _check_finite(self) -> None:
        """Keeps what cannot be trained any further out of the checkpoints, which would push out the
        good ones."""
        for name, network in self.phase.networks().items():
            if not torch.stack([p.isfinite().all() for p in network.parameters()]).all():
                raise FloatingPointError(f"weights of {name} are not finite after step {self.step}")

    def _restore(self) -> dict | None:
        """Loads the newest checkpoint, if there is one; returns the state of the data."""
        newest = next(reversed(list_checkpoints(self.folder / CHECKPOINTS)), None)
        seen = gather_object([newest and newest.name])
        if len(set(seen)) > 1:
            raise ValueError(
                f"the processes find different checkpoints in {self.folder} "
                f"({', '.join(str(name) for name in dict.fromkeys(seen))}): "
                "give all machines one shared --output-dir"
            )
        if newest is None:
            return None
        state = load_checkpoint(newest)
        if lacking := [name for name in ("recipe", "step", "phase", "rng", "data") if name not in state]:
            raise ValueError(f"{newest} is no checkpoint of a run: it lacks {lacking[0]}; start anew in another folder")
        for name, here in fixed_values(self.recipe).items():
            if (there := state["recipe"].get(name)) != here:
                raise ValueError(
                    f"the checkpoint does not fit the recipe: {name} was {there} there and is {here} here; resume with "
                    "what it was then, or start in another folder"
                )
        written, here = len(state["rng"]), self.accelerator.num_processes
        if written != here:
            raise ValueError(
                f"the checkpoint was written by {written} processes, and this run's number is {here}: set "
                f"--num_processes {written}"
            )
        if state["step"] > self.recipe.steps:
            raise ValueError(
                f"the checkpoint is of step {state['step']:,}, and the recipe ends after "
                f"{self.recipe.steps:,} steps: raise steps"
            )
        if (state["scaler"] is None) != (self.accelerator.scaler is None):
            raise ValueError("the checkpoint and this run disagree about fp16: take the same --mixed-precision")
        self.phase.load_state_dict(state["phase"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        restore_rng(state["rng"][self.accelerator.process_index], self.accelerator.device)
        self.images_seen, self.seconds = state["images_seen"], state["seconds"]
        self.reviewed, self.best = state["reviewed"], state["best"]
        if state.get("judged_by", self._judge()) != self._judge():
            self.best = None  # values of another number, or of other rows, do not compare
        self.window = Window(*state["window"])
        return state["data"][self.accelerator.process_index]

    def _say_how_to_go_on(self, what: str) -> None:
        if self.accelerator.is_main_process:
            checkpoint = list_checkpoints(self.folder / CHECKPOINTS)[-1]
            print(
                f"{what} after step {self.step:,} of {self.recipe.steps:,}; the same command with --resume "
                f"goes on from {checkpoint}"
            )

    def _finish(self) -> None:
        """Saves the model, plots the log and says what came out."""
        if not self.accelerator.is_main_process:
            return
        self._save_model(self.folder / MODEL)
        with writing(self.folder / CURVES):
            plot_metrics(self.log.path, self.folder / CURVES)
        evaluations = self.log.evaluations()
        print(self.phase.report(evaluations[0], evaluations[-1]))
        found = {"model": MODEL, "best": BEST, "curves": CURVES, "numbers": METRICS, "samples": SAMPLES}
        if self.best is None:
            del found["best"]
        for what, name in found.items():
            note = f" (step {self.best[0]:,}: {self.recipe.best_metric} {self.best[1]:.4g})" if what == "best" else ""
            print(f"{what:8} {self.folder / name}{note}")
        if self.uploads is not None:
            self.uploads.finish(self.step, self.folder / MODEL)
            print(f"{'Hub':8} {self.uploads.repository}")


class Window:
    """What happened since the last log line: the mean of each number over the steps that computed
    it, rows and seconds of training.

    Attributes:
        terms: names of the loss terms among the numbers.
    """

    def __init__(
        self,
        sums: dict[str, list[float]] | None = None,
        rows: int = 0,
        seconds: float = 0.0,
        terms: list[str] | None = None,
    ):
        self.sums: dict[str, list] = defaultdict(lambda: [0.0, 0], sums or {})
        self.rows = rows
        self.seconds = seconds
        self.terms = list(terms or ())

    def add(self, result: StepResult, rows: int, seconds: float) -> None:
        self.rows += rows
        self.seconds += seconds
        self.terms += [name for name in result.terms if name not in self.terms]
        for name, value in result.by_log_name().items():
            finite = value.isfinite()  # under fp16 the norm of a gradient may not be, and the update is skipped
            # not in double precision, which Apple's GPUs lack
            self.sums[name][0] = self.sums[name][0] + torch.where(finite, value, 0).float()
            self.sums[name][1] = self.sums[name][1] + finite

    def means(self) -> dict[str, float]:
        started = time.perf_counter()
        sums = self._read()
        self.seconds += time.perf_counter() - started  # a device may only now finish its steps
        return {name: total / n for name, (total, n) in sums.items() if n}

    def state(self) -> list:
        """Arguments that make an equal window, as plain values."""
        return [self._read(), self.rows, self.seconds, self.terms]

    def _read(self) -> dict[str, list[float]]:
        return {name: [float(total), int(n)] for name, (total, n) in self.sums.items()}
