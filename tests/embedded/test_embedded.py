"""The models inside the package draw what their names promise."""

import json

import numpy as np
import pytest
from transformers import AutoModel, pipeline

import t2i_supcon
from t2i_supcon import EMBEDDED_MODELS, embedded_model

MAX_BYTES = 10_000_000


def test_names():
    assert list(EMBEDDED_MODELS) == ["emoji-scl", "emoji-baseline"]
    assert embedded_model() == EMBEDDED_MODELS["emoji-scl"]
    with pytest.raises(ValueError, match="no embedded model 'emoji'; there are emoji-scl, emoji-baseline"):
        embedded_model("emoji")


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_draws_what_was_asked_for(name):
    draw = pipeline("text-to-image", model=embedded_model(name))
    picture = {what: np.asarray(draw(what, seed=0)[0], dtype=float) for what in ("a red heart", "a green apple")}
    side = draw.model.config.image_size
    assert picture["a red heart"].shape == (side, side, 3)
    inner = slice(side // 4, -side // 4)
    middle = {what: array[inner, inner].mean((0, 1)) for what, array in picture.items()}
    assert middle["a red heart"].argmax() == 0 and middle["a green apple"].argmax() == 1


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_is_small_enough_for_a_package(name):
    assert sum(path.stat().st_size for path in embedded_model(name).rglob("*")) < MAX_BYTES


def test_the_two_are_equal_but_for_their_weights():
    """The same architecture and vocabulary, so that the same words and noise can be compared."""
    scl, baseline = map(embedded_model, EMBEDDED_MODELS)
    assert json.loads((scl / "config.json").read_text()) == json.loads((baseline / "config.json").read_text())
    assert (scl / "tokenizer.json").read_bytes() == (baseline / "tokenizer.json").read_bytes()
    assert isinstance(AutoModel.from_pretrained(scl), t2i_supcon.models.TextToImageModel)
