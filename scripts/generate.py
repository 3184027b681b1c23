"""Draws pictures from sentences with a saved model.

python scripts/generate.py --prompt "a red heart" --prompt "a green tree"
python scripts/generate.py --model runs/ssagan-emoji/model \\
    --prompts-file scripts/prompts.txt --images-per-prompt 4
python scripts/generate.py --model runs/ssagan-emoji/model --prompt "a red heart" --attention
"""

import argparse
import sys
from pathlib import Path

DTYPES = ("float32", "bfloat16", "float16")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        action="append",
        help="folder of a saved text-to-image model, or its name on the Hub (default: the emoji model in the package); "
        "of several, given one by one, the grid shows the pictures side by side",
    )
    parser.add_argument("--prompt", action="append", default=[], help="a sentence to draw; may be given several times")
    parser.add_argument("--prompts-file", type=Path, help="a text file with one sentence per line")
    parser.add_argument("--images-per-prompt", type=int, default=1, help="pictures for each sentence (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same pictures (default: 0)")
    parser.add_argument(
        "--truncation", type=float, help="keep the noise within this bound: less variety, cleaner pictures (e.g. 1.0)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("grid.png"),
        help="the labelled grid (default: grid.png); the single pictures go beside it, as grid-1-1.png and so on",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also save, per sentence, where its words were read or may change the picture",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: as they are stored)")
    options = parser.parse_args(arguments)

    try:
        from t2i_supcon import gallery  # after parsing: it imports torch
        from t2i_supcon.embedded import embedded_model
        from t2i_supcon.pipeline import load_pipeline

        prompts = options.prompt + (gallery.read_prompts(options.prompts_file) if options.prompts_file else [])
        if not prompts:
            raise ValueError("nothing to draw: give --prompt or --prompts-file")
        if options.attention and len(options.model or ()) > 1:
            raise ValueError("--attention shows what one model does; give --model once")
        gallery.make_room(options.output)
        draws = [load_pipeline(name, options.device, options.dtype) for name in options.model or [embedded_model()]]
        asked = (prompts, options.output, options.images_per_prompt, options.seed, options.truncation)
        if len(draws) > 1:
            print(gallery.save_side_by_side(draws, *asked))
            return
        together, single = gallery.save_gallery(draws[0], *asked, options.attention)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    print(*together, sep="\n")
    print(f"single pictures: {single[0]} to {single[-1].name}", file=sys.stderr)


if __name__ == "__main__":
    main()
