"""Each benchmark at a tiny size: the parts that time, the procedures they compare, and what they
print."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY, TINY_CLIP_IMAGE, TINY_CLIP_TEXT, TINY_IMAGE, TINY_TEXT
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "scripts"))  # at the end: names of scripts must hide no library

import benchmark
from benchmarks import BENCHMARKS
from benchmarks.procedures import plain_operators
from benchmarks.steps import Setting, Sizes, build_phase, timed_step
from benchmarks.timers import Stopwatch, count_operations

from t2i_supcon.models import operators
from t2i_supcon.training import load_recipe

PLAIN_LAYOUT = "channels_last=false"  # whose sums round otherwise, which networks this small enlarge
DAMSM = {"text_config": {**TINY_TEXT, "vocab_size": 20}, "image_config": TINY_IMAGE}
CLIP = {"text_config": {**TINY_CLIP_TEXT, "vocab_size": 20}, "image_config": TINY_CLIP_IMAGE}


def sizes(model):
    if model == "damsm":
        return Sizes((f"model_config={json.dumps(DAMSM)}", "image_size=16", PLAIN_LAYOUT))
    config = {key: value for key, value in TINY[model].items() if key != "image_config"}
    overrides = (f"model_config={json.dumps(config)}", "data.max_words=8", PLAIN_LAYOUT)
    return Sizes(overrides, CLIP if model == "galip" else DAMSM)


def stated_error(arguments):
    with pytest.raises(SystemExit) as ended:
        benchmark.main(arguments)
    return str(ended.value)


@pytest.mark.parametrize("arguments", [[], *([name] for name in BENCHMARKS)])
def test_help_is_for_newcomers(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.main([*arguments, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    wanted = ["(default: "] if arguments else [f"scripts/benchmark.py {name} " for name in BENCHMARKS]
    assert all(part in text for part in wanted)  # the first are examples to copy


@pytest.mark.parametrize("model", ["attngan", "dmgan", "galip", "ssagan", "damsm"])
def test_the_papers_procedure_and_this_package_have_equal_losses(model):
    """Or their times would compare different work; the same parts are timed in both."""
    terms, parts = [], []
    for plain in (True, False):
        watch = Stopwatch("cpu")
        phase, batch = build_phase(Setting(model, 4, plain, sizes=sizes(model)))
        if model == "ssagan":  # of so small a network, lengths are below 1e-8, where each guards its cosine otherwise
            phase.image_encoder.region_head.weight.data.mul_(1e6)
        step = timed_step(phase, batch, plain, watch)
        torch.manual_seed(1)
        if plain:
            with plain_operators():
                terms.append(step())
        else:
            terms.append(step())
        parts.append(watch.seconds)
    assert terms[0].keys() == terms[1].keys()
    for name, value in terms[0].items():
        assert float(terms[1][name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    assert {name for name in parts[0] if ", " not in name} == {name for name in parts[1] if ", " not in name}
    assert all(seconds > 0 for seconds in (*parts[0].values(), *parts[1].values()))


def test_operators_are_put_back():
    before = {name: value for name, value in vars(operators).items() if callable(value)}
    with plain_operators():
        assert operators.conv2d is nn.functional.conv2d
    assert {name: value for name, value in vars(operators).items() if callable(value)} == before


def test_training_is_timed_in_processes_of_their_own(capsys):
    parser = argparse.ArgumentParser()
    BENCHMARKS["train"].add_arguments(parser)
    options = parser.parse_args(["galip", "--repeats", "1", "--batch-size", "4"])
    BENCHMARKS["train"].run(options, {"galip": sizes("galip")}, peak_divisor=16)
    heading, *lines = capsys.readouterr().out.strip().splitlines()
    assert heading.startswith("cpu: large matrix products or convolutions reach ")
    rows = {line[:36].strip(): line[36:].split() for line in lines}
    for part in ("captions", "generator forward", "image encoder and matching", "discriminator", "generator update"):
        assert len(rows[part]) == 5, part  # seconds and shares of both, and their ratio
    plain, here, ratio = (float(number) for number in rows["10^9 operations (FLOPs)"])
    assert plain >= here
    assert all(0 < float(number) < 64 for number in rows["peak memory, GiB"])
    assert float(lines[-1].split("at most ")[1].split()[0]) < 1e-4


def test_the_word_loss_is_compared_with_an_equal_one(capsys):
    benchmark.main(["losses", "--repeats", "1", "--batch-size", "5"])
    rows, *_, difference = capsys.readouterr().out.splitlines()[-1].split()
    assert rows == "5" and float(difference) < 1e-5


def test_evaluations_are_compared_with_equal_ones(capsys):
    sizes = ["--rows", "9", "40", "--width", "16", "--side", "75", "--batch-size", "1"]
    benchmark.main(["evaluate", "--repeats", "1", *sizes])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line[:16] for line in lines] == ["Frechet distance"] * 2 + ["Inception featur", "decoding and fea"]
    assert all(float(line.split()[-1]) < 1e-4 for line in lines)


def test_every_way_of_the_data_is_timed(capsys, monkeypatch):
    monkeypatch.setattr(BENCHMARKS["data"], "BATCH", 4)
    benchmark.main(["data", "--repeats", "1", "--rows", "8"])
    printed = capsys.readouterr().out
    for path in ("limit", "streaming", "map-style", "streaming, 1 worker", "streaming, 2 workers"):
        found = [line[30:].split() for line in printed.splitlines() if line[:30].strip() == path]
        assert len(found) == 2 and all(float(number) > 0 for number, _ in found), path  # one and three sizes
    *_, memory = printed.strip().splitlines()
    assert memory.startswith("memory after epochs 1 to 6 of streaming: ") and memory.count(",") == 5


def test_every_way_to_draw_gives_the_same_pictures(capsys):
    parser = argparse.ArgumentParser()
    BENCHMARKS["generate"].add_arguments(parser)
    options = parser.parse_args(["ssagan", "--repeats", "1", "--no-compile"])
    BENCHMARKS["generate"].run(options, {"ssagan": {**TINY["ssagan"], "text_config": {**TINY_TEXT, "vocab_size": 20}}})
    _, _, heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith("ssagan ")
    assert [line[:24].strip() for line in lines] == ["papers' procedure", "eager", "channels_last", "ONNX"]
    assert all(float(ratio) > 0 and float(apart) <= 1e-5 for *_, ratio, apart in map(str.split, lines))


class Ticks(Stopwatch):
    """A stopwatch whose every look at the clock is a second after the last."""

    def __init__(self):
        super().__init__("cpu")
        self.time = 0

    def now(self):
        self.time += 1
        return self.time


def test_nested_parts_count_for_themselves_alone():
    watch, layer = Ticks(), nn.Linear(2, 2)
    watch.wrap(layer, "forward", "inner")
    with watch("outer"):  # from 1 to 6
        layer(torch.ones(1, 2))  # from 2 to 3
        with watch("backward"):  # from 4 to 5
            pass
    assert watch.seconds == {"outer": 3, "inner": 1, "outer, backward": 1}


def test_operations_of_known_layers():
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    assert count_operations(lambda: x @ weight) == 2 * 3 * 4 * 5
    assert count_operations(lambda: (x @ weight).sum().backward()) == 3 * 2 * 3 * 4 * 5
    image, kernel = torch.randn(2, 3, 8, 8), torch.randn(7, 3, 3, 3)
    assert count_operations(lambda: nn.functional.conv2d(image, kernel, padding=1)) == 2 * (2 * 8 * 8 * 7) * 3 * 9


def test_the_small_run_that_is_killed_is_a_recipe(tmp_path):
    """Runs that are killed are in the tests of the loop; those of the benchmark take minutes."""
    soak = BENCHMARKS["soak"]
    recipe = load_recipe("damsm-emoji", Path(benchmark.__file__).with_name("recipes"), soak.TINY)
    assert recipe.checkpoint_every == 2 and soak.COMMAND[1].is_file()
    (tmp_path / "whole").mkdir()
    assert "holds runs already" in stated_error(["soak", "--output-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "biggan"], "unknown model biggan; choose from attngan"),
        (["generate", "biggan"], "unknown model biggan; choose from attngan"),
        (["train", "--mixed-precision", "fp16"], "fp16 needs --device cuda"),
        (["data", "--rows", "5"], "--rows is 5; a batch takes 20"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    assert message in stated_error(arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("name", ["train", "losses"])
def test_a_gpu_that_is_not_there_is_named(name):
    assert stated_error([name, "--device", "cuda"]) == "error: --device cuda: torch sees no GPU here"


def test_counts_start_at_one(capsys):
    stated_error(["losses", "--repeats", "0"])
    assert "0 is no number from 1 on" in capsys.readouterr().err
