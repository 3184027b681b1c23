"""Compares evaluations: each GAN with and without the method, and what it gained.

python scripts/compare.py runs/*/evaluation/evaluation.json --metric frechet --output comparison

Evaluations of one GAN and guidance with several seeds become one row, with its spread. Numbers of
different protocols are refused, and so is a row of runs that were trained by different recipes.
Writes comparison.md, comparison.csv and comparison.png.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="+", type=Path, help="evaluation.json files, or the folders they lie in")
    parser.add_argument("--metric", default="frechet", help="which of their numbers (default: frechet)")
    parser.add_argument("--reported", action="store_true", help="add what the paper reports, in a column of its own")
    parser.add_argument(
        "--output", type=Path, default=Path("comparison"), help="folder for table and plot (default: comparison)"
    )
    options = parser.parse_args(arguments)

    try:
        from t2i_supcon.evaluation import compare_files  # after parsing: --help should not wait for torch

        print(compare_files(options.evaluations, options.metric, options.output, options.reported))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
