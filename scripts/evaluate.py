"""Judges a model, or a folder of pictures, by networks that took no part in its training.

python scripts/evaluate.py --model runs/ssagan-emoji/model --output runs/ssagan-emoji/evaluation
python scripts/evaluate.py --images-folder pictures --metrics frechet kid --output pictures-judged
python scripts/evaluate.py --model runs/ssagan-emoji/model --encoders runs/other-encoders/model \\
    --metrics frechet kid label_accuracy r_precision --output out
accelerate launch --multi_gpu scripts/evaluate.py --model NAME --data data/coco \\
    --features inception-fid --metrics frechet is --images 30000 --captions random --output out

Writes evaluation.json (numbers with their whole protocol), evaluation.md (a table) and
evaluation.png (a grid of what was judged). Numbers of different protocols do not compare.
"""

import argparse
import sys
from pathlib import Path

# read by `run_suite.py`, too, which checks the options of a suite before anything runs
PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
judged = PARSER.add_mutually_exclusive_group(required=True)
judged.add_argument("--model", help="folder of a saved text-to-image model, or its name on the Hub")
judged.add_argument("--images-folder", type=Path, help="folder of square PNG files of one size, by any model")
PARSER.add_argument("--output", type=Path, required=True, help="folder for the result")
PARSER.add_argument(
    "--data", default="emoji", help="real pictures and captions, as a recipe's data.name (default: emoji)"
)
PARSER.add_argument(
    "--columns",
    nargs="+",
    default=[],
    metavar="NAME=COLUMN",
    help="what the data calls its columns, e.g. captions=text label=null (no labels)",
)
PARSER.add_argument("--split", default="test", help="held-out split (default: test)")
PARSER.add_argument("--training-split", default="train", help="training split, the yardstick (default: train)")
PARSER.add_argument(
    "--features",
    default="imagenet-lite0",
    help="imagenet-lite0 (default), inception-fid or inception-fid:FILE, encoder:FOLDER, clip:NAME, vision:NAME",
)
PARSER.add_argument(
    "--encoders",
    metavar="FOLDER_OR_NAME",
    help="encoders, or clip:NAME, that r_precision and clip_score go by in place of --features",
)
PARSER.add_argument("--resize", choices=["torch", "tf1", "clean"], help="of inception-fid (default: torch)")
PARSER.add_argument(
    "--metrics",
    nargs="+",
    help="any of frechet, kid, is, precision_recall, density_coverage, class_frechet, label_accuracy; r_precision "
    "and clip_score, by --encoders or by features that read captions (encoder:FOLDER, clip:NAME) (default: frechet "
    "kid label_accuracy, the latter where pictures and held-out split have labels of the training split)",
)
PARSER.add_argument("--images", type=int, metavar="N", help="pictures to draw (default: one a caption)")
PARSER.add_argument(
    "--captions", choices=["first", "random", "all"], default="first", help="of each held-out row (default: first)"
)
PARSER.add_argument(
    "--prompts-split", metavar="SPLIT", help="draw the captions of another split, e.g. train (default: --split)"
)
PARSER.add_argument("--seed", type=int, default=0, help="of captions and noise (default: 0)")
PARSER.add_argument("--truncation", type=float, help="keep the noise within this bound")
PARSER.add_argument("--batch-size", type=int, default=64, help="pictures at once (default: 64)")
PARSER.add_argument(
    "--bootstrap", type=int, metavar="N", help="standard errors of all numbers, from N sets drawn of the pictures"
)
PARSER.add_argument(
    "--max-broken-share",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="of the real rows that may have broken images, which are left out (default: 0)",
)
PARSER.add_argument("--save-images", action="store_true", help="also write each picture drawn, with its prompt")


def main(arguments: list[str] | None = None) -> None:
    options = vars(PARSER.parse_args(arguments))

    try:
        from accelerate import PartialState  # after parsing: --help should not wait for torch

        from t2i_supcon.evaluation import run_evaluation, values_table

        found = run_evaluation(**options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    PartialState().print(values_table(found), options["output"], sep="\n\n")  # once, of several processes


if __name__ == "__main__":
    main()
