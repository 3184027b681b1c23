"""The text-to-image pipeline, as users call it."""

import numpy as np
import pytest
from conftest import TINY, tiny_text
from transformers import pipeline

import t2i_supcon
from t2i_supcon.models import GANS
from t2i_supcon.training.recipe import build_model_config


@pytest.fixture
def folder(gan_name, tokenizer, tmp_path):
    gan = GANS[gan_name]
    config = build_model_config(gan.config, TINY[gan_name], text_config=tiny_text(gan_name, len(tokenizer)))
    gan.composite(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_prompt_gives_images_and_the_seed_decides_them(folder, gan_name):
    draw = pipeline("text-to-image", model=str(folder))
    assert isinstance(draw, t2i_supcon.TextToImagePipeline)
    first, again, other = (draw("a red star", num_images_per_prompt=3, seed=seed) for seed in (0, 0, 1))
    size = draw.model.config.image_sizes[-1]
    assert len(first) == 3 and first[0].size == (size, size) and first[0].mode == "RGB"
    assert all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(first, again))
    assert not np.array_equal(np.array(first[0]), np.array(other[0]))


def test_a_list_gives_a_list_in_order(folder):
    draw = pipeline("text-to-image", model=str(folder))
    prompts = ["a red star", "yellow circle"]
    together = draw(prompts, seed=4)
    for prompt, images in zip(prompts, together):
        assert np.array_equal(np.array(draw(prompt, seed=4)[0]), np.array(images[0]))


def test_a_prompt_without_a_known_word_is_one_clear_error(folder):
    with pytest.raises(ValueError, match="no word of the prompt 'zebra'"):
        pipeline("text-to-image", model=str(folder))("zebra")
