"""Shows how strongly each loss term of phase 2 pulls at the generated pictures.

python scripts/show_gradients.py runs/attngan-emoji

Takes the newest checkpoint of a run and a few batches of its training rows. Of each loss term it
tells its value for the pictures drawn of them and for the real ones, the norm of its weighted
gradient by the drawn ones, and the cosines of these gradients. A term that pulls many times as
hard as the adversarial one (g_adv) decides what the generator learns: give it a smaller weight. Two
terms of a cosine near 1 ask for the same. A value that is smaller for drawn pictures than for real
ones means that they please the encoders better than real ones do; the term has little left to
teach.

Writes gradients.md (the table) and gradients.json.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run of phase 2, with its checkpoints")
    parser.add_argument(
        "overrides", nargs="*", metavar="field=value", help="recipe fields to change, e.g. encoders=runs/moved/model"
    )
    parser.add_argument("--batches", type=int, default=8, metavar="N", help="over which numbers are averaged (8)")
    parser.add_argument("--output", type=Path, help="folder for the results (default: gradients/ in the run's)")
    options = parser.parse_intermixed_args(arguments)  # options may stand between overrides

    try:
        from t2i_supcon.training import show_gradients  # after parsing: --help should not wait for torch

        output = options.output or options.run / "gradients"
        print(show_gradients(options.run, output, options.batches, options.overrides))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
