"""Trains the encoders (phase 1) or a GAN (phase 2) from a recipe.

accelerate launch scripts/train.py --recipe damsm-emoji
accelerate launch scripts/train.py --recipe ssagan-emoji steps=2000
"""

import argparse
import sys
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


def main(arguments: list[str] | None = None) -> None:
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"recipes: {known}")
    parser.add_argument("--recipe", required=True, help="name of a recipe, or path of a YAML file")
    parser.add_argument("--output-dir", type=Path, help="where the run goes (default: runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder, if there is one")
    parser.add_argument("--dry-run", action="store_true", help="show networks, steps and the first batch as a picture, then stop")
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="recipe fields to change, e.g. steps=500 data.workers=2")
    options = parser.parse_args(arguments)

    from t2i_supcon.training import load_recipe, train  # after parsing: --help should not wait for torch

    try:
        recipe = load_recipe(options.recipe, RECIPES, options.overrides)
        train(recipe, options.output_dir or Path("runs") / Path(options.recipe).stem, options.resume, options.dry_run)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
