"""Shows what encoders make of images and texts, real or drawn, with and without the method.

python scripts/show_representations.py \\
    --encoders runs/damsm-emoji-baseline/model runs/damsm-emoji/model
python scripts/show_representations.py --encoders runs/judge/model \\
    --models runs/attngan-emoji-baseline/model runs/attngan-emoji/model

With --models, one pair of encoders is shown real pictures, and those that the models draw of the
same captions. Choose encoders that guided none of the models.

Writes representations.png (a map of images and texts coloured by label, and label retrieval as
bars), representations.md (a table of alignment, uniformity and retrieval) and representations.json.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--encoders", nargs="+", required=True, help="what phase 1 saved: folders, or names on the Hub; one or several"
    )
    parser.add_argument(
        "--models", nargs="+", default=(), help="text-to-image models: folders, or names on the Hub; one or several"
    )
    parser.add_argument(
        "--data", default="emoji", help="pictures and captions, as a recipe's data.name (default: emoji)"
    )
    parser.add_argument("--split", default="test", help="of the data (default: test, the held-out rows)")
    parser.add_argument("--rows", type=int, metavar="N", help="rows to embed, evenly spaced (default: all)")
    parser.add_argument(
        "--output", type=Path, default=Path("representations"), help="folder for the results (default: %(default)s)"
    )
    options = parser.parse_args(arguments)

    try:
        from t2i_supcon.evaluation import show_representations  # after parsing: --help should not wait for torch

        print(show_representations(**vars(options)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
