"""The word-level tokenizer of DAMSM: AttnGAN's rule as a plain `tokenizer.json` that
`AutoTokenizer` loads."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import BatchEncoding, PreTrainedTokenizerFast

PAD = "<end>"  # id 0, as in the original vocabularies


def split_words(caption: str) -> list[str]:
    """Splits a caption as AttnGAN did: lower case, runs of word characters, non-ASCII characters
    dropped inside them."""
    runs = re.findall(r"\w+", caption.replace("\ufffd\ufffd", " ").lower())
    words = (run.encode("ascii", "ignore").decode() for run in runs)
    return [word for word in words if word]


def build_tokenizer(captions: Iterable[str], max_words: int) -> PreTrainedTokenizerFast:
    """Builds a tokenizer that knows every word of `captions`, ids by falling frequency.

    Args:
        captions: training captions.
        max_words: longer prompts are cut to their first words when truncation is asked for.

    Raises:
        ValueError: captions without any word.
    """
    counts = Counter(word for caption in captions for word in split_words(caption))
    if not counts:
        raise ValueError("the captions hold no word to build a vocabulary from")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return word_tokenizer({word: number for number, word in enumerate(ordered, start=1)}, max_words)


def word_tokenizer(word_ids: dict[str, int], max_words: int) -> PreTrainedTokenizerFast:
    """Makes the tokenizer of a given vocabulary; id 0 is padding, words outside the vocabulary
    vanish.

    A BPE without merges is the one model of the library that can drop unknown words; the normaliser
    does the rest of the rule.
    """
    tokenizer = Tokenizer(
        models.BPE(vocab={PAD: 0, **{"▁" + word: i for word, i in word_ids.items()}}, merges=[], ignore_merges=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("\ufffd\ufffd", " "),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"(?![\x00-\x7F])[\p{L}\p{N}]"), ""),
            normalizers.Replace(Regex(r"[^a-z0-9_]+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, model_max_length=max_words)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the files `AutoTokenizer` loads, without the truncation and padding that the last call
    happened to ask for."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def encode_prompts(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> BatchEncoding:
    """Turns prompts into `input_ids` and `attention_mask` (B, T) tensors, each cut to its first
    words.

    Raises:
        ValueError: a prompt without any word the tokenizer knows.
    """
    unknown = [prompt for prompt in prompts if not tokenizer(prompt)["input_ids"]]
    if unknown:
        raise ValueError(
            f"no word of the prompt {unknown[0]!r} is in the model's vocabulary of {len(tokenizer) - 1} "
            "words; describe the picture with other words"
        )
    return tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt", return_token_type_ids=False)
