"""Publishes what a run or a preparation left as a repository of the Hub, in one commit.

python scripts/push_to_hub.py runs/ssagan-emoji me/ssagan-emoji-scl
python scripts/push_to_hub.py runs/damsm-emoji/model me/damsm-emoji-scl --private
python scripts/push_to_hub.py data/photos me/photos --tag v1

A model goes with its tokenizer, discriminator, card, samples and evaluation; prepared data with its
card. Log in before with `hf auth login`, or set HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a run, a saved model, or prepared data")
    parser.add_argument("repository", help="user/name; made where there is none")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--tag", help="also give this version a name, such as v1")
    options = parser.parse_args(arguments)

    from t2i_supcon import publishing  # after parsing: --help should not wait for torch

    try:
        commit = publishing.publish(options.folder, options.repository, options.private, options.tag)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{options.repository} at {commit}")


if __name__ == "__main__":
    main()
