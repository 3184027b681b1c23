"""A small training run killed with SIGKILL at random moments, beside one never killed.

After each kill the newest checkpoint must load, the next start goes on from it, and the model in
the end must be equal, bit for bit. The runs are phase 1 on the embedded emoji data, with tiny
networks.
"""

import argparse
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tqdm import trange

from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint

from .options import positive_int

HELP = "a run killed at random moments: nothing may be lost; 20 kills take some 4 minutes"
COMMAND = [sys.executable, Path(__file__).parents[1] / "train.py", "--recipe", "damsm-emoji", "--resume"]
COMMAND += ["--tracker", "none"]
TINY = [
    'model_config={"text_config": {"hidden_size": 8}, "image_config": {"hidden_size": 8, "image_size": 75, '
    '"channel_divisor": 16}}'
]
TINY += "image_size=16 batch_size=8 log_every=1 checkpoint_every=2 sample_every=25 eval_every=25 eval_rows=100".split()
STEPS_PER_KILL = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this benchmark."""
    parser.add_argument("--kills", type=positive_int, default=20, help="how often the run is killed (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default: 0)")
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("runs/soak"),
        help="a folder without runs of this benchmark (default: runs/soak)",
    )


def run(options: argparse.Namespace, steps_per_kill: int = STEPS_PER_KILL) -> None:
    """Runs both, and says how they compare.

    Raises:
        ValueError: the folder holds runs already, a run failed, or the weights differ.
    """
    short, whole, killed = (options.output_dir / name for name in ("short", "whole", "killed"))
    if whole.exists():
        raise ValueError(f"{options.output_dir} holds runs already: remove it, or choose another --output-dir")
    steps, chance, kills = steps_per_kill * options.kills, random.Random(options.seed), 0
    print(f"a run of {steps} steps, never killed, to compare with")
    starting = train(short, 2)
    longest = starting + 1.5 * (train(whole, steps) - starting) / options.kills
    for _ in (bar := trange(options.kills, unit="kill")):
        moment = chance.uniform(0, longest)  # as it starts, trains, evaluates or saves
        kills += train(killed, steps, kill_after=moment) >= moment
        checkpoints = list_checkpoints(killed / "checkpoints")
        bar.set_postfix(step=load_checkpoint(checkpoints[-1])["step"] if checkpoints else 0)
    train(killed, steps)
    if len({(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, killed)}) > 1:
        raise ValueError(f"the weights in {whole / 'model'} and {killed / 'model'} differ")
    print(f"killed {kills} times, and the weights are those of the run never killed, bit for bit: {killed / 'model'}")


def train(folder: Path, steps: int, kill_after: float | None = None) -> float:
    """Trains to the end, or so many seconds; returns the seconds taken.

    Raises:
        ValueError: the run failed.
    """
    started = time.perf_counter()
    command = [*COMMAND, "--output-dir", folder, *TINY, f"steps={steps}"]
    with suppress(subprocess.TimeoutExpired):  # raised once `run` has sent SIGKILL
        result = subprocess.run(command, capture_output=True, text=True, timeout=kill_after)
        if result.returncode:
            raise ValueError(f"a run ended with code {result.returncode}:\n{result.stderr[-2000:]}")
    return time.perf_counter() - started
