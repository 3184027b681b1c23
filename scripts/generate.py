"""Draws pictures from sentences with a saved model.

python scripts/generate.py --model runs/ssagan-emoji/model \\
    --prompt "a red heart" --prompt "a green tree"
python scripts/generate.py --model runs/ssagan-emoji/model \\
    --prompts-file scripts/prompts.txt --images-per-prompt 4
python scripts/generate.py --model runs/ssagan-emoji/model --prompt "a red heart" --attention
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
    parser.add_argument(
        "--truncation", type=float, help="keep the noise within this bound: less variety, cleaner pictures (e.g. 1.0)"
    )
    parser.add_argument("--output", type=Path, default=Path("grid.png"), help="the labelled grid (default: grid.png)")
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also save, per sentence, where its words were read or may change the picture",
    )
    options = parser.parse_args(arguments)

    import torch
    from transformers import pipeline

    import t2i_supcon  # noqa: F401 - registers the models and the pipeline
    from t2i_supcon.data import encode_prompts, to_pil
    from t2i_supcon.figures import attention_figure, image_strip, labelled_grid, mask_figure

    try:
        prompts = options.prompt + (
            [line for line in options.prompts_file.read_text().splitlines() if line.strip()]
            if options.prompts_file
            else []
        )
        if not prompts:
            raise ValueError("nothing to draw: give --prompt or --prompts-file")
        given = {
            "num_images_per_prompt": options.images_per_prompt,
            "truncation": options.truncation,
            "output_attentions": options.attention,
        }
        draw = pipeline("text-to-image", model=options.model)
        drawn, saved = [], [options.output]
        for n, prompt in enumerate(prompts, start=1):
            inputs = encode_prompts(draw.tokenizer, [prompt]).to(draw.device)
            output = draw.model.generate(**inputs, **given, generator=torch.Generator().manual_seed(options.seed))
            images = [to_pil(image) for image in output.images[-1]]
            drawn.append(image_strip(images))
            if not options.attention:
                continue
            words = [token.removeprefix("▁") for token in draw.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])]
            if output.attentions:
                figure = attention_figure(images[0], words, output.attentions[-1][0].float().cpu().numpy())
            else:
                figure = mask_figure(images[0], words, [mask[0, 0].float().cpu().numpy() for mask in output.masks])
            saved.append(options.output.with_name(f"{options.output.stem}-attention-{n}.png"))
            figure.save(saved[-1])
        labelled_grid(drawn, prompts).save(options.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(*saved, sep="\n")


if __name__ == "__main__":
    main()
