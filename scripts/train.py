"""Trains the encoders (phase 1) or a GAN (phase 2) from a recipe.

accelerate launch --quiet scripts/train.py --recipe damsm-emoji
accelerate launch --quiet scripts/train.py --recipe ssagan-emoji steps=2000

Ctrl-C or SIGTERM finish the step under way and save a checkpoint; the same command with --resume
goes on from there, to the same weights as without the stop. Exit codes: 0 finished or stopped by
--max-steps, 130 stopped by Ctrl-C, 143 stopped by SIGTERM, 1 an error.
"""

import argparse
import sys
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


def main(arguments: list[str] | None = None) -> None:
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"recipes: {known}"
    )
    parser.add_argument("--recipe", required=True, help="name of a recipe, or path of a YAML file")
    parser.add_argument("--output-dir", type=Path, help="where the run goes (default: runs/RECIPE)")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in the output folder, if there is one"
    )
    parser.add_argument(
        "--max-steps",
        type=int,
        metavar="N",
        help="save a checkpoint and stop after N steps; the schedule stays the recipe's",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show networks, memory, steps and the first batch as a picture, then stop",
    )
    parser.add_argument(
        "--tracker",
        default="tensorboard",
        help="tensorboard (default), wandb or another one that accelerate knows, or none",
    )
    parser.add_argument(
        "--mixed-precision",
        choices=("auto", "no", "bf16", "fp16"),
        default="auto",
        help="auto (default): what accelerate was launched with or, where that is nothing, bf16 on a GPU "
        "that has it; no: float32",
    )
    parser.add_argument(
        "--push-to-hub",
        metavar="REPO",
        help="also publish every checkpoint's model, in the background, and the finished one in this repository",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="field=value", help="recipe fields to change, e.g. steps=500 data.workers=2"
    )
    options = parser.parse_intermixed_args(arguments)  # options may stand between overrides

    folder = options.output_dir or Path("runs") / Path(options.recipe).stem
    tracker = None if options.tracker == "none" else options.tracker
    try:
        from t2i_supcon.training import load_recipe, train  # after parsing: --help should not wait for torch

        recipe = load_recipe(options.recipe, RECIPES, options.overrides)
        how = options.resume, options.dry_run, options.max_steps, tracker, options.mixed_precision
        train(recipe, folder, *how, push_to_hub=options.push_to_hub)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
