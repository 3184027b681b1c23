"""The examples for loops of other people's: each trains for a few steps and draws."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.mark.parametrize(("name", "pictures"), [("plain_gan", 16), ("diffusion", 8)])
def test_an_example_trains_and_draws(name, pictures, example, tmp_path, capsys):
    example(name).main(["--steps", "2", "--output", str(tmp_path / "drawn.png")])
    out = capsys.readouterr().out
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", out)]
    assert out.startswith("step 2: ") and len(numbers) == 3 and all(number > 0 for number in numbers)
    picture = Image.open(tmp_path / "drawn.png")
    assert picture.size == (pictures * 64, 64) and len(picture.getcolors(2**20)) > 100


def test_the_contrast_reaches_the_generator(example):
    """In the plain GAN's way, with neither player's own loss."""
    module = example("plain_gan")
    generator, discriminator = module.Generator(), module.Discriminator()
    words, labels = torch.randint(4096, (4, 12)), torch.tensor([0, 1, 0, 1])
    fake = generator(torch.randn(4, module.NOISE), words)
    module.SupConGuidance()(labels, *discriminator(fake, words)[1:]).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in generator.parameters() if parameter.dim() > 1)


def test_rows_are_pictures_words_and_labels(example):
    emoji = example("emoji")
    rows = emoji.load_emoji().select(range(3))
    images, words, labels = emoji.collate([rows[i] for i in range(3)])
    assert images.shape == (3, 3, 32, 32) and -1 <= images.min() < images.max() <= 1
    assert words.shape == (3, 12) and labels.tolist() == rows["label"][:3]
    assert emoji.words_of("A red heart") == emoji.words_of("a RED heart ") != emoji.words_of("a blue heart")
    assert len(set(emoji.words_of("a red heart"))) == 3


def test_examples_are_short_and_what_they_add_is_about_twenty_lines():
    for name in ("plain_gan", "diffusion"):
        lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
        assert len(lines) < 100
        assert sum("(+)" in line for line in lines) <= 22
