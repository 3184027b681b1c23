"""Models as ONNX files, and drawing from them with onnxruntime in place of torch."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from .conversion.pretrained import load_pretrained, load_tokenizer
from .data import encode_prompts, to_pil
from .files import check_regular_file
from .models import GANS, TextToImageModel, sample_noise, seeded_generator
from .models.base import evaluation_mode, noise_widths, noises_of_prompts

if TYPE_CHECKING:  # of the extra `onnx`
    from onnx import ModelProto
    from onnxruntime import InferenceSession

TOLERANCE = 1e-5  # of pixels in [-1, 1], between a file and the model it was made of
EXAMPLE_ROWS, CHECKED_ROWS = 2, (1, 3)  # a file may silently accept no other batch than its example's


def export_onnx(name: str, output: Path) -> float:
    """Writes a model and its tokenizer as one ONNX file, which takes its place once it has drawn
    what the model draws, at other batch sizes than it was made with.

    Args:
        name: of a folder or of a repository on the Hub.
        output: the file, which ends in .onnx.

    Returns:
        The largest difference between pixels of the file and of the model, in [-1, 1].

    Raises:
        ValueError: no such model, or not whole (see `load_pretrained`); see also `to_onnx` and
            `save_checked`.
    """
    if output.suffix != ".onnx":
        raise ValueError(f"--output is {output}; give the name of a file that ends in .onnx")
    model = load_pretrained(name, "model", tuple(gan.composite for gan in GANS.values())).float()
    return save_checked(to_onnx(model, load_tokenizer(name, "model")), model, output)


def to_onnx(model: TextToImageModel, tokenizer: PreTrainedTokenizerFast) -> "ModelProto":
    """A model of float32 and its tokenizer as ONNX.

    Inputs are `input_ids` and `attention_mask` (B, T), int64, T the tokenizer's limit; `noise` (B,
    Z); and, with conditioning augmentation, `conditioning_noise` (B, C). The output is `images` (B,
    3, S, S) in [-1, 1] of the highest scale. B is free.

    Raises:
        ValueError: the extra `onnx` is not installed; a tokenizer without a limit; weights of
            another type than float32.
    """
    onnx = _imported("onnx")
    _imported("onnxscript")
    if model.dtype != torch.float32:
        raise ValueError(f"the weights are {model.dtype}; an export to ONNX is of float32")
    limit = min(tokenizer.model_max_length, getattr(model.config.text_config, "max_position_embeddings", 10**6))
    if limit >= 10**6:
        raise ValueError("the tokenizer has no limit of words, which an export needs: set its model_max_length")
    inputs = example_inputs(model, EXAMPLE_ROWS, limit)
    batch = {0: torch.export.Dim("batch", min=1, max=2**20)}
    with evaluation_mode(model), torch.no_grad(), _quiet_export():
        program = torch.onnx.export(
            Drawing(model),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=["images"],
            dynamic_shapes={key: batch for key in inputs},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    exported = program.model_proto
    held = {"tokenizer": tokenizer.backend_tokenizer.to_str(), "pad_token": tokenizer.pad_token, "limit": str(limit)}
    onnx.helper.set_model_props(exported, held)
    return exported


class Drawing(nn.Module):
    """The road from token ids and noises to the images of the highest scale: `draw_images` of one
    image a caption, for an export."""

    def __init__(self, model: TextToImageModel):
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, noise: Tensor, conditioning_noise: Tensor | None = None
    ) -> Tensor:
        text = self.model.text_encoder(input_ids, attention_mask)
        output = self.model.generator(noise, text.sent_emb, text.word_embs, text.attention_mask, conditioning_noise)
        return output.images[-1].clamp(-1, 1)


def example_inputs(model: TextToImageModel, rows: int, limit: int) -> dict[str, Tensor]:
    """Random captions of different lengths, the first as long as can be, and noises."""
    generator = seeded_generator(rows)
    lengths = torch.randint(1, limit + 1, (rows, 1), generator=generator)
    lengths[0] = limit
    mask = (torch.arange(limit)[None] < lengths).long()
    ids = torch.randint(1, model.config.text_config.vocab_size, (rows, limit), generator=generator) * mask
    noises = zip(noise_widths(model.config), sample_noise(model.config, rows, generator))
    return {"input_ids": ids, "attention_mask": mask} | {key: noise for key, noise in noises if noise is not None}


def save_checked(exported: "ModelProto", model: TextToImageModel, output: Path) -> float:
    """Writes an export of a model, unless it draws something else; see `export_onnx`.

    Raises:
        ValueError: it draws other pictures than the model, or none of some batch size.
    """
    onnx = _imported("onnx")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".partial-{output.name}")
    try:
        onnx.save(exported, partial)
        session, apart = open_session(partial), 0.0
        for rows in CHECKED_ROWS:
            inputs = example_inputs(model, rows, session.get_inputs()[0].shape[1])
            try:
                (drawn,) = session.run(["images"], {key: value.numpy() for key, value in inputs.items()})
            except Exception as error:  # onnxruntime's errors have no class of their own in common
                raise ValueError(f"the exported file draws no {rows} rows at once: {_first_line(error)}") from error
            difference = (torch.from_numpy(drawn) - model.generate(**inputs).images[-1]).abs().max().item()
            if not difference <= TOLERANCE:
                raise ValueError(f"the exported file draws other pictures: pixels differ by {difference:.1e}")
            apart = max(apart, difference)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    return apart


def open_session(file: Path | bytes) -> "InferenceSession":
    """An onnxruntime session on the CPU, with as many threads as torch has, of a file or of what it
    would hold.

    Raises:
        ValueError: onnxruntime is not installed, or the file is no ONNX file.
        OSError: there is no such file.
    """
    runtime = _imported("onnxruntime")
    if isinstance(file, Path):
        check_regular_file(file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ValueError(f"{file}: no ONNX file that onnxruntime can run: {_first_line(error)}") from error


def draw_rows(
    session: "InferenceSession",
    input_ids: Tensor,
    attention_mask: Tensor,
    noise: Tensor,
    conditioning_noise: Tensor | None = None,
    num_images_per_prompt: int = 1,
) -> Tensor:
    """Draws the rows that `generate` draws, (B * N, 3, S, S), one by one, so that none depends on
    the others.

    Args:
        session: of a file of `export_onnx`.
        input_ids, attention_mask: (B, T), T the tokenizer's limit.
        noise: (B * N, Z).
        conditioning_noise: (B * N, C), for a GAN with conditioning augmentation.
        num_images_per_prompt: N.
    """
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    inputs = {name: value.repeat_interleave(num_images_per_prompt, dim=0) for name, value in inputs.items()}
    inputs["noise"] = noise
    if conditioning_noise is not None:
        inputs["conditioning_noise"] = conditioning_noise
    arrays = {name: value.cpu().numpy() for name, value in inputs.items()}
    rows = [{name: value[i : i + 1] for name, value in arrays.items()} for i in range(len(noise))]
    return torch.cat([torch.from_numpy(session.run(["images"], row)[0]) for row in rows])


class OnnxTextToImage:
    """Draws pictures from a file of `export_onnx`, with onnxruntime and the tokenizer in the file.

        draw = OnnxTextToImage("model.onnx")
        draw("a red heart", num_images_per_prompt=4, seed=0)[0].save("heart.png")

    A picture depends on its prompt, the seed and its number among the N alone, and equals that of
    the pipeline but for rounding.

    Args:
        file: of `export_onnx`.

    Raises:
        ValueError: onnxruntime is not installed, or the file is none of `export_onnx`.
        OSError: there is no such file.
    """

    def __init__(self, file: str | os.PathLike):
        self.session = open_session(Path(file))
        held = self.session.get_modelmeta().custom_metadata_map
        widths = {value.name: value.shape[1] for value in self.session.get_inputs()}
        if "tokenizer" not in held or "noise" not in widths:
            raise ValueError(f"{file}: this ONNX file was not made by scripts/export.py")
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(held["tokenizer"]),
            pad_token=held["pad_token"],
            model_max_length=int(held["limit"]),
        )
        # what the drawing of noise asks of a GAN's own config
        self.config = SimpleNamespace(noise_dim=widths["noise"], conditioning_dim=widths.get("conditioning_noise", 0))

    def __call__(
        self,
        prompts: str | Iterable[str],
        num_images_per_prompt: int = 1,
        seed: int | None = None,
        truncation: float | None = None,
    ) -> list[Image.Image] | list[list[Image.Image]]:
        """Draws N pictures of a prompt, or a list of such for several; the arguments are those of
        `TextToImagePipeline`.

        Raises:
            ValueError: a prompt that is no string or holds no known word, an argument out of its
                range.
        """
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        if other := [type(prompt).__name__ for prompt in several if not isinstance(prompt, str)]:
            raise ValueError(f"a prompt is a string, and this is a {other[0]}")
        noises = noises_of_prompts(
            self.config, len(several), num_images_per_prompt=num_images_per_prompt, seed=seed, truncation=truncation
        )
        pictures = []
        for prompt, both in zip(several, noises):
            encoded = encode_prompts(self.tokenizer, [prompt], to_limit=True)
            images = draw_rows(
                self.session,
                **encoded,
                **dict(zip(("noise", "conditioning_noise"), both)),
                num_images_per_prompt=num_images_per_prompt,
            )
            pictures.append([to_pil(image) for image in images])
        return pictures[0] if isinstance(prompts, str) else pictures


def _imported(name: str) -> ModuleType:
    """A module of the extra `onnx`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f'{name} is not installed; pip install "t2i_supcon[onnx]"') from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Silences what torch's exporter says about its own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
