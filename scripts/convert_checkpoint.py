"""Turns checkpoints of the original authors into a folder for from_pretrained.

python scripts/convert_checkpoint.py --arch dmgan --generator coco_DMGAN.pth \\
    --text-encoder text_encoder100.pth --captions words.pickle --output out
python scripts/convert_checkpoint.py --arch damsm --text-encoder text.pth \\
    --image-encoder image.pth --captions words.pickle --output out
python scripts/convert_checkpoint.py --arch galip --generator state_epoch_500.pth \\
    --clip clip.pth --tokenizer clip-vit-base-patch32 --output out

Needed are: a generator, the text encoder and the captions.pickle it was trained with (attngan,
dfgan, dmgan, ssagan); a generator, CLIP and CLIP's tokenizer (galip); both encoders and
captions.pickle (damsm). Nothing stored in the files is run.
"""

import argparse
import sys
from pathlib import Path

PARTS = {
    "generator": "the generator's file; of DF-GAN and GALIP, a training state will do",
    "text-encoder": "DAMSM's text encoder",
    "image-encoder": "DAMSM's image encoder; with it, the encoders are saved too, to train around",
    "discriminator": "the discriminator of SSA-GAN; of DF-GAN and GALIP, a training state",
    "discriminator64": "AttnGAN's or DM-GAN's discriminator of 64 px (netD0); all three or none",
    "discriminator128": "the same of 128 px (netD1)",
    "discriminator256": "the same of 256 px (netD2; the one of AttnDCGAN, its netD0)",
    "clip": "tensors of OpenAI's CLIP ViT-B/32, for GALIP",
    "captions": "captions.pickle, which holds the vocabulary",
    "tokenizer": "folder or Hub download of CLIP's tokenizer, for GALIP",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", required=True, help="whose files they are: a name of those above")
    for part, text in PARTS.items():
        parser.add_argument(f"--{part}", type=Path, help=text)
    parser.add_argument(
        "--max-words",
        type=int,
        default=25,
        help="words of a prompt that are read (default: 25, as evaluated on CUB; COCO: 20)",
    )
    parser.add_argument(
        "--align-corners",
        choices=["true", "false"],
        help="of the image encoder's resize (default: that of the repository; damsm: AttnGAN's, true)",
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder to make")
    options = parser.parse_args(arguments)

    try:
        from t2i_supcon.conversion import convert_files  # after parsing: it imports torch

        files = {part.replace("-", "_"): getattr(options, part.replace("-", "_")) for part in PARTS}
        align_corners = None if options.align_corners is None else options.align_corners == "true"
        convert_files(
            options.arch,
            {part: path for part, path in files.items() if path},
            options.output,
            options.max_words,
            align_corners,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    print(options.output)


if __name__ == "__main__":
    main()
