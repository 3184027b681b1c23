"""The text-to-image pipeline, as users call it."""

import json
import logging
from copy import deepcopy
from functools import partialmethod

import datasets
import numpy as np
import pytest
import torch
from conftest import TINY, tiny_text
from safetensors.torch import load_file, save_file
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import t2i_supcon
from t2i_supcon.models import GANS, sample_noise, seeded_generator
from t2i_supcon.models.stacked import up_block
from t2i_supcon.pipeline import TextToImagePipeline, compiling, load_pipeline
from t2i_supcon.training.recipe import build_model_config

PROMPTS = ["a red star", "yellow circle", "a blue square on white", "a small triangle"]


def save_model(name, tokenizer, folder):
    gan = GANS[name]
    config = build_model_config(gan.config, TINY[name], text_config=tiny_text(name, len(tokenizer)))
    model = gan.composite(config)
    with torch.no_grad():
        scale = 0.2 if name == "ssagan" else 0.05  # its mask and its sentence both start at nothing
        for parameter in model.parameters():  # leaves the point where all prompts look alike
            parameter.add_(scale * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(gan_name, tokenizer, tmp_path):
    return save_model(gan_name, tokenizer, tmp_path)


@pytest.fixture
def draw(tokenizer, tmp_path):
    """A pipeline of one GAN, for what does not depend on which."""
    return pipeline("text-to-image", model=str(save_model("attngan", tokenizer, tmp_path / "model")))


def pixels(pictures):
    return np.stack([np.asarray(picture) for picture in pictures])


def test_a_prompt_gives_images_and_the_seed_decides_them(folder, gan_name):
    draw = pipeline("text-to-image", model=str(folder))
    assert isinstance(draw, t2i_supcon.TextToImagePipeline)
    first, again, other = (draw("a red star", num_images_per_prompt=3, seed=seed) for seed in (0, 0, 1))
    size = draw.model.config.image_sizes[-1]
    assert len(first) == 3 and first[0].size == (size, size) and first[0].mode == "RGB"
    assert all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(first, again))
    assert not np.array_equal(np.array(first[0]), np.array(other[0]))


def test_a_picture_depends_on_seed_prompt_and_number_alone(folder):
    """Whatever the batch size, the neighbours, their order and the number of pictures of each."""
    draw = load_pipeline(str(folder))
    expected = {prompt: pixels(draw(prompt, num_images_per_prompt=3, seed=7)) for prompt in PROMPTS}
    assert len(np.unique(np.concatenate(list(expected.values())), axis=0)) == 12
    for prompts, sizes in ((PROMPTS, (1, 3)), (PROMPTS[::-1], (2, 10)), (PROMPTS[:1] * 3, (2,))):
        for batch_size in sizes:
            drawn = draw(prompts, num_images_per_prompt=3, seed=7, batch_size=batch_size)
            for prompt, pictures in zip(prompts, drawn, strict=True):
                assert np.array_equal(pixels(pictures), expected[prompt])
    assert np.array_equal(pixels(draw(PROMPTS[0], num_images_per_prompt=2, seed=7)), expected[PROMPTS[0]][:2])


def test_generators_take_the_place_of_a_seed(draw):
    seeded = [pixels(draw(prompt, num_images_per_prompt=2, seed=seed)) for prompt, seed in zip(PROMPTS, (3, 4))]
    one = draw(PROMPTS[:2], num_images_per_prompt=2, generator=seeded_generator(3), batch_size=2)
    assert np.array_equal(pixels(one[0]), seeded[0])
    each = draw(PROMPTS[:2], num_images_per_prompt=2, generator=[seeded_generator(3), seeded_generator(4)])
    assert all(np.array_equal(pixels(pictures), same) for pictures, same in zip(each, seeded, strict=True))
    of_images = draw(PROMPTS[0], num_images_per_prompt=2, generator=[seeded_generator(3), seeded_generator(3)])
    assert np.array_equal(*pixels(of_images)) and np.array_equal(pixels(of_images)[0], seeded[0][0])
    generator = seeded_generator(3)
    first, second = (pixels(draw(PROMPTS[0], generator=generator)) for _ in range(2))
    assert not np.array_equal(first, second)  # a generator goes on; a seed starts anew
    with pytest.raises(ValueError, match="there are 3 generators for 2 prompts and 4 images"):
        draw(PROMPTS[:2], num_images_per_prompt=2, generator=[seeded_generator(0)] * 3)
    with pytest.raises(ValueError, match="more prompts than generators"):
        list(draw(iter(PROMPTS), generator=[seeded_generator(0)] * 3))


def test_without_a_seed_every_picture_is_another(draw):
    drawn = draw(PROMPTS[:1] * 3, num_images_per_prompt=2, output_type="pt", batch_size=2)
    assert len(torch.cat(drawn).unique(dim=0)) == 6


def test_pictures_come_as_images_arrays_or_tensors(draw):
    drawn = {name: draw(PROMPTS[:2], num_images_per_prompt=3, seed=1, output_type=name) for name in ("pil", "np", "pt")}
    for pictures, array, tensor in zip(*drawn.values(), strict=True):
        assert array.shape == (3, 32, 32, 3) and array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
        assert tensor.shape == (3, 3, 32, 32) and tensor.dtype == torch.float32
        assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
        assert np.array_equal(pixels(pictures), (array * 255).round().astype(np.uint8))
    noise, conditioning_noise = sample_noise(draw.model.config, 3, seeded_generator(1))
    inputs = draw.preprocess(PROMPTS[:1])
    drawn_by_hand = draw.model.generate(
        **inputs, num_images_per_prompt=3, noise=noise, conditioning_noise=conditioning_noise
    )
    assert torch.equal(drawn["pt"][0], (drawn_by_hand.images[-1] + 1) / 2)


def test_prompts_come_from_anything_that_holds_strings(draw):
    expected = [pixels(pictures) for pictures in draw(PROMPTS, seed=1)]
    table = datasets.Dataset.from_dict({"text": PROMPTS})
    streamed = table.to_iterable_dataset()
    for prompts in (
        tuple(PROMPTS),
        table["text"],
        np.array(PROMPTS),
        (prompt for prompt in PROMPTS),
        iter(PROMPTS),
        KeyDataset(table, "text"),
        (row["text"] for row in streamed),
    ):
        drawn = list(draw(prompts, seed=1, batch_size=3))
        assert all(np.array_equal(pixels(a), b) for a, b in zip(drawn, expected, strict=True)), type(prompts)
    assert draw([]) == [] and list(draw(iter([]))) == [] and draw(table.select([])["text"]) == []


def test_an_iterator_is_read_while_pictures_are_taken(draw):
    def endless():
        while True:
            yield "a red star"

    pictures = draw(endless(), seed=0)
    assert np.array_equal(pixels(next(pictures)), pixels(next(pictures)))


def test_arguments_of_the_pipeline_hold_for_all_calls(draw, tmp_path):
    fixed = pipeline("text-to-image", model=str(tmp_path / "model"), num_images_per_prompt=2, seed=3, batch_size=2)
    expected = pixels(draw("a red star", num_images_per_prompt=2, seed=3))
    assert np.array_equal(pixels(fixed("a red star")), expected)
    assert np.array_equal(pixels(fixed("a red star", generator=seeded_generator(3))), expected)
    assert not np.array_equal(pixels(fixed("a red star", seed=4)), expected)


def test_a_saved_pipeline_loads_and_leaves_the_model_as_it_was(draw, tmp_path):
    before = draw.model.config.to_dict()
    draw(["a red star", "a blue square on white and more"], batch_size=2)
    draw.save_pretrained(tmp_path / "saved")
    assert draw.model.config.to_dict() == before
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for file in ("config.json", "tokenizer.json"):
        saved, original = (json.loads((tmp_path / folder / file).read_text()) for folder in ("saved", "model"))
        if file == "config.json":  # a part's own type is written down once it was loaded
            saved["text_config"].pop("dtype")
        assert saved == original
    again = pipeline("text-to-image", model=str(tmp_path / "saved"))
    assert np.array_equal(pixels(again("a red star", seed=0)), pixels(draw("a red star", seed=0)))
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        draw.save_pretrained(tmp_path / "file")


def test_a_prompt_without_a_known_word_is_one_clear_error(folder, gan_name):
    with pytest.raises(ValueError, match="no word of the prompt 'zebra'"):
        pipeline("text-to-image", model=str(folder))("zebra")
    with pytest.raises(ValueError) as error:
        pipeline("text-to-image", model=str(folder))("zebra" * 10**4)
    assert len(str(error.value)) < 300


def test_words_left_out_are_named_once(draw, caplog):
    long = "a red zebra circle a blue square on white"
    with caplog.at_level(logging.WARNING):
        draw(["a red star", long], seed=0)
        draw(long, seed=0)
    (record,) = caplog.records
    assert record.name.startswith("t2i_supcon")
    assert record.getMessage() == (
        f"prompt '{long}' is drawn without unknown words 'zebra'; words beyond the 6 tokens that the model reads: "
        "'on', 'white'"
    )
    words = draw.prompt_words(long)
    assert (words.read, words.unknown, words.beyond) == (
        ["a", "red", "circle", "a", "blue", "square"],
        ["zebra"],
        ["on", "white"],
    )


def test_warnings_about_many_and_huge_prompts_stay_short(draw, caplog):
    with caplog.at_level(logging.WARNING):
        draw([f"a red zebra{i} " + "circle " * 10**3 for i in range(9)], seed=0)
    assert len(caplog.records) == 6 and "4 more prompts" in caplog.records[-1].getMessage()
    assert max(len(record.getMessage()) for record in caplog.records) < 400


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (3, {}, "a prompt is a string, and this is a int"),
        (None, {}, "this is a NoneType"),
        (b"a red star", {}, "this is a bytes"),
        ({"text": "a red star"}, {}, "this is a dict"),
        (["a red star", 3], {}, "one of these is a int"),
        ([["a red star"]], {}, "one of these is a list"),
        ("a red star", {"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ("a red star", {"num_images_per_prompt": 10**12}, "num_images_per_prompt is 1000000000000"),
        ([], {"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ("a red star", {"seed": -1}, "seed is -1; it must be from 0"),
        ("a red star", {"seed": "1"}, "seed is '1'; it must be a whole number"),
        ("a red star", {"seed": 1, "generator": torch.Generator()}, "seed and generator"),
        ("a red star", {"generator": 3}, "generator is a int; it must be a torch.Generator or a list"),
        ("a red star", {"generator": np.random.default_rng(0)}, "generator is a Generator; it must be a torch.Gen"),
        ("a red star", {"generator": ["0"]}, "generator is a list; it must be a torch.Generator or a list of such"),
        (iter(["a red star"]), {"generator": "0"}, "generator is a str; it must be a torch.Generator"),
        ("a red star", {"truncation": float("nan")}, "truncation is nan"),
        ("a red star", {"truncation": "1"}, "truncation is '1'; it must be a positive, finite number"),
        ("a red star", {"truncation": True}, "truncation is True; it must be a positive, finite number"),
        ("a red star", {"truncation": 10**400}, "truncation is 1000000.*; it must be a positive, finite number"),
        ("a red star", {"output_type": "jpg"}, "output_type is 'jpg'; it must be one of pil, np, pt"),
        ("a red star", {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ("a red star", {"batch_size": -2}, "batch_size is -2; it must be at least 1"),
        ("a red star", {"batch_size": 10**30}, r"batch_size is 2\^100 or so; it must be at least 1 and at most 10,000"),
        ("a red star\ud800", {}, "holds bytes that are not UTF-8"),
    ],
)
def test_bad_arguments_are_one_clear_error(draw, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        draw(prompts, **options)


def test_numbers_of_numpy_and_torch_are_numbers(draw):
    first = pixels(draw("a red star", num_images_per_prompt=2, seed=3, truncation=0.5))
    for options in (
        {"num_images_per_prompt": np.int64(2), "seed": np.uint64(3), "truncation": np.float32(0.5)},
        {
            "num_images_per_prompt": torch.tensor(2),
            "seed": torch.tensor(3),
            "truncation": 0.5,
            "batch_size": np.int8(1),
        },
    ):
        assert np.array_equal(pixels(draw("a red star", **options)), first)


def test_pictures_of_nan_are_refused(draw):
    with torch.no_grad():  # each finite, and so large that their products are not
        for parameter in draw.model.generator.parameters():
            parameter.fill_(3e38)
    with pytest.raises(ValueError, match="model '.*' draws NaN: its weights are unfit"):
        draw("a red star")


def test_what_draws_no_pictures_is_refused(encoders, tokenizer, tmp_path):
    encoders.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a DAMSMModel draws no pictures"):
        pipeline("text-to-image", model=str(tmp_path))
    with pytest.raises(ValueError, match="it holds a DAMSMModel; name the folder of a text-to-image model"):
        load_pipeline(str(tmp_path))


@pytest.mark.parametrize("device", ["cuda:77", "gpu", "meta", "mps"])
def test_a_device_that_is_not_there_is_one_clear_error(draw, tmp_path, device):
    for load in (load_pipeline, lambda name, device: pipeline("text-to-image", model=name, device=device)):
        with pytest.raises((ValueError, RuntimeError), match=device.split(":")[0]) as error:
            load(str(tmp_path / "model"), device=device)
        assert len(str(error.value)) < 500


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


KEY = "generator.first_stage.project.0.weight"
DAMAGE = {
    f"{KEY} is missing": lambda state: state.pop(KEY),
    f"{KEY} holds NaN or infinity": lambda state: state[KEY].view(-1)[3:4].fill_(float("nan")),
    "text_encoder.lstm.bias_hh_l0 holds NaN or infinity": lambda state: state["text_encoder.lstm.bias_hh_l0"].fill_(
        float("inf")
    ),
    f"{KEY} holds whole numbers": lambda state: state.update({KEY: state[KEY].to(torch.int32)}),
    f"{KEY} holds complex numbers": lambda state: state.update({KEY: state[KEY].to(torch.complex64)}),
    "project.1.running_var holds negative variances": lambda state: state[
        "generator.first_stage.project.1.running_var"
    ].neg_(),
    "and 2 more tensors like these": lambda state: [state.pop(key) for key in list(state)[:7]],
}


@pytest.mark.parametrize("message", DAMAGE)
def test_unfit_weights_are_refused_by_name(draw, tmp_path, message):
    change_weights(tmp_path / "model", DAMAGE[message])
    for load in (load_pipeline, lambda name: pipeline("text-to-image", model=name)):
        with pytest.raises(ValueError, match=message) as error:
            load(str(tmp_path / "model"))
        assert "\n" not in str(error.value)


def test_what_is_no_tensor_in_a_state_dict_is_no_weight(draw):
    class WithSettings(torch.nn.Module):  # as quantized layers are
        def get_extra_state(self):
            return {"scale": 1}

    model = deepcopy(draw.model)
    model.generator.settings = WithSettings()
    assert {"scale": 1} in model.state_dict().values()
    (image,) = TextToImagePipeline(model, draw.tokenizer)("a red star", seed=0)
    assert np.array_equal(image, draw("a red star", seed=0)[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "names no padding token"),
        ({}, "names no padding token"),
        ({"pad_token": "<end>", "model_max_length": -1}, "has the model_max_length -1"),
        ({"pad_token": "<end>", "model_max_length": 0}, "has the model_max_length 0, which must be a whole number"),
        ({"pad_token": "<end>", "model_max_length": "six"}, "has the model_max_length 'six'"),
    ],
)
def test_a_tokenizer_without_its_settings_is_refused(draw, tmp_path, config, message):
    file = tmp_path / "model" / "tokenizer_config.json"
    file.unlink()
    if config is not None:
        file.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    for load in (load_pipeline, lambda name: pipeline("text-to-image", model=name)):
        with pytest.raises(ValueError, match=f"^model '.*': its tokenizer {message}"):
            load(str(tmp_path / "model"))


def test_a_tokenizer_of_another_vocabulary_is_refused(draw):
    draw.tokenizer.add_tokens(["one", "more"])
    with pytest.raises(ValueError, match="its tokenizer has 17 words, its text encoder 15"):
        t2i_supcon.TextToImagePipeline(draw.model, draw.tokenizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_draws_nearly_the_same(folder, dtype):
    full, half = load_pipeline(str(folder)), load_pipeline(str(folder), dtype=dtype)
    assert {p.dtype for p in half.model.parameters()} == {dtype}
    a, b = (draw("a red star", num_images_per_prompt=2, seed=0, output_type="np") for draw in (full, half))
    assert b.dtype == np.float32 and np.abs(a - b).mean() < 0.02 and np.corrcoef(a.flat, b.flat)[0, 1] > 0.98


class Layers(torch.nn.Sequential):
    def forward(self, x):  # torch looks into no module whose code is its own
        return super().forward(x)


@torch.no_grad()
def test_compiled_code_computes_what_the_layers_do():
    """With the weights as constants, which nothing here asks for, torch 2.13 gets these wrong."""
    layers, x = Layers(up_block(32, 16)), torch.randn(1, 32, 64, 64)
    for _ in range(3):
        layers(x)  # statistics that change something
    layers.eval()
    expected = layers(x)
    layers.compile()
    torch.testing.assert_close(layers(x), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_cannot_be_compiled_is_one_clear_error():
    from torch._inductor import config

    layers = Layers(torch.nn.Conv2d(3, 5, 3), torch.nn.Tanh())
    layers.compile()
    message = r"torch cannot compile the generator \(.* install a C\+\+ compiler, such as g\+\+, or draw without"
    with config.patch({"cpp.cxx": (None, "/no/such/compiler")}), pytest.raises(ValueError, match=message), compiling():
        layers(torch.randn(1, 3, 8, 8))


def test_the_pipeline_compiles_by_one_argument(draw, monkeypatch):
    with pytest.raises(ValueError, match="onnx=True and compile=True are two ways to draw faster; give one of them"):
        TextToImagePipeline(draw.model, draw.tokenizer, onnx=True, compile=True)
    plain = draw(PROMPTS, num_images_per_prompt=2, seed=3, output_type="pt")
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=backend))
    fast = TextToImagePipeline(draw.model, draw.tokenizer, compile=True)
    for ours, theirs in zip(fast(PROMPTS, num_images_per_prompt=2, seed=3, output_type="pt"), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert 1 <= len(compiled) <= 2  # prompts of 2, 3 and 5 words: again for the second number of words only
