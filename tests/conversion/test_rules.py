"""What rules are made of."""

import pytest
import torch

from t2i_supcon.conversion.rules import count_modules, rename, shape_of, text_width


def test_rules_apply_in_their_order():
    rules = [(r"^block(\d+)\.", r"blocks.\1."), (r"^blocks\.", "layers."), (r"\.c_sc\.", lambda match: ".shortcut.")]
    assert rename("block12.c_sc.weight", rules) == "layers.12.shortcut.weight"
    assert rename("my.block12.bias", rules) == "my.block12.bias"


def test_sizes_are_read_or_refused_by_name():
    state = {"weight": torch.zeros(4, 3), "scale": torch.tensor(1.0), "empty": torch.zeros(0, 3)}
    assert shape_of(state, "weight", 2) == (4, 3) and shape_of(state, "scale", 0) == ()
    for key, rank, shape in (("weight", 4, r"\(4, 3\)"), ("empty", 2, r"\(0, 3\)")):
        with pytest.raises(ValueError, match=rf"{key} has shape {shape}; {rank} dimensions, none of them 0"):
            shape_of(state, key, rank)
    with pytest.raises(KeyError):
        shape_of(state, "bias", 1)


def test_modules_are_counted_by_their_numbers():
    keys = ("block0.weight", "block0.bias", "block10.weight", "block.weight", "other.block2.weight", "block3")
    assert count_modules(dict.fromkeys(keys), "block") == 2


def test_a_known_text_encoder_is_taken_as_it_is():
    assert text_width(7, {"noise_dim": 3}) == {"text_config": {"hidden_size": 7}, "noise_dim": 3}
    assert text_width(7, {"text_config": {"hidden_size": 7, "vocab_size": 9}})["text_config"]["vocab_size"] == 9
