"""The training loop: progress, logs, samples, evaluation, checkpoints and resume, for any phase.

A phase has `image_sizes`, `networks()`, `train_step(batch) -> terms`, `evaluate() -> numbers`, `report(first, last) -> text`,
`samples() -> (pictures, captions)`, `save_pretrained(folder)`, `state_dict()` and `load_state_dict(state)`.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from ..data import Batches, to_pil
from ..figures import labelled_grid, plot_metrics
from ..files import new_folder
from .checkpoint import list_checkpoints, load_checkpoint, restore_rng, rng_state, save_checkpoint
from .recipe import Recipe, recipe_values


def run(phase, make_batches: Callable[[dict | None], Batches], recipe: Recipe, accelerator: Accelerator, folder: Path, resume: bool = False) -> None:
    """Trains `phase` for the recipe's steps.

    Leaves in `folder`: `model/` (to load with from_pretrained), `recipe.yaml`, `metrics.jsonl`, `metrics.png`, `samples/` and
    `checkpoints/`.

    Args:
        make_batches: gives the endless batches of this process, from the start or behind a state of theirs.
        resume: go on from the newest checkpoint in `folder`, if it holds one.

    Raises:
        FileExistsError: `folder` holds a run already and `resume` is not set.
        ValueError: the checkpoint does not fit the recipe.
    """
    log = folder / "metrics.jsonl"
    if log.exists() and not resume:
        raise FileExistsError(f"{folder} holds a run already: add --resume to go on with it, or choose another --output-dir")
    step, window, data = _restore(phase, accelerator, folder)
    if accelerator.is_main_process:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False), encoding="utf-8")
        _cut_log(log, step)
    if step == 0:
        _evaluate(phase, accelerator, log, 0)

    batches = make_batches(data)
    endless = iter(batches)
    bar = tqdm(total=recipe.steps, initial=step, unit="step", disable=not accelerator.is_main_process, dynamic_ncols=True)
    while step < recipe.steps:
        started = time.perf_counter()
        batch = next(endless).to(accelerator.device)
        window.add(phase.train_step(batch), len(batch) * accelerator.num_processes, time.perf_counter() - started)
        step += 1
        bar.update()
        last = step == recipe.steps
        if step % recipe.log_every == 0 or last:
            if accelerator.is_main_process:
                terms, rate = window.means(), window.rows / window.seconds
                _log(log, {"step": step, **terms, "rows_per_second": round(rate, 1)})
                bar.set_postfix_str(" ".join(f"{name} {value:.3g}" for name, value in terms.items()) + f" {rate:.0f} rows/s")
            window = Window()
        if accelerator.is_main_process and (step % recipe.sample_every == 0 or last):
            labelled_grid(*phase.samples()).save(folder / "samples" / f"step-{step:08d}.png")
        if step % recipe.eval_every == 0 or last:
            _evaluate(phase, accelerator, log, step)
        if step % recipe.checkpoint_every == 0 or last:
            _save(phase, batches, accelerator, folder, step, window, recipe.keep_checkpoints)
    bar.close()
    if accelerator.is_main_process:
        _finish(phase, folder, log)


def preview(phase, make_batches: Callable[[dict | None], Batches], recipe: Recipe, num_rows: int | None, folder: Path) -> None:
    """Shows what a run would do, without training: networks, steps, loss terms, and the first batch as a picture with its captions."""
    for name, network in phase.networks().items():
        parameters = list(network.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        print(f"{name:14} {sum(p.numel() for p in parameters):>12,} parameters, {trained:>12,} trained")
    epochs = f"{recipe.steps * recipe.batch_size / num_rows:.1f} epochs of {num_rows:,} rows" if num_rows else "a stream of unknown length"
    print(f"{recipe.steps:,} steps of {recipe.batch_size} rows ({recipe.sampling}): {epochs}")
    print("terms: " + ", ".join(f"{weight:g} {name}" for name, weight in recipe.loss_weights.items()))
    batch = next(iter(make_batches(None)))
    order = torch.arange(len(batch)).view(batch.num_views, -1).T.flatten().tolist()  # partners side by side
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "first-batch.png"
    labelled_grid([to_pil(batch.images[-1][row]) for row in order], [batch.captions[row] for row in order], columns=8).save(picture)
    print(f"first batch: {picture}")


class Window:
    """What happened since the last log line: the mean of each term (over the steps that computed it), rows and seconds of training."""

    def __init__(self, sums: dict[str, list[float]] | None = None, rows: int = 0, seconds: float = 0.0):
        self.sums: dict[str, list] = defaultdict(lambda: [0.0, 0], sums or {})
        self.rows = rows
        self.seconds = seconds

    def add(self, terms: dict[str, torch.Tensor], rows: int, seconds: float) -> None:
        self.rows += rows
        self.seconds += seconds
        for name, term in terms.items():
            self.sums[name][0] = self.sums[name][0] + term.double()
            self.sums[name][1] += 1

    def means(self) -> dict[str, float]:
        return {name: float(total / n) for name, (total, n) in self.sums.items()}

    def state(self) -> list:
        """Arguments that make an equal window, as plain values."""
        return [{name: [float(total), n] for name, (total, n) in self.sums.items()}, self.rows, self.seconds]


def _restore(phase, accelerator: Accelerator, folder: Path) -> tuple[int, Window, dict | None]:
    """Loads the newest checkpoint, if there is one; returns the steps taken, the log window under way and the data's state."""
    checkpoints = list_checkpoints(folder / "checkpoints")
    if not checkpoints:
        return 0, Window(), None
    state = load_checkpoint(checkpoints[-1])
    written = len(state["rng"])
    if written != accelerator.num_processes:
        raise ValueError(
            f"the checkpoint was written by {written} processes and this run has {accelerator.num_processes}: launch it with --num_processes {written}"
        )
    phase.load_state_dict(state["phase"])
    restore_rng(state["rng"][accelerator.process_index], accelerator.device)
    return state["step"], Window(*state["window"]), state["data"][accelerator.process_index]


def _evaluate(phase, accelerator: Accelerator, log: Path, step: int) -> None:
    if accelerator.is_main_process:
        _log(log, {"step": step, **{f"eval/{name}": value for name, value in phase.evaluate().items()}})
    accelerator.wait_for_everyone()


def _save(phase, batches: Batches, accelerator: Accelerator, folder: Path, step: int, window: Window, keep: int) -> None:
    rng, data = gather_object([rng_state(accelerator.device)]), gather_object([batches.state_dict()])
    if accelerator.is_main_process:
        state = {"step": step, "phase": phase.state_dict(), "rng": rng, "data": data, "window": window.state()}
        save_checkpoint(folder / "checkpoints", step, state, keep)
    accelerator.wait_for_everyone()


def _finish(phase, folder: Path, log: Path) -> None:
    """Saves the model, plots the log and says what came out."""
    with new_folder(folder / "model") as partial:
        phase.save_pretrained(partial)
    plot_metrics(log, folder / "metrics.png")
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    evaluations = [{name.removeprefix("eval/"): value for name, value in e.items()} for e in entries if any(n.startswith("eval/") for n in e)]
    print(phase.report(evaluations[0], evaluations[-1]))
    for what, path in (("model", "model"), ("curves", "metrics.png"), ("numbers", "metrics.jsonl"), ("samples", "samples")):
        print(f"{what:8} {folder / path}")


def _log(log: Path, entry: dict) -> None:
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _cut_log(log: Path, step: int) -> None:
    """Keeps the entries that a run resumed after `step` steps does not write again: all up to there, none for a run from the start."""
    if log.exists():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if 0 < step >= json.loads(line)["step"]]
        log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
