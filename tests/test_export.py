"""Models as ONNX files, and drawing from them, beside the models themselves."""

import importlib.util
import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import CAPTIONS
from test_pipeline import PROMPTS, pixels, save_model

from t2i_supcon.data import build_tokenizer, encode_prompts
from t2i_supcon.export import OnnxTextToImage, export_onnx, save_checked
from t2i_supcon.models import GANS, DAMSMTextConfig, DAMSMTextEncoder
from t2i_supcon.models.base import noise_widths
from t2i_supcon.models.damsm import lstm_without_packing
from t2i_supcon.pipeline import TextToImagePipeline, load_pipeline

SCRIPT = Path(__file__).parents[1] / "scripts" / "export.py"
LONG = "a red circle a blue square on white"  # beyond the 6 words that are read


def run_script(*arguments):
    spec = importlib.util.spec_from_file_location("export_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module", params=GANS)
def exported(request, tmp_path_factory):
    """A model of each GAN, drawing, and the file that the script made of it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    save_model(request.param, build_tokenizer(CAPTIONS, max_words=6), folder / "model")
    file, said, warned = folder / "out" / "model.onnx", io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(warned):
        run_script(folder / "model", "--output", file)
    assert said.getvalue().split() == [str(file)] and list(file.parent.iterdir()) == [file]
    apart = warned.getvalue().splitlines()[-1]
    assert apart.startswith("pixels differ from the model's by at most ") and 0 <= float(apart.split()[-1]) <= 1e-5
    return load_pipeline(str(folder / "model")), file


def test_a_file_draws_what_the_model_draws_at_any_batch_size(exported):
    draw, file = exported
    session = onnxruntime.InferenceSession(file)
    (images,) = session.get_outputs()
    assert images.name == "images"
    for prompts in ([LONG], [*PROMPTS, LONG], PROMPTS[:3]):
        inputs = dict(encode_prompts(draw.tokenizer, prompts, to_limit=True))
        for name, width in noise_widths(draw.model.config).items():
            inputs |= {name: torch.randn(len(prompts), width)} if width else {}
        assert [value.name for value in session.get_inputs()] == list(inputs)
        (drawn,) = session.run(["images"], {name: value.numpy() for name, value in inputs.items()})
        expected = draw.model.generate(**inputs).images[-1].numpy()
        assert drawn.shape == expected.shape and expected.std() > 0.01
        assert np.abs(drawn - expected).max() <= 1e-5


def test_pictures_are_those_of_the_pipeline(exported, tmp_path):
    draw, file = exported
    shutil.copy(file, tmp_path / "alone.onnx")  # with nothing beside it
    other = OnnxTextToImage(tmp_path / "alone.onnx")
    options = {"num_images_per_prompt": 2, "seed": 3, "truncation": 1.5}
    for theirs, ours in zip(other([PROMPTS[0], LONG], **options), draw([PROMPTS[0], LONG], **options), strict=True):
        assert np.abs(pixels(theirs).astype(int) - pixels(ours)).max() <= 1  # at a border between two grey levels
    again = other(LONG, seed=3, truncation=1.5)
    assert np.array_equal(pixels(again)[0], pixels(theirs)[0])
    with pytest.raises(ValueError, match="no word of the prompt 'zebra'"):
        other("zebra")
    with pytest.raises(ValueError, match="num_images_per_prompt is 0"):
        other("a red star", num_images_per_prompt=0)
    with pytest.raises(ValueError, match="a prompt is a string, and this is a int"):
        other([3])


def test_the_pipeline_draws_with_onnxruntime_by_one_argument(exported, monkeypatch):
    """The same pictures whatever the batch; the export itself is the one that wrote the file."""
    draw, file = exported
    monkeypatch.setattr("t2i_supcon.pipeline.to_onnx", lambda model, tokenizer: onnx.load(file))
    fast = TextToImagePipeline(draw.model, draw.tokenizer, onnx=True)
    monkeypatch.setattr(draw.model, "generate", None)
    pictures = fast([*PROMPTS, LONG], num_images_per_prompt=2, seed=3, batch_size=3)
    alone = fast(LONG, num_images_per_prompt=2, seed=3)
    assert np.array_equal(pixels(pictures[-1]), pixels(alone))
    assert np.array_equal(pixels(alone), pixels(OnnxTextToImage(file)(LONG, 2, seed=3)))


def test_the_lstm_without_packing_is_the_packed_one():
    encoder = DAMSMTextEncoder(DAMSMTextConfig(vocab_size=20, embedding_dim=7, hidden_size=8)).eval()
    mask = (torch.arange(6)[None] < torch.tensor([6, 1, 3, 2, 5])[:, None]).long()
    x = torch.randn(5, 6, 7)
    for packed, plain in zip(encoder.run_lstm(x, mask), lstm_without_packing(encoder.lstm, x, mask), strict=True):
        torch.testing.assert_close(plain, packed, atol=1e-6, rtol=1e-6)


def white_file(rows):
    """An export whose image is white, of as many rows as given, for AttnGAN's tiny config."""
    shapes = {"input_ids": [rows, 6], "attention_mask": [rows, 6], "noise": [rows, 6], "conditioning_noise": [rows, 5]}
    kinds = {name: onnx.TensorProto.FLOAT if "noise" in name else onnx.TensorProto.INT64 for name in shapes}
    inputs = [onnx.helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in shapes.items()]
    white = onnx.numpy_helper.from_array(np.ones((rows, 3, 32, 32), np.float32))
    node = onnx.helper.make_node("Constant", [], ["images"], value=white)
    output = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, white.dims)
    graph = onnx.helper.make_graph([node], "white", inputs, [output])
    return onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [(2, "the exported file draws no 1 rows at once"), (1, "draws other pictures: pixels differ by [0-9]")],
)
def test_a_fixed_batch_or_other_pictures_are_noticed_and_leave_no_file(rows, message, tokenizer, tmp_path):
    model = load_pipeline(str(save_model("attngan", tokenizer, tmp_path / "model"))).model
    with pytest.raises(ValueError, match=message) as raised:
        save_checked(white_file(rows), model, tmp_path / "out" / "a.onnx")
    assert "\n" not in str(raised.value) and not list((tmp_path / "out").iterdir())


def test_mistakes_are_one_line_and_leave_no_file(tokenizer, tmp_path):
    model = save_model("ssagan", tokenizer, tmp_path / "model")
    endless = save_model("ssagan", build_tokenizer(CAPTIONS, max_words=10**30), tmp_path / "endless")
    for arguments, message in (
        ([model, "--output", tmp_path / "heart.pt"], "ends in .onnx"),
        ([tmp_path / "none", "--output", tmp_path / "a.onnx"], "there is no such folder"),
        ([endless, "--output", tmp_path / "a.onnx"], "the tokenizer has no limit of words"),
    ):
        with pytest.raises(SystemExit, match=message) as stop:
            run_script(*arguments)
        assert stop.value.code.startswith("error: ") and "\n" not in stop.value.code
    with pytest.raises(ValueError, match="the weights are torch.bfloat16"):
        load_pipeline(str(model), dtype="bfloat16", onnx=True)
    assert not list(tmp_path.rglob("*.onnx"))


def test_files_of_other_kinds_are_one_line(tmp_path):
    (tmp_path / "text.onnx").write_text("nothing")
    onnx.save(white_file(2), tmp_path / "other.onnx")
    for file, error, message in (
        ("none.onnx", FileNotFoundError, "no such file"),
        ("text.onnx", ValueError, "no ONNX file that onnxruntime can run"),
        ("other.onnx", ValueError, "was not made by scripts/export.py"),
    ):
        with pytest.raises(error, match=message) as raised:
            OnnxTextToImage(tmp_path / file)
        assert "\n" not in str(raised.value)


def test_a_missing_extra_is_named(tokenizer, tmp_path, monkeypatch):
    model = save_model("ssagan", tokenizer, tmp_path / "model")
    monkeypatch.setitem(sys.modules, "onnx", None)  # importing it fails then
    with pytest.raises(ValueError, match=r'onnx is not installed; pip install "t2i_supcon\[onnx\]"'):
        export_onnx(str(model), tmp_path / "model.onnx")
