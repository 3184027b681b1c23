"""Publishes what a run or a preparation left as a repository of the Hub, in one commit.

python scripts/push_to_hub.py runs/ssagan-emoji me/ssagan-emoji-scl
python scripts/push_to_hub.py runs/damsm-emoji/model me/damsm-emoji-scl --private
python scripts/push_to_hub.py data/photos me/photos --tag v1
python scripts/push_to_hub.py runs/emoji me --suite emoji

A model goes with its tokenizer, discriminator, card, samples and evaluation; prepared data with its
card. A suite goes as one repository a recipe, such as me/dmgan-emoji-scl and me/dmgan-emoji for its
baseline, with a tag for each seed and cards that point to each other.

Log in before with `hf auth login`, or set HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a run, a saved model, or prepared data")
    parser.add_argument("repository", help="user/name; made where there is none. With --suite: the user alone")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--tag", help="also give this version a name, such as v1")
    parser.add_argument("--suite", metavar="NAME", help="publish all finished runs of this suite, found in FOLDER")
    options = parser.parse_args(arguments)

    from t2i_supcon import publishing  # after parsing: --help should not wait for torch
    from t2i_supcon.training import suite

    try:
        if options.suite:
            cells = suite.load_suite(options.suite, SCRIPTS / "suites")
            where = options.folder, SCRIPTS / "recipes", options.repository
            print(*(one.repository for one in suite.publish_suite(cells, *where, options.private)), sep="\n")
            return
        commit = publishing.publish(options.folder, options.repository, options.private, options.tag)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{options.repository} at {commit}")


if __name__ == "__main__":
    main()
