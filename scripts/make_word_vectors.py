"""Makes vectors of words for a text encoder to start from, by a language model of the Hub.

python scripts/make_word_vectors.py --data data/photos --output vectors.safetensors
python scripts/train.py --recipe damsm-emoji word_vectors=vectors.safetensors data.name=data/photos

The encoder then understands words that no training caption holds, by their likeness to others. The
file has all words of the data's captions and the language model's most frequent ones.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        default="sentence-transformers/all-MiniLM-L6-v2",
        help="folder or Hub name of a language model that embeds sentences (default: %(default)s)",
    )
    parser.add_argument(
        "--data", default="emoji", help="whose words are needed, as a recipe's data.name (default: emoji)"
    )
    parser.add_argument("--splits", nargs="+", default=["train", "test"], help="of the data (default: train test)")
    parser.add_argument("--words", type=int, default=8000, metavar="N", help="words in all (default: 8000)")
    parser.add_argument(
        "--width", type=int, default=128, help="of a vector: the recipe's text_config.embedding_dim (default: 128)"
    )
    parser.add_argument("--output", type=Path, required=True, help="the file to write, a .safetensors")
    options = parser.parse_args(arguments)
    try:
        from t2i_supcon.data import load_rows  # after parsing: --help should not wait for torch
        from t2i_supcon.data.word_vectors import (
            choose_words,
            embed_words,
            load_language_model,
            pieces_of,
            write_word_vectors,
        )

        splits = [load_rows(options.data, split) for split in options.splits]
        captions = (caption or "" for rows in splits for row in rows["captions"] for caption in row or ())
        tokenizer, model = load_language_model(options.model)
        words = choose_words(captions, pieces_of(tokenizer), options.words)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_word_vectors(options.output, embed_words(tokenizer, model, words, options.width), options.model)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    print(f"{len(words):,} words in {options.output}")


if __name__ == "__main__":
    main()
