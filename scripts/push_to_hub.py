"""Publishes what a run or a preparation left as a repository of the Hub, in one commit.

python scripts/push_to_hub.py runs/ssagan-emoji me/ssagan-emoji-scl
python scripts/push_to_hub.py runs/damsm-emoji/model me/damsm-emoji-scl --private
python scripts/push_to_hub.py data/photos me/photos --tag v1
python scripts/push_to_hub.py runs/emoji me --suite emoji
python scripts/push_to_hub.py spaces/text_to_image me/demo --space me/a me/b

A model goes with its tokenizer, discriminator, card, samples and evaluation; prepared data with its
card. A suite goes as one repository a recipe, such as me/dmgan-emoji-scl and me/dmgan-emoji for its
baseline, with a tag for each seed and cards that point to each other. The web page goes as a Space
that draws with the models named behind --space, or with the embedded ones.

Log in before with `hf auth login`, or set HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a run, a saved model, prepared data, a suite's runs or the web page")
    parser.add_argument("repository", help="user/name; made where there is none. With --suite: the user alone")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--tag", help="also give this version a name, such as v1; not with --suite")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--suite", metavar="NAME", help="publish all finished runs of this suite, found in FOLDER, tagged seed-N"
    )
    kind.add_argument("--space", nargs="*", metavar="MODEL", help="publish the web page, which draws with these models")
    options = parser.parse_args(arguments)

    to, how = options.repository, (options.private, options.tag)
    try:
        if options.suite and options.tag is not None:
            raise ValueError(
                "--tag: a suite's repositories have a tag such as seed-0 for each seed already; leave --tag out"
            )
        from t2i_supcon import publishing  # after parsing: --help should not wait for torch
        from t2i_supcon.training import suite

        if options.suite:
            cells = suite.load_suite(options.suite, SCRIPTS / "suites")
            done = suite.publish_suite(cells, options.folder, SCRIPTS / "recipes", to, options.private)
            print(*(one.repository for one in done), sep="\n")
        elif options.space is not None:
            print(f"{to} at {publishing.publish_space(options.folder, to, options.space, *how)}")
        else:
            print(f"{to} at {publishing.publish(options.folder, to, *how)}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
