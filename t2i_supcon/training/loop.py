"""The training loop: progress, logs, samples, evaluation, checkpoints and resume, for any phase.

A phase has `image_sizes`, `train_step(batch) -> terms`, `evaluate() -> numbers`, `report(first, last) -> text`, `samples() -> (pictures,
captions)`, `save_pretrained(folder)`, `state_dict()` and `load_state_dict(state)`.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from ..data import Batch
from ..figures import labelled_grid, plot_metrics
from .checkpoint import list_checkpoints, load_checkpoint, new_folder, save_checkpoint
from .recipe import Recipe, recipe_values


def run(phase, make_batches: Callable[[int], Iterable[Batch]], recipe: Recipe, accelerator: Accelerator, folder: Path, resume: bool = False) -> None:
    """Trains `phase` for the recipe's steps.

    Leaves in `folder`: `model/` (to load with from_pretrained), `recipe.yaml`, `metrics.jsonl`, `metrics.png`, `samples/` and
    `checkpoints/`.

    Args:
        make_batches: gives the endless batches of this process from a step on.
        resume: go on from the newest checkpoint in `folder`, if it holds one.

    Raises:
        FileExistsError: `folder` holds a run already and `resume` is not set.
        ValueError: the checkpoint does not fit the recipe.
    """
    log = folder / "metrics.jsonl"
    checkpoints = list_checkpoints(folder / "checkpoints")
    if log.exists() and not resume:
        raise FileExistsError(f"{folder} holds a run already: add --resume to go on with it, or choose another --output-dir")
    step, window = 0, Window()
    if checkpoints:
        state = load_checkpoint(checkpoints[-1])
        phase.load_state_dict(state["phase"])
        step, window = state["step"], Window(state["sums"], state["count"])
        torch.set_rng_state(state["rng"][accelerator.process_index])
    if accelerator.is_main_process:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False), encoding="utf-8")
        _cut_log(log, step if checkpoints else -1)
    if step == 0:
        _evaluate(phase, accelerator, log, 0)

    batches = iter(make_batches(step))
    bar = tqdm(total=recipe.steps, initial=step, unit="step", disable=not accelerator.is_main_process, dynamic_ncols=True)
    started = time.perf_counter()
    while step < recipe.steps:
        batch = next(batches).to(accelerator.device)
        window.add(phase.train_step(batch))
        step += 1
        bar.update()
        last = step == recipe.steps
        if accelerator.is_main_process and (step % recipe.log_every == 0 or last):
            terms = window.means()
            rate = window.count * len(batch) * accelerator.num_processes / (time.perf_counter() - started)
            _log(log, {"step": step, **terms, "rows_per_second": round(rate, 1)})
            bar.set_postfix_str(" ".join(f"{name} {value:.3g}" for name, value in terms.items()) + f" {rate:.0f} rows/s")
        if step % recipe.log_every == 0 or last:
            window, started = Window(), time.perf_counter()
        paused = time.perf_counter()
        if accelerator.is_main_process and (step % recipe.sample_every == 0 or last):
            labelled_grid(*phase.samples()).save(folder / "samples" / f"step-{step:08d}.png")
        if step % recipe.eval_every == 0 or last:
            _evaluate(phase, accelerator, log, step)
        if step % recipe.checkpoint_every == 0 or last:
            _save(phase, accelerator, folder, step, window, recipe.keep_checkpoints)
        started += time.perf_counter() - paused  # rates count training only
    bar.close()
    _finish(phase, accelerator, folder, log)


class Window:
    """Mean of each term since the last log line."""

    def __init__(self, sums: dict[str, float] | None = None, count: int = 0):
        self.sums: dict[str, list] = defaultdict(lambda: [0.0, 0], {name: list(value) for name, value in (sums or {}).items()})
        self.count = count

    def add(self, terms: dict[str, torch.Tensor]) -> None:
        self.count += 1
        for name, term in terms.items():
            self.sums[name][0] = self.sums[name][0] + term.double()
            self.sums[name][1] += 1

    def means(self) -> dict[str, float]:
        return {name: float(total / n) for name, (total, n) in self.sums.items()}


def _evaluate(phase, accelerator: Accelerator, log: Path, step: int) -> None:
    if accelerator.is_main_process:
        _log(log, {"step": step, **{f"eval/{name}": value for name, value in phase.evaluate().items()}})
    accelerator.wait_for_everyone()


def _save(phase, accelerator: Accelerator, folder: Path, step: int, window: Window, keep: int) -> None:
    rng = gather_object([torch.get_rng_state()])
    if accelerator.is_main_process:
        sums = {name: [float(total), n] for name, (total, n) in window.sums.items()}
        state = {"step": step, "phase": phase.state_dict(), "rng": rng, "sums": sums, "count": window.count}
        save_checkpoint(folder / "checkpoints", step, state, keep)
    accelerator.wait_for_everyone()


def _finish(phase, accelerator: Accelerator, folder: Path, log: Path) -> None:
    if not accelerator.is_main_process:
        return
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
    """Keeps the entries up to `step`, which a resumed run does not write again."""
    if log.exists():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
