import json
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from conftest import write_dataset
from safetensors import safe_open
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import BertConfig, BertModel, BertTokenizer

from t2i_supcon.data import load_rows, split_words
from t2i_supcon.data.word_vectors import (
    EMBEDDED,
    WordVectors,
    choose_words,
    embed_words,
    load_language_model,
    principal_components,
    read_word_vectors,
    write_word_vectors,
)

WORDS = ("bear", "car", "heart", "red")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A BERT of random weights that knows some words and parts of others."""
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "hed", "##ge", "##hog", "Z", "x1", "a"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(folder)
    return folder


def test_what_was_written_is_read(tmp_path):
    vectors = torch.randn(4, 3)
    write_word_vectors(tmp_path / "a.safetensors", WordVectors(WORDS, vectors), "somewhere")
    found = read_word_vectors(tmp_path / "a.safetensors")
    assert found.words == WORDS and found.vectors.dtype == torch.float32
    assert_close(found.vectors, vectors, rtol=1e-3, atol=1e-4)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["source"] == "somewhere"


def test_the_embedded_ones_know_the_words_of_all_captions():
    found = read_word_vectors("emoji")
    rows = [row for split in ("train", "test") for row in load_rows("emoji", split)["captions"]]
    assert {word for row in rows for caption in row for word in split_words(caption)} <= set(found.words)
    assert found.vectors.square().mean() == pytest.approx(1, rel=1e-2)
    assert EMBEDDED.stat().st_size < 3e6

    def likeness(a, b):
        pair = [found.vectors[found.words.index(word)] for word in (a, b)]
        return torch.cosine_similarity(*pair, dim=0)

    for word, near, far in (("chipmunk", "squirrel", "invoice"), ("broccoli", "vegetable", "cowgirl")):
        assert likeness(word, near) > likeness(word, far) + 0.2


@pytest.mark.parametrize(
    ("words", "vectors", "says"),
    [
        (["red", "Car"], torch.ones(2, 3), "'Car' is no word"),
        (["red", "two words"], torch.ones(2, 3), "'two words' is no word"),
        (["red", "red"], torch.ones(2, 3), "the word 'red' stands twice"),
        (["red"], torch.ones(2, 3), r"1 words and vectors of shape \(2, 3\)"),
        ([], torch.ones(0, 3), "0 words"),
        (["red"], torch.full((1, 3), float("nan")), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, words, vectors, says):
    with pytest.raises(ValueError, match=says):
        write_word_vectors(tmp_path / "a.safetensors", WordVectors(tuple(words), vectors), "")
    assert not (tmp_path / "a.safetensors").exists()
    save_file({"vectors": vectors}, tmp_path / "a.safetensors", {"words": json.dumps(words)})
    with pytest.raises(ValueError, match=says):
        read_word_vectors(tmp_path / "a.safetensors")


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*glove.txt' is no file; name 'emoji', or a file that"):
        read_word_vectors(tmp_path / "glove.txt")
    (tmp_path / "glove.txt").write_text("red 0.1 0.2")
    save_file({"weight": torch.ones(1)}, tmp_path / "model.safetensors")
    for name in ("glove.txt", "model.safetensors"):
        with pytest.raises(ValueError, match=r"holds no vectors of words: make it with scripts/make_word_vectors.py"):
            read_word_vectors(tmp_path / name)


def test_words_of_captions_come_first_and_are_never_cut():
    known = ["[PAD]", "Z", "a", "the", "##ing", "café", "x1", "red", "blue"]
    assert choose_words(["A red car", "a heart"], known, 6) == ["a", "car", "heart", "red", "the", "blue"]
    assert choose_words(["A red car", "a heart"], known, 2) == ["a", "car", "heart", "red"]


def test_components_keep_the_distances_of_the_best_projection():
    x = np.random.default_rng(0).normal(size=(30, 6)) * [5, 4, 3, 0.1, 0.1, 0.1]
    found = principal_components(torch.tensor(x), 3).numpy()
    values, directions = np.linalg.eigh(np.cov(x.T))
    expected = (x - x.mean(axis=0)) @ directions[:, ::-1][:, :3]
    expected /= np.sqrt(np.square(expected).mean())
    assert_close(found @ found.T, expected @ expected.T)
    with pytest.raises(ValueError, match="30 vectors of 6 numbers have 6 components; 7 are wanted"):
        principal_components(torch.tensor(x), 7)


def test_words_are_read_one_by_one(language_model):
    """Each as the model reads it alone, whatever stands beside it in a batch."""
    words = (*WORDS, "hedgehog")
    found = embed_words(*load_language_model(str(language_model)), words, 2, batch_size=3)
    model, tokenizer = BertModel.from_pretrained(language_model).eval(), BertTokenizer.from_pretrained(language_model)
    alone = []
    for word in words:
        with torch.no_grad():
            states = model(**tokenizer(word, return_tensors="pt")).last_hidden_state
        alone.append(states.mean(dim=1) / states.mean(dim=1).norm())
    expected = principal_components(torch.cat(alone), 2)
    assert found.words == words
    assert_close(found.vectors @ found.vectors.T, expected @ expected.T, rtol=1e-3, atol=1e-4)


def test_the_script_makes_vectors_for_data_of_ones_own(language_model, tmp_path):
    write_dataset(tmp_path / "data", [0, 1, 0, 1])
    write_dataset(tmp_path / "data", [0, 1], "test")
    output = tmp_path / "vectors.safetensors"
    script = Path(__file__).parents[2] / "scripts" / "make_word_vectors.py"
    options = ["--model", language_model, "--data", tmp_path / "data", "--output", output]
    done = forked.run([sys.executable, script, *options, "--words", "1", "--width", "2"])
    assert done.returncode == 0, done.stderr
    captions = [caption for row in load_rows(str(tmp_path / "data"), "train")["captions"] for caption in row]
    found = read_word_vectors(output)
    assert set(found.words) >= {word for caption in captions for word in split_words(caption)}
    assert done.stdout == f"{len(found.words)} words in {output}\n" and found.vectors.shape[1] == 2
    refused = forked.run([sys.executable, script, *options, "--width", "99"])
    assert refused.returncode == 1 and "12 components; 99 are wanted" in refused.stderr.splitlines()[-1]


def test_a_language_model_that_is_not_there_and_a_place_that_is_none_are_one_line(tmp_path):
    with pytest.raises(OSError, match="there is no model repository 'me/nothing'"):
        load_language_model("me/nothing")
    with pytest.raises(OSError, match="a.safetensors cannot be written"):
        write_word_vectors(tmp_path / "nowhere" / "a.safetensors", WordVectors(("red",), torch.ones(1, 2)), "")
