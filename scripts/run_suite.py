"""Runs a whole comparison: phase 1, phase 2 and evaluation of every cell, then the table.

python scripts/run_suite.py --suite emoji --dry-run
python scripts/run_suite.py --suite emoji --output runs/emoji --at-once 2

Recipes, options of the evaluation and the metric are checked before anything runs. What is done is
skipped, what was stopped goes on; runs that lie there and are of another recipe are refused. A cell
that fails is reported and does not stop the others; its `suite.log` says why. Cells with overrides
have rows of their own in the table. Exit code 1: a cell failed.
"""

import argparse
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    known = ", ".join(sorted(path.stem for path in (SCRIPTS / "suites").glob("*.yaml")))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"suites: {known}"
    )
    parser.add_argument("--suite", required=True, help="name of a suite, or path of a YAML file")
    parser.add_argument("--output", type=Path, help="folder of all runs (default: runs/SUITE)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="cells that run at the same time")
    parser.add_argument("--dry-run", action="store_true", help="list the cells, what is done and how long it takes")
    options = parser.parse_args(arguments)

    output = options.output or Path("runs") / Path(options.suite).stem
    try:
        from t2i_supcon.training import suite  # after parsing: --help should not wait for torch

        cells = suite.load_suite(options.suite, SCRIPTS / "suites")
        if options.dry_run:
            suite.check_evaluation(cells, SCRIPTS)
            encoders, gans = suite.plan(cells, output, SCRIPTS / "recipes")
            print(suite.describe([*encoders, *gans]))
            return
        failed = suite.run_suite(cells, output, SCRIPTS / "recipes", SCRIPTS, options.at_once)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    if failed:
        sys.exit(f"error: {len(failed)} cells failed: {', '.join(job.folder.name for job in failed)}")


if __name__ == "__main__":
    main()
