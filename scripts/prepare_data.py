"""Turns the files of a data set, archives as downloaded, into Parquet shards for a recipe's
data.name; goes on where a stopped run was.

python scripts/prepare_data.py cub --images CUB_200_2011.tgz --captions birds.zip --output data/cub
python scripts/prepare_data.py coco --images train2014.zip val2014.zip \\
    --annotations annotations_trainval2014.zip --output data/coco
python scripts/prepare_data.py emoji --packages DIR/node_modules --output data/emoji
python scripts/prepare_data.py folder \\
    --images photos --table photos/metadata.jsonl --output data/photos
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--output", type=Path, required=True, help="folder for the shards train-*.parquet and test-*.parquet"
    )
    common.add_argument("--seed", type=int, default=0, help="decides the order of the rows (default: 0)")
    common.add_argument(
        "--resize", type=int, help="reduce larger images to this shorter side; default: keep the files as they are"
    )
    common.add_argument("--shard-rows", type=int, default=1000, help="images in one shard (default: 1000)")
    common.add_argument(
        "--push-to-hub", metavar="REPO", help="upload the result to this dataset repository of the Hugging Face Hub"
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    cub = kinds.add_parser("cub", parents=[common], help="birds: CUB-200-2011")
    cub.add_argument("--images", type=Path, required=True, help="CUB_200_2011.tgz")
    cub.add_argument(
        "--captions", type=Path, required=True, help="archive or folder with text/<class>/<image>.txt, e.g. birds.zip"
    )
    cub.add_argument(
        "--split",
        choices=["gan", "official"],
        default="gan",
        help="gan: the GAN papers' class-disjoint split (default)",
    )
    for split in ("train", "test"):
        cub.add_argument(
            f"--filenames-{split}",
            type=Path,
            help=f"{split}/filenames.pickle of the gan split, if not in the captions archive",
        )
    coco = kinds.add_parser("coco", parents=[common], help="photographs of everyday things: COCO 2014")
    coco.add_argument("--images", type=Path, nargs="+", required=True, help="train2014.zip and val2014.zip")
    coco.add_argument("--annotations", type=Path, required=True, help="annotations_trainval2014.zip")
    coco.add_argument(
        "--label-rule",
        choices=["largest", "most_frequent", "rarest"],
        default="largest",
        help="which category is the label",
    )
    emoji = kinds.add_parser(
        "emoji", parents=[common], help="drawings of nine vendors; t2i_supcon/data/emoji.py says how to get them"
    )
    emoji.add_argument(
        "--packages", type=Path, required=True, help="node_modules with emojibase-data and @iconify-json/*"
    )
    emoji.add_argument("--size", type=int, default=128, help="side of the pictures in pixels (default: 128)")
    own = kinds.add_parser("folder", parents=[common], help="images of your own with a table")
    own.add_argument("--images", type=Path, required=True, help="the folder of images")
    own.add_argument(
        "--table",
        type=Path,
        required=True,
        help=".jsonl or .csv: file_name, caption(s), label [, split]; rows of a file become one",
    )
    own.add_argument(
        "--test-share", type=float, default=0.1, help="share of test rows if the table has no split (default: 0.1)"
    )
    own.add_argument("--caption-separator", help="divides several captions in one field of a .csv")
    args = parser.parse_args(arguments)
    from t2i_supcon import data  # late: --help should not wait

    readers = {
        "cub": lambda work: data.read_cub(
            args.images, args.captions, work, args.split, {"train": args.filenames_train, "test": args.filenames_test}
        ),
        "coco": lambda work: data.read_coco(args.images, args.annotations, work, args.label_rule),
        "emoji": lambda work: data.read_emoji(args.packages, work, args.size),
        "folder": lambda work: data.read_folder(
            args.images, args.table, work, args.test_share, args.seed, args.caption_separator
        ),
    }
    try:
        data.prepare(readers[args.kind], args.output, vars(args), args.seed, args.resize, args.shard_rows)
        print(args.output)
        if args.push_to_hub:
            data.push_shards(args.output, args.push_to_hub)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
