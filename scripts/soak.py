"""Kills a small training run with SIGKILL at random moments and checks that nothing is lost.

python scripts/soak.py --kills 20

After each kill the newest checkpoint must load, the next start goes on from it, and the model in
the end must be equal, bit for bit, to that of a run never killed. The runs are phase 1 on the
embedded emoji data, with tiny networks; 20 kills take some 4 minutes.
"""

import argparse
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMAND = [
    sys.executable,
    Path(__file__).with_name("train.py"),
    "--recipe",
    "damsm-emoji",
    "--resume",
    "--tracker",
    "none",
]
TINY = [
    'model_config={"text_config": {"hidden_size": 8}, "image_config": {"hidden_size": 8, "image_size": 75, '
    '"channel_divisor": 16}}'
]
TINY += "image_size=16 batch_size=8 log_every=1 checkpoint_every=2 sample_every=25 eval_every=25 eval_rows=100".split()


def train(folder: Path, steps: int, kill_after: float | None = None) -> float:
    """Trains to the end, or so many seconds; returns the seconds taken."""
    started = time.perf_counter()
    with suppress(subprocess.TimeoutExpired):  # raised once run has sent SIGKILL
        result = subprocess.run(
            [*COMMAND, "--output-dir", folder, *TINY, f"steps={steps}"],
            capture_output=True,
            text=True,
            timeout=kill_after,
        )
        if result.returncode:
            sys.exit(f"a run ended with code {result.returncode}:\n{result.stderr[-2000:]}")
    return time.perf_counter() - started


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many times the run is killed (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default: 0)")
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("runs/soak"),
        help="a folder without runs of this script (default: runs/soak)",
    )
    options = parser.parse_args(arguments)
    short, whole, killed = (options.output_dir / name for name in ("short", "whole", "killed"))
    if whole.exists():
        sys.exit(f"error: {options.output_dir} holds runs already: remove it, or choose another --output-dir")
    from tqdm import trange  # after parsing: --help should not wait for torch

    from t2i_supcon.training.checkpoint import list_checkpoints, load_checkpoint

    steps, chance, kills = 60 * options.kills, random.Random(options.seed), 0
    print(f"a run of {steps} steps, never killed, to compare with")
    starting = train(short, 2)
    longest = starting + 1.5 * (train(whole, steps) - starting) / options.kills
    for _ in (bar := trange(options.kills, unit="kill")):
        kills += (
            train(killed, steps, kill_after=(after := chance.uniform(0, longest))) >= after
        )  # as it starts, trains, evaluates, saves
        checkpoints = list_checkpoints(killed / "checkpoints")
        bar.set_postfix(step=load_checkpoint(checkpoints[-1])["step"] if checkpoints else 0)
    train(killed, steps)
    if len({(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, killed)}) > 1:
        sys.exit(f"error: the weights in {whole / 'model'} and {killed / 'model'} differ")
    print(f"killed {kills} times, and the weights are those of the run never killed, bit for bit: {killed / 'model'}")


if __name__ == "__main__":
    main()
