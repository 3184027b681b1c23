"""Turns the files of a data set into Parquet shards that a recipe's data.name can point at.

python scripts/prepare_data.py cub --images CUB_200_2011.tgz --captions birds.zip --output data/cub
python scripts/prepare_data.py coco --images train2014.zip val2014.zip --annotations annotations_trainval2014.zip --output data/coco
python scripts/prepare_data.py folder --images photos --table photos/metadata.jsonl --output data/photos
Archives are read as they were downloaded. A stopped run goes on when the command is given again.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--output", type=Path, required=True, help="folder for the shards train-*.parquet and test-*.parquet")
    common.add_argument("--seed", type=int, default=0, help="decides the order of the rows (default: 0)")
    common.add_argument("--resize", type=int, help="reduce larger images to this shorter side; default: keep the files as they are")
    common.add_argument("--shard-rows", type=int, default=1000, help="images in one shard (default: 1000)")
    common.add_argument("--push-to-hub", metavar="REPO", help="upload the result to this dataset repository of the Hugging Face Hub")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    cub = kinds.add_parser("cub", parents=[common], help="birds: CUB-200-2011")
    cub.add_argument("--images", type=Path, required=True, help="CUB_200_2011.tgz")
    cub.add_argument("--captions", type=Path, required=True, help="archive or folder with text/<class>/<image>.txt, e.g. birds.zip")
    cub.add_argument("--split", choices=["gan", "official"], default="gan", help="gan: the GAN papers' class-disjoint split (default)")
    cub.add_argument("--filenames-train", type=Path, help="train/filenames.pickle of the gan split, if not in the captions archive")
    cub.add_argument("--filenames-test", type=Path, help="test/filenames.pickle, likewise")
    coco = kinds.add_parser("coco", parents=[common], help="photographs of everyday things: COCO 2014")
    coco.add_argument("--images", type=Path, nargs="+", required=True, help="train2014.zip and val2014.zip")
    coco.add_argument("--annotations", type=Path, required=True, help="annotations_trainval2014.zip")
    rules = ["largest", "most_frequent", "rarest"]
    coco.add_argument("--label-rule", choices=rules, default="largest", help="which category labels an image (default: largest)")
    own = kinds.add_parser("folder", parents=[common], help="images of your own with a table")
    own.add_argument("--images", type=Path, required=True, help="the folder of images")
    own.add_argument("--table", type=Path, required=True, help=".jsonl: file_name, captions, label [, split]; .csv: file_name, caption, label")
    own.add_argument("--test-share", type=float, default=0.1, help="share of test rows if the table has no split (default: 0.1)")
    own.add_argument("--caption-separator", help="divides several captions in one field of a .csv")
    options = parser.parse_args(arguments)

    from t2i_supcon.data import prepare, push_shards, read_coco, read_cub, read_folder  # late: --help should not wait

    def source(work: Path):
        if options.kind == "coco":
            return read_coco(options.images, options.annotations, work, options.label_rule)
        if options.kind == "folder":
            return read_folder(options.images, options.table, work, options.test_share, options.seed, options.caption_separator)
        return read_cub(options.images, options.captions, work, options.split, {"train": options.filenames_train, "test": options.filenames_test})

    try:
        prepare(source, options.output, vars(options), options.seed, options.resize, options.shard_rows)
        if options.push_to_hub:
            push_shards(options.output, options.push_to_hub)
        print(options.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
