"""What the page draws, and what it refuses."""

import io
import math

import numpy as np
import pytest
import torch
from conftest import CAPTIONS, TINY, tiny_text
from drawing import FREE, MAX_CHARACTERS, MAX_SEED, Refused, Request, Studio, animation, on_sphere
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i_supcon.data import build_tokenizer
from t2i_supcon.figures import enlarged
from t2i_supcon.models import GANS
from t2i_supcon.pipeline import TextToImagePipeline
from t2i_supcon.training.recipe import build_model_config


def pipeline_of(name):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(CAPTIONS, max_words=6)
    config = build_model_config(GANS[name].config, TINY[name], text_config=tiny_text(name, len(tokenizer)))
    model = GANS[name].composite(config)
    with torch.no_grad():
        for parameter in model.parameters():  # leaves the point where all prompts look alike
            parameter.add_(0.05 * torch.randn_like(parameter))
    return TextToImagePipeline(model, tokenizer)


@pytest.fixture(scope="module")
def studio():
    return Studio({name: pipeline_of(name) for name in GANS})


def pixels(pictures):
    return np.stack([np.asarray(picture) for picture in pictures]).astype(int)


def test_pictures_are_the_pipelines_enlarged(studio, gan_name):
    request = Request("a red circle", count=3, seed=5, truncation=1.0)
    drawn = studio.pictures(gan_name, request)
    native = studio.models[gan_name]("a red circle", num_images_per_prompt=3, seed=5, truncation=1.0)
    assert native[0].width < 256 and np.array_equal(pixels(drawn), pixels(enlarged(image, 256) for image in native))


def test_png_files_say_what_was_drawn(studio):
    [_, second] = studio.pictures("ssagan", Request("a red circle", count=2, seed=7, truncation=0.5))
    expected = {"prompt": "a red circle", "seed": "7", "model": "ssagan", "truncation": "0.5", "image": "2"}
    assert expected.items() <= second.info.items()
    assert "truncation" not in studio.pictures("ssagan", Request("a red circle"))[0].info


def test_sheets_show_each_model_the_same_words_and_noise(studio):
    request = Request("a red circle", count=4, seed=3)
    sheets = studio.sheets(["attngan", "dmgan"], request)
    for name, sheet in zip(["attngan", "dmgan"], sheets):
        first = np.asarray(studio.pictures(name, request)[0])
        assert np.array_equal(np.asarray(sheet)[: len(first), : len(first)], first)
    assert sheets[0].size == sheets[1].size and not np.array_equal(*map(np.asarray, sheets))


def test_views_of_words_fit_the_architecture(studio, gan_name):
    views = studio.word_views(gan_name, Request("a red circle", seed=3))
    assert np.array_equal(
        np.asarray(views[0][0]), np.asarray(studio.pictures(gan_name, Request("a red circle", 1, 3))[0])
    )
    labels = [label for _, label in views[1:]]
    if gan_name in ("attngan", "dmgan"):
        assert [label.split()[0] for label in labels] == ["a", "red", "circle"]
    elif gan_name == "ssagan":
        assert labels and all(label.startswith("block ") for label in labels)
    assert len({view.size for view, _ in views}) == 1


def test_a_walk_ends_at_the_very_pictures(studio, gan_name):
    start = Request("a red circle", 1, 1)
    frames = studio.walk(gan_name, start, "the green triangle a small one", 2, 5)
    ends = [
        studio.pictures(gan_name, start),
        studio.pictures(gan_name, Request("the green triangle a small one", 1, 2)),
    ]
    assert len(frames) == 5
    for frame, end in zip((frames[0], frames[-1]), ends):
        assert np.abs(pixels([enlarged(frame, 256)]) - pixels(end)).max() <= 1
    steps = [np.abs(a - b).mean() for a, b in zip(pixels(frames), pixels(frames)[1:])]
    assert max(steps) < np.abs(pixels(frames[:1]) - pixels(frames[-1:])).mean()  # no step is the whole way


def test_half_way_on_the_sphere_is_at_half_the_angle():
    start, end = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    middle = on_sphere(start, end, torch.tensor(0.5))
    assert torch.allclose(middle, torch.tensor([[math.sqrt(2), math.sqrt(2), 0.0]]), atol=1e-6)
    assert torch.equal(on_sphere(start, start, torch.tensor(0.3)), start)


def test_an_animation_goes_there_and_back():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    film = Image.open(io.BytesIO(animation([Image.new("RGB", (8, 8), colour) for colour in colours])))
    seen = []
    for n in range(film.n_frames):
        film.seek(n)
        seen.append(film.convert("RGB").getpixel((0, 0)))
    assert seen == [*colours, colours[1]] and film.info["loop"] == 0 and film.width == 256


def test_words_that_are_left_out_are_marked(studio):
    prompt = "A red <b>zorp</b>, yellow circle & star on square"  # read: six words, as many as there is room for
    marked = studio.marked_words("attngan", prompt)
    assert "".join(text for text, _ in marked) == prompt
    left_out = [(text, reason) for text, reason in marked if reason]
    assert left_out == [("b", "unknown"), ("zorp", "unknown"), ("b", "unknown"), ("square", "no room")]


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=MAX_CHARACTERS))
def test_any_text_is_drawn_or_refused(studio, text):
    try:
        request = Request.checked(text, 1, 0)
        assert "".join(piece for piece, _ in studio.marked_words("ssagan", request.prompt)) == request.prompt
        assert len(studio.pictures("ssagan", request)) == 1
    except Refused as refusal:
        assert str(refusal)


@pytest.mark.parametrize(
    "given, message",
    [
        (("",), "Type a few words"),
        ((" \n\t\x00\x1b\u200b",), "Type a few words"),
        (("a" * (MAX_CHARACTERS + 1),), "301 characters"),
        ((None,), "has to be text"),
        ((["a red circle"],), "has to be text"),
        (("a", 0), "pictures has to be a whole number from 1 to 9"),
        (("a", 10**30), "pictures has to be a whole number from 1 to 9"),
        (("a", 2.5), "pictures has to be"),
        (("a", True), "pictures has to be"),
        (("a", "4"), "pictures has to be"),
        (("a", float("nan")), "pictures has to be"),
        (("a", float("inf")), "pictures has to be"),
        (("a", 1, -1), "seed has to be a whole number from 0 to 4294967295"),
        (("a", 1, MAX_SEED + 1), "seed has to be"),
        (("a", 1, {}), "seed has to be"),
        (("a", 1, 0, 0), "truncation has to be a number from 0.1 to 3"),
        (("a", 1, 0, float("nan")), "truncation has to be"),
        (("a", 1, 0, 3.1), "truncation has to be"),
        (("a", 1, 0, None), "truncation has to be"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(given, message):
    with pytest.raises(Refused, match=message) as refusal:
        Request.checked(*given)
    assert "\n" not in str(refusal.value)


def test_whole_numbers_come_in_both_types_and_control_characters_go():
    request = Request.checked("a\x00 red\ncircle\u202e", 4.0, 7.0, FREE)
    assert request == Request("a red circle", 4, 7, None) and type(request.count) is int
    seeds = {Request.checked("a", 1, None).seed for _ in range(5)}
    assert len(seeds) > 1 and all(0 <= seed <= MAX_SEED for seed in seeds)


def test_unknown_models_and_words_are_refused(studio):
    for name in ("../etc", None, 3, ["attngan"]):
        with pytest.raises(Refused, match="There is no such model; choose one of attngan"):
            studio.pictures(name, Request("a red circle"))
    with pytest.raises(Refused, match="attngan knows none of these words"):
        studio.pictures("attngan", Request("zorp blah"))
    with pytest.raises(Refused, match="knows none"):
        studio.walk("attngan", Request("a red circle"), "zorp", 0, 4)
