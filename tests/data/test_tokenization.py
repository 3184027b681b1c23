"""The tokenizer file against the original rule in plain Python."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from t2i_supcon.data import (
    build_tokenizer,
    describe_left_out,
    encode_prompts,
    extend_vocabulary,
    prompt_words,
    save_tokenizer,
    shortened,
    split_words,
    word_tokenizer,
)

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
            st.sampled_from(["Red-bird", "café", "\ufffd\ufffd", "①", "A.", "<end>", "<END>"]),
        )
    )
)
def test_equals_the_original_rule(pieces):
    text = " ".join(pieces)
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


def test_prompt_in_another_encoding_is_named():
    prompt = b"a caf\xe9".decode(errors="surrogateescape")  # as Python reads a command line
    with pytest.raises(ValueError, match="the prompt 'a caf.*' holds bytes that are not UTF-8"):
        encode_prompts(build_tokenizer(["a red bird"], 4), ["a red bird", prompt])


def test_split_words_drops_what_is_not_ascii():
    assert split_words("Café au\ufffd\ufffdlait! über_x ①") == ["caf", "au", "lait", "ber_x"]
    with pytest.raises(ValueError, match="no word"):
        build_tokenizer(["...", "①"], 5)


def test_a_typed_end_is_a_word_and_never_padding(tmp_path):
    words = word_tokenizer({"end": 1, "red": 2}, 6)
    save_tokenizer(words, tmp_path)
    for tokenizer in (words, AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer("red <end> red <END>")["input_ids"] == [2, 1, 2, 1]
    older = word_tokenizer({"red": 1}, 6)
    older.split_special_tokens = False  # as saved before
    assert encode_prompts(older, ["red <end> red", "red"])["input_ids"].tolist() == [[1, 1], [1, 0]]
    with pytest.raises(ValueError, match="no word of the prompt '<end>'"):
        encode_prompts(older, ["<end>"])


def clip_like_tokenizer():
    """Byte-level pieces between a start and an end mark, as CLIP's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=letters | {"<s>": 256, "</s>": 257}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=12
    )


def test_marks_of_other_tokenizers_are_text_in_prompts_too():
    tokenizer = clip_like_tokenizer()
    batch = encode_prompts(tokenizer, ["a </s> b", "a"])
    assert (batch["input_ids"] == 257).sum(dim=1).tolist() == [1, 8]  # its own end, and padding behind it
    assert batch["attention_mask"].sum(dim=1).tolist() == [10, 3]


def test_a_prompt_is_padded_on_the_right_whatever_the_tokenizer_does_by_itself():
    tokenizer = word_tokenizer({"red": 1}, 4)
    tokenizer.padding_side = "left"
    assert encode_prompts(tokenizer, ["red red", "red"])["attention_mask"].tolist() == [[1, 1], [1, 0]]


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from([*WORDS, "zebra", "Red", "café!", "<end>", "über"]), st.text(max_size=5))))
def test_words_read_and_left_out_are_those_of_the_original_rule(pieces):
    text = " ".join(piece.replace("_", "") for piece in pieces)
    words = prompt_words(TOKENIZER, text)
    known = [word for word in re.findall(r"\w+", text.replace("\ufffd\ufffd", " ")) if original_rule(word)]
    assert words.read == known[:4] and words.beyond == known[4:]
    assert sorted(words.read + words.beyond + words.unknown) == sorted(re.findall(r"\w+", text))
    if not {"[", "]"} & set(text):
        assert re.sub(r"[\[\]]", "", words.marked) == text
        assert len(re.findall(r"\[\w+\]", words.marked)) == len(words.unknown + words.beyond)


def test_words_left_out_are_marked_and_described():
    words = prompt_words(TOKENIZER, "A zebra, red bird <end> a red BIRD")
    assert words.marked == "A [zebra], red bird <[end]> a [red] [BIRD]"
    assert describe_left_out(words, 4) == (
        "unknown words 'zebra', 'end'; words beyond the 4 tokens that the model reads: 'red', 'BIRD'"
    )
    assert describe_left_out(prompt_words(TOKENIZER, "a red bird"), 4) == ""
    many = describe_left_out(prompt_words(TOKENIZER, "a " + "x" * 1000 + " zebra" * 1000), 4)
    assert len(many) < 200 and many.endswith("'zebra' and 993 more")


def test_words_that_do_not_fit_a_clip_are_left_out_whole():
    words = prompt_words(clip_like_tokenizer(), "one blue sky")  # 10 letters between the marks: "one blue s"
    assert (words.read, words.unknown, words.beyond) == (["one", "blue"], [], ["sky"])


def test_no_message_says_what_is_untrue_of_long_prompts(caplog):
    prompt_words(TOKENIZER, "a red bird " * 10)
    encode_prompts(TOKENIZER, ["a red bird " * 10])
    assert not caplog.records


@pytest.mark.parametrize("prompt", ["zebra" * 1000, " ".join(["zebra"] * 1000)])
def test_a_huge_prompt_is_shortened_in_the_message(prompt):
    with pytest.raises(ValueError, match="no word of the prompt 'zebra") as error:
        encode_prompts(TOKENIZER, [prompt])
    assert len(str(error.value)) < 250 and len(shortened(prompt, 80)) == 80 and shortened("red", 3) == "red"


def test_a_vocabulary_is_extended_behind_the_words_it_has():
    first = build_tokenizer(["a red bird", "a bird"], 5)
    both = extend_vocabulary(first, ["A RED fish", "two fish", "a cat"])
    assert both.get_vocab() == first.get_vocab() | {"▁fish": 4, "▁cat": 5, "▁two": 6}
    assert both.model_max_length == 5 and both("red two cat")["input_ids"] == [3, 6, 5]
    assert extend_vocabulary(first, ["a bird"]).get_vocab() == first.get_vocab()


def test_a_tokenizer_of_parts_of_words_needs_no_new_ones():
    parts = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=parts)
    assert extend_vocabulary(tokenizer, ["a bird"]) is tokenizer
