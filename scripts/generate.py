"""Draws pictures from sentences with a saved model.

python scripts/generate.py --model runs/ssagan-emoji/model --prompt "a red heart" --prompt "a green tree"
python scripts/generate.py --model runs/ssagan-emoji/model --prompts-file scripts/prompts.txt --images-per-prompt 4
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a saved text-to-image model, or its name on the Hub")
    parser.add_argument("--prompt", action="append", default=[], help="a sentence to draw; may be given several times")
    parser.add_argument("--prompts-file", type=Path, help="a text file with one sentence per line")
    parser.add_argument("--images-per-prompt", type=int, default=1, help="pictures for each sentence (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same pictures (default: 0)")
    parser.add_argument("--truncation", type=float, help="keep the noise within this bound: less variety, cleaner pictures (e.g. 1.0)")
    parser.add_argument("--output", type=Path, default=Path("grid.png"), help="the labelled grid (default: grid.png)")
    options = parser.parse_args(arguments)

    from transformers import pipeline

    import t2i_supcon  # noqa: F401 - registers the models and the pipeline
    from t2i_supcon.figures import image_strip, labelled_grid

    try:
        prompts = options.prompt + ([line for line in options.prompts_file.read_text().splitlines() if line.strip()] if options.prompts_file else [])
        if not prompts:
            raise ValueError("nothing to draw: give --prompt or --prompts-file")
        draw = pipeline("text-to-image", model=options.model)
        drawn = draw(prompts, num_images_per_prompt=options.images_per_prompt, seed=options.seed, truncation=options.truncation)
        labelled_grid([image_strip(images) for images in drawn], prompts).save(options.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(options.output)


if __name__ == "__main__":
    main()
