"""Vectors of words from a language model, by which a text encoder knows words that no caption of
its training holds.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..hub import explained
from .emoji import FOLDER
from .tokenization import split_words

EMBEDDED = FOLDER / "word_vectors.safetensors"


class WordVectors(NamedTuple):
    """Words and their vectors.

    Attributes:
        words: N words, as `split_words` gives them, each once.
        vectors: (N, E) float32, of mean square 1 over all values.
    """

    words: tuple[str, ...]
    vectors: Tensor


def read_word_vectors(name: str | Path) -> WordVectors:
    """Reads vectors of words.

    Args:
        name: "emoji" for those of the embedded data, or a file that `write_word_vectors` made.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no vectors of words.
    """
    path = EMBEDDED if name == "emoji" else Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"word_vectors {str(name)!r} is no file; name 'emoji', or a file that scripts/make_word_vectors.py made"
        )
    try:
        with safe_open(path, "pt") as file:
            words, vectors = json.loads((file.metadata() or {})["words"]), file.get_tensor("vectors").float()
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no vectors of words: make it with scripts/make_word_vectors.py") from error
    check_word_vectors(words, vectors, path)
    return WordVectors(tuple(words), vectors)


def write_word_vectors(path: Path, vectors: WordVectors, source: str) -> None:
    """Writes vectors of words in half precision, with the name of what they come from.

    Raises:
        ValueError: as from `check_word_vectors`.
        OSError: it cannot be written.
    """
    check_word_vectors(vectors.words, vectors.vectors, path)
    try:
        save_file({"vectors": vectors.vectors.half()}, path, {"words": json.dumps(vectors.words), "source": source})
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def check_word_vectors(words: Sequence[str], vectors: Tensor, where: object) -> None:
    """Refuses words that a tokenizer of words would never give, and vectors that do not fit them.

    Raises:
        ValueError: names the first word, or both numbers.
    """
    if not isinstance(words, (list, tuple)) or vectors.ndim != 2 or len(words) != len(vectors) or not len(words):
        raise ValueError(f"{where}: there are {len(words)} words and vectors of shape {tuple(vectors.shape)}")
    if not vectors.isfinite().all():
        raise ValueError(f"{where}: vectors hold NaN or infinity")
    seen: set[str] = set()
    for word in words:
        if not isinstance(word, str) or split_words(word) != [word]:
            raise ValueError(f"{where}: {word!r} is no word in lower case of a-z, 0-9 and _")
        if word in seen:
            raise ValueError(f"{where}: the word {word!r} stands twice")
        seen.add(word)


def load_language_model(name: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and network of a language model of transformers.

    Args:
        name: its folder or Hub name.

    Raises:
        OSError, ValueError: it cannot be loaded; of the Hub in one sentence, see `hub.explain`.
    """
    with explained(name):
        return AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The vocabulary by its ids, which in BERT's begin with the frequent words."""
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


def choose_words(captions: Iterable[str], known: Iterable[str], count: int) -> list[str]:
    """All words of the captions, in order of the alphabet, then those of a language model's
    vocabulary that are whole words of at least two letters, in its order, until there are `count`.

    Args:
        captions: whose words are needed.
        known: pieces of the language model's vocabulary, the frequent ones first.
        count: words wanted; the captions' are never cut.
    """
    chosen = dict.fromkeys(sorted({word for caption in captions for word in split_words(caption)}))
    for piece in known:
        if len(chosen) >= count:
            break
        if len(piece) > 1 and piece.isascii() and piece.isalpha() and piece.islower():
            chosen[piece] = None
    return list(chosen)


@torch.inference_mode()
def embed_words(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    words: Sequence[str],
    width: int,
    batch_size: int = 256,
) -> WordVectors:
    """Reads each word alone by a language model of transformers: the mean of its last hidden
    states, normalised as sentence-transformers does, on the first `width` principal components.

    Args:
        tokenizer, model: of the language model.
        words: N words.
        width: E, of the vectors wanted.

    Raises:
        ValueError: fewer words than `width`, or vectors of the model that are narrower.
    """
    found = []
    for start in tqdm(range(0, len(words), batch_size), "words", unit="batch"):
        encoded = tokenizer(list(words[start : start + batch_size]), padding=True, return_tensors="pt")
        mask = encoded["attention_mask"][..., None]
        states = model(**encoded).last_hidden_state
        found.append(F.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1))
    return WordVectors(tuple(words), principal_components(torch.cat(found), width))


def principal_components(vectors: Tensor, width: int) -> Tensor:
    """(N, D) vectors on their first `width` principal components, scaled to mean square 1; (N,
    width).

    Raises:
        ValueError: `width` is above N or D.
    """
    if width > min(vectors.shape):
        raise ValueError(
            f"{len(vectors)} vectors of {vectors.shape[1]} numbers have {min(vectors.shape)} components; {width} are "
            "wanted: take a smaller width, or more words"
        )
    centred = vectors - vectors.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = centred @ directions[:width].T
    return kept / kept.square().mean().sqrt()
