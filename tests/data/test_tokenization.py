"""The tokenizer file against the original rule in plain Python."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from t2i_supcon.data import build_tokenizer, encode_prompts, save_tokenizer, split_words, word_tokenizer

WORDS = ["red", "bird", "a", "caf", "x2", "under_score", "i"]
TOKENIZER = word_tokenizer({word: i for i, word in enumerate(WORDS, start=1)}, 4)


def original_rule(text):
    """AttnGAN's loop, token by token; words outside the vocabulary are skipped."""
    tokens = re.compile(r"\w+").findall(text.replace("\ufffd\ufffd", " ").lower())
    ids = []
    for token in tokens:
        token = token.encode("ascii", "ignore").decode("ascii")
        if len(token) > 0 and token in WORDS:
            ids.append(WORDS.index(token) + 1)
    return ids


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(WORDS),
            st.text(max_size=6),
            st.sampled_from(["Red-bird", "café", "\ufffd\ufffd", "①", "A."]),
        )
    )
)
def test_equals_the_original_rule(pieces):
    text = " ".join(pieces)
    if "<end>" not in text.lower():
        assert TOKENIZER(text)["input_ids"] == original_rule(text)


def test_vocabulary_is_ordered_by_frequency_and_padding_is_zero():
    tokenizer = build_tokenizer(["b a", "b c", "b a"], 5)
    assert tokenizer.convert_tokens_to_ids(["<end>", "▁b", "▁a", "▁c"]) == [0, 1, 2, 3]
    assert tokenizer.pad_token_id == 0


def test_reloads_without_custom_code(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("A RED, bird!")["input_ids"] == [3, 1, 2]
    assert loaded.model_max_length == 4
    assert loaded.decode([3, 1, 2]) == "a red bird"


def test_the_saved_file_does_not_depend_on_earlier_calls(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path / "before")
    encode_prompts(TOKENIZER, ["red", "a red bird a red bird"])
    save_tokenizer(TOKENIZER, tmp_path / "after")
    assert (tmp_path / "before/tokenizer.json").read_bytes() == (tmp_path / "after/tokenizer.json").read_bytes()
    loaded = AutoTokenizer.from_pretrained(tmp_path / "after")
    assert encode_prompts(loaded, ["a red bird a red bird"])["input_ids"].tolist() == [[3, 1, 2, 3]]


def test_prompts_are_padded_and_cut():
    batch = encode_prompts(TOKENIZER, ["red", "a red bird a red bird"])
    assert batch["input_ids"].tolist() == [[1, 0, 0, 0], [3, 1, 2, 3]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]


def test_prompt_without_a_known_word_is_named():
    with pytest.raises(ValueError, match="'zebra crossing'"):
        encode_prompts(TOKENIZER, ["red", "zebra crossing"])


def test_split_words_drops_what_is_not_ascii():
    assert split_words("Café au\ufffd\ufffdlait! über_x ①") == ["caf", "au", "lait", "ber_x"]
    with pytest.raises(ValueError, match="no word"):
        build_tokenizer(["...", "①"], 5)
