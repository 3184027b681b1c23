"""The word-level tokenizer of DAMSM: AttnGAN's rule as a plain `tokenizer.json` that
`AutoTokenizer` loads."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import BatchEncoding, PreTrainedTokenizerFast

PAD = "<end>"  # id 0, as in the original vocabularies


def split_words(caption: str) -> list[str]:
    """Splits a caption as AttnGAN did: lower case, runs of word characters, non-ASCII characters
    dropped inside them."""
    runs = re.findall(r"\w+", caption.replace("\ufffd\ufffd", " ").lower())
    words = (run.encode("ascii", "ignore").decode() for run in runs)
    return [word for word in words if word]


def build_tokenizer(captions: Iterable[str], max_words: int, more_words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Builds a tokenizer that knows every word of `captions`, ids by falling frequency.

    Args:
        captions: training captions.
        max_words: longer prompts are cut to their first words when truncation is asked for.
        more_words: that it knows, too, behind those.

    Raises:
        ValueError: captions without any word.
    """
    counts = Counter(word for caption in captions for word in split_words(caption))
    if not counts:
        raise ValueError("the captions hold no word to build a vocabulary from")
    ordered = dict.fromkeys((*sorted(counts, key=lambda word: (-counts[word], word)), *more_words))
    return word_tokenizer({word: number for number, word in enumerate(ordered, start=1)}, max_words)


def extend_vocabulary(tokenizer: PreTrainedTokenizerFast, captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """Appends the words of `captions` that a tokenizer of words lacks, by falling frequency; known
    words keep their ids. A tokenizer of parts of words, which knows all, is given back."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE" or model["merges"]:
        return tokenizer
    known = {piece.removeprefix("▁"): number for piece, number in model["vocab"].items() if piece != PAD}
    counts = Counter(word for caption in captions for word in split_words(caption))
    new = sorted(counts.keys() - known.keys(), key=lambda word: (-counts[word], word))
    numbered = enumerate(new, start=max(known.values()) + 1)
    return word_tokenizer(known | {word: number for number, word in numbered}, tokenizer.model_max_length)


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
    # a typed <end> is the word "end", not padding: it is split
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, model_max_length=max_words, split_special_tokens=True
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the files `AutoTokenizer` loads, without the truncation and padding that the last call
    happened to ask for."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def encode_prompts(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], to_limit: bool = False) -> BatchEncoding:
    """Turns prompts into `input_ids` and `attention_mask` (B, T) tensors, padded on the right, each
    cut to its first words.

    Marks that the tokenizer itself writes, such as padding, are ordinary text where a prompt holds
    them.

    Args:
        tokenizer: of the text encoder.
        prompts: B sentences.
        to_limit: T is the tokenizer's limit, rather than the length of the longest prompt.

    Raises:
        ValueError: a prompt without any word the tokenizer knows, or that is no Unicode text.
    """
    for prompt in prompts:
        try:
            prompt.encode()
        except UnicodeEncodeError as error:  # as where the shell gave bytes of another encoding
            raise ValueError(f"the prompt {shortened(prompt)!r} holds bytes that are not UTF-8") from error
    encoded = tokenizer(
        list(prompts),
        truncation=True,
        padding="max_length" if to_limit else True,
        padding_side="right",
        split_special_tokens=True,
        return_token_type_ids=False,
        return_tensors="pt",
    )
    unknown = [prompt for prompt, mask in zip(prompts, encoded["attention_mask"]) if not mask.any()]
    if unknown:
        raise ValueError(
            f"no word of the prompt {shortened(unknown[0])!r} is in the model's vocabulary of {len(tokenizer) - 1} "
            "words; describe the picture with other words"
        )
    return encoded


class PromptWords(NamedTuple):
    """What becomes of the words of a prompt.

    Attributes:
        read: words that the model reads, as typed.
        unknown: words outside its vocabulary.
        beyond: words behind the last one that it has room for.
        marked: the prompt, with the words that are left out in brackets.
    """

    read: list[str]
    unknown: list[str]
    beyond: list[str]
    marked: str


def prompt_words(tokenizer: PreTrainedTokenizerFast, prompt: str) -> PromptWords:
    """Tells which words of a prompt a tokenizer keeps, and which it leaves out."""
    encode = partial(tokenizer, prompt, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
    every, kept = (covered_characters(prompt, encode(truncation=cut)["offset_mapping"]) for cut in (False, True))
    words = PromptWords([], [], [], "")
    marked, copied = [], 0
    for match in re.finditer(r"\w+", prompt):
        start, end = match.span()
        known, read = every[start:end], kept[start:end]
        (words.read if any(read) and read == known else words.beyond if any(known) else words.unknown).append(match[0])
        if not any(read) or read != known:
            marked.append(f"{prompt[copied:start]}[{match[0]}]")
            copied = end
    return words._replace(marked="".join(marked) + prompt[copied:])


def covered_characters(text: str, spans: Sequence[tuple[int, int]]) -> bytearray:
    """One byte for each character: 1 where some span holds it."""
    covered = bytearray(len(text))
    for start, end in spans:
        covered[start:end] = b"\1" * (end - start)
    return covered


def describe_left_out(words: PromptWords, limit: int) -> str:
    """Says in a few words which words are left out; empty where none is.

    Args:
        words: of a prompt.
        limit: tokens that the model reads.
    """

    def names(left_out: list[str]) -> str:
        more = f" and {len(left_out) - 8} more" if len(left_out) > 8 else ""
        return ", ".join(repr(shortened(word, 30)) for word in left_out[:8]) + more

    parts = [f"unknown words {names(words.unknown)}"] if words.unknown else []
    parts += [f"words beyond the {limit} tokens that the model reads: {names(words.beyond)}"] if words.beyond else []
    return "; ".join(parts)


def shortened(text: object, length: int = 80) -> str:
    """Text for a message, cut where it is long."""
    text = str(text)
    return text if len(text) <= length else f"{text[: length - 3]}..."
