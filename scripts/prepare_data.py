"""Turns the files of a data set, archives as downloaded, into Parquet shards for a recipe's
data.name; goes on where a stopped run was.

python scripts/prepare_data.py cub --images CUB_200_2011.tgz --captions birds.zip --output data/cub
python scripts/prepare_data.py coco --images train2014.zip val2014.zip \\
    --annotations annotations_trainval2014.zip --output data/coco
python scripts/prepare_data.py emoji --packages DIR/node_modules --output data/emoji
python scripts/prepare_data.py folder \\
    --images photos --table photos/metadata.csv --output data/photos

`prepare_data.py KIND --help` explains the options of one kind of data.
"""

import argparse
import sys
from functools import partial
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", title="kinds of data")
    try:
        from t2i_supcon.data import BUILDERS, prepare, push_shards  # here, where Ctrl-C is one line: it imports torch

        for name, builder in BUILDERS.items():
            kind = kinds.add_parser(name, help=builder.HELP, description=builder.HELP)
            builder.add_arguments(kind)
            kind.add_argument(
                "--output", type=Path, required=True, help="folder for train-*.parquet and test-*.parquet"
            )
            kind.add_argument("--seed", type=int, default=0, help="decides the order of the rows (default: 0)")
            kind.add_argument(
                "--resize", type=int, help="reduce larger images to this shorter side (default: keep them)"
            )
            kind.add_argument("--shard-rows", type=int, default=1000, help="images in one shard (default: 1000)")
            kind.add_argument("--push-to-hub", metavar="REPO", help="upload the result to this dataset repository")
        options = parser.parse_args(arguments)
        read = partial(BUILDERS[options.kind].read, options)
        prepare(read, options.output, vars(options), options.seed, options.resize, options.shard_rows)
        print(options.output)
        if options.push_to_hub:
            push_shards(options.output, options.push_to_hub)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
