"""A run of the loop in several processes, on a phase of one number: `torchrun several_processes.py
FOLDER STEP`, signalled in that step.

The folder may depend on the process, as in "run-{rank}".
"""

import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather, set_seed
from PIL import Image

from t2i_supcon.training import loop
from t2i_supcon.training.phase import StepResult
from t2i_supcon.training.recipe import parse_recipe


class RandomWalk:
    """All processes move one weight by the mean of what each draws."""

    evaluation = None

    def __init__(self, accelerator, signalled_at):
        self.accelerator = accelerator
        self.signalled_at = signalled_at
        self.step = 0
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)

    def networks(self):
        return {"walk": self.module}

    def train_step(self, batch):
        if batch[0] == self.signalled_at and self.accelerator.process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        self.module.weight.data += gather(torch.randn(1)).mean()
        self.step += 1
        return StepResult({"words": self.module.weight.detach().squeeze()})

    def evaluate(self):
        return {"recall@1": self.module.weight.item()}

    def report(self, first, last):
        return "walked"

    def samples(self):
        return [Image.new("RGB", (8, 8))], ["nothing"]

    def save_pretrained(self, folder):
        torch.save(self.module.state_dict(), folder / "walk.pt")
        (folder / "config.json").write_text('{"architectures": ["RandomWalk"]}')

    def state_dict(self):
        return {"step": self.step, "module": self.module.state_dict()}

    def load_state_dict(self, state):
        self.step = state["step"]
        self.module.load_state_dict(state["module"])


class Numbers:
    """Batches of one number each, counted from 1."""

    def __init__(self, state):
        self.taken = 0 if state is None else state["taken"]

    def __iter__(self):
        while True:
            self.taken += 1
            yield torch.tensor([self.taken])

    def state_dict(self):
        return {"taken": self.taken}


def main(folder, step):
    every = {"log_every": 2, "sample_every": 4, "eval_every": 4, "checkpoint_every": 3}
    recipe = parse_recipe({"phase": "encoders", "loss_weights": {"words": 1}, "steps": 9, **every})
    accelerator = Accelerator()
    set_seed(accelerator.process_index)
    folder = Path(folder.format(rank=accelerator.process_index))
    loop.run(RandomWalk(accelerator, int(step)), Numbers, recipe, accelerator, folder, resume=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
