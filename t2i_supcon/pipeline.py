"""The "text-to-image" pipeline: sentences in, pictures out."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .conversion.pretrained import check_tokenizer, load_pretrained, load_tokenizer
from .data import PromptWords, describe_left_out, encode_prompts, prompt_words, save_tokenizer, shortened, to_pil
from .export import draw_rows, open_session, to_onnx
from .models import GANS, TextToImageModel
from .models.base import Noises, check_count, noises_of_prompts
from .models.weights import refuse_unfit_weights

logger = logging.getLogger(__name__)

TASK = "text-to-image"
OUTPUT_TYPES = ("pil", "np", "pt")
NAMED_PROMPTS = 5  # of one call, in warnings about words left out; the rest are counted

Pictures = list[Image.Image] | np.ndarray | Tensor  # of one prompt


class TextToImagePipeline(Pipeline):
    """Draws pictures with any `...ForTextToImage` model and its tokenizer.

        import t2i_supcon
        from transformers import pipeline
        draw = pipeline("text-to-image", model="runs/ssagan-emoji/model")
        draw("a red heart", num_images_per_prompt=4, seed=0)

    A prompt gives its N pictures; several prompts give a list of such, in their order. Iterators
    and torch datasets of prompts are read while pictures are taken: they give an iterator.

    With a seed, a picture depends on its prompt, the seed and its number among the N alone: not on
    the batch size, N, the other prompts or their order. On a CPU this holds bit for bit, on other
    devices but for rounding; see `generate`.

    A warning names the words of a prompt that the model does not know or has no room for;
    `draw.prompt_words(prompt)` tells them. Word attention and masks come from
    `draw.model.generate(..., output_attentions=True)`.

    Call arguments, which `pipeline(...)` takes too, for all calls:
        num_images_per_prompt: N, 1 when absent.
        seed: of the noise, from 0 to 2^64 - 1; other pictures at each call when absent.
        generator: in place of a seed, one `torch.Generator`, which gives every prompt the same N
            noises, or a list of them, one for each prompt or for each picture.
        truncation: keeps noise values within this bound.
        output_type: what the N pictures of a prompt come as. "pil": a list of PIL images, the
            default. "np": an array (N, S, S, 3), "pt": a tensor (N, 3, S, S), both float32 in
            [0, 1].
        batch_size: prompts that are drawn at once, 1 when absent.

    Two arguments of `pipeline(...)` make drawing faster, with pictures equal but for rounding:
        onnx: onnxruntime draws, on the CPU. The model is exported at first, which takes some
            seconds, and changes of its weights count no longer. It needs the extra `onnx`.
        compile: torch.compile makes code for the model's generator. The first picture takes a
            minute or so then, and so do the first ones of other numbers of words, two or three
            times in all, where a GAN attends to words. It needs a C++ compiler.

    Raises:
        ValueError: a model that draws nothing or NaN, or whose weights are unfit, a prompt that is
            no string or holds no known word, an argument out of its range, `onnx` on another device
            than the CPU or without the extra, `compile` without a compiler, both together.
    """

    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False
    _load_tokenizer = True

    def __init__(self, model, tokenizer=None, device=None, onnx: bool = False, compile: bool = False, **kwargs):
        if not isinstance(model, TextToImageModel):
            raise ValueError(f"a {type(model).__name__} draws no pictures; give a model named ...ForTextToImage")
        where = f"model {model.config.name_or_path!r}"
        if tokenizer is None:
            raise ValueError(f"{where}: its tokenizer is missing")
        check_tokenizer(tokenizer, where)
        known = model.config.text_config.vocab_size
        if len(tokenizer) > known:
            raise ValueError(f"{where}: its tokenizer has {len(tokenizer)} words, its text encoder {known}")
        refuse_unfit_weights(model, model.loading_problems, where)
        check_device(device)
        if onnx and compile:
            raise ValueError("onnx=True and compile=True are two ways to draw faster; give one of them")
        super().__init__(model, tokenizer, device=device, **kwargs)
        if onnx and self.device.type != "cpu":
            raise ValueError(f"onnx=True draws on the CPU, and the device is {self.device}; give device='cpu'")
        self._session = open_session(to_onnx(model, tokenizer).SerializeToString()) if onnx else None
        self._compiles = compile
        if compile:
            model.generator.compile()
        self._seen: set[str] = set()  # prompts whose left-out words have been named

    def __call__(
        self, prompts: str | Iterable[str], batch_size: int | None = None, num_workers: int | None = None, **options
    ) -> Pictures | list[Pictures] | Iterator[Pictures]:
        """Draws; see the class. `num_workers` is accepted as by every pipeline: here is no work for
        them."""
        _, given, shown = self._sanitize_parameters(**options)
        own_noise = given.keys() & {"seed", "generator"}  # replaces either of them
        shared = {k: v for k, v in self._forward_params.items() if not (own_noise and k in ("seed", "generator"))}
        output = self._postprocess_params | shown
        batch_size = next((size for size in (batch_size, self._batch_size) if size is not None), 1)
        batch_size = check_count("batch_size", batch_size)
        if isinstance(prompts, (bytes, Mapping)) or not isinstance(prompts, (Iterable, Dataset)):
            raise ValueError(f"a prompt is a string, and this is a {type(prompts).__name__}")
        if isinstance(prompts, Dataset) and not isinstance(prompts, Iterable):
            prompts = map(prompts.__getitem__, range(len(prompts)))
        if isinstance(prompts, (Iterator, Dataset)):
            noises = noises_of_prompts(self.model.config, None, **shared | given)
            return self._pictures(prompts, noises, batch_size, **output)
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        noises = noises_of_prompts(self.model.config, len(several), **shared | given)
        pictures = list(self._pictures(several, noises, batch_size, **output))
        return pictures[0] if isinstance(prompts, str) else pictures

    def prompt_words(self, prompt: str) -> PromptWords:
        """Tells which words of a prompt the model reads, and which are left out: `unknown` ones and
        those `beyond` the last that it has room for."""
        return prompt_words(self.tokenizer, prompt)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Writes model and tokenizer, and no code, as a folder that `from_pretrained` and
        `pipeline` load."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(save_directory, **kwargs)
        save_tokenizer(self.tokenizer, Path(save_directory))

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Publishes model and tokenizer with all that lay beside them; see `push_to_hub` of the
        model for the options, the result and the errors."""
        return self.model.push_to_hub(repo_id, tokenizer=self.tokenizer, **options)

    def _sanitize_parameters(
        self, num_images_per_prompt=None, seed=None, generator=None, truncation=None, output_type=None
    ):
        if seed is not None and generator is not None:
            raise ValueError("seed and generator are two sources of the same noise; give one of them")
        if output_type is not None and output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r:.60}; it must be one of {', '.join(OUTPUT_TYPES)}")
        drawn = {"seed": seed, "generator": generator, "truncation": truncation}
        drawn["num_images_per_prompt"] = num_images_per_prompt
        return {}, *({k: v for k, v in g.items() if v is not None} for g in (drawn, {"output_type": output_type}))

    def _pictures(
        self,
        prompts: Iterable[str],
        noises: Iterator[Noises],
        batch_size: int,
        output_type: str = "pil",
    ) -> Iterator[Pictures]:
        """The pictures of each prompt, `batch_size` prompts drawn at once."""
        remaining, named, unnamed = iter(prompts), 0, 0
        while batch := list(islice(remaining, batch_size)):
            inputs = self.preprocess(batch)
            for prompt in batch:
                left_out = self._left_out(prompt)
                if left_out and named < NAMED_PROMPTS:
                    logger.warning("prompt %r is drawn without %s", shortened(prompt), left_out)
                    named += 1
                elif left_out:
                    unnamed += 1
            drawn = list(islice(noises, len(batch)))
            if len(drawn) < len(batch):
                raise ValueError("there are more prompts than generators; give one, or one for each prompt")
            noise, conditioning_noise = (None if rows[0] is None else torch.cat(rows) for rows in zip(*drawn))
            outputs = self.forward(
                inputs,
                num_images_per_prompt=len(noise) // len(batch),
                noise=noise,
                conditioning_noise=conditioning_noise,
            )
            for images in outputs["images"].chunk(len(batch)):
                yield self.postprocess(images, output_type)
        if unnamed:
            logger.warning("%d more prompts are drawn without some of their words: see prompt_words", unnamed)

    def _left_out(self, prompt: str) -> str:
        """Names the words of a prompt that are left out, the first time that it is drawn."""
        if prompt in self._seen:
            return ""
        self._seen.add(prompt)
        return describe_left_out(self.prompt_words(prompt), self.tokenizer.model_max_length)

    def preprocess(self, prompts: list[str]) -> dict[str, Tensor]:
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise ValueError(f"a prompt is a string, and one of these is a {type(prompt).__name__}")
        return dict(encode_prompts(self.tokenizer, prompts, to_limit=self._session is not None))

    def _forward(self, inputs: dict[str, Tensor], **noises) -> dict[str, Tensor]:
        if self._session is not None:
            images = draw_rows(self._session, **inputs, **noises)
        else:
            with compiling() if self._compiles else nullcontext():
                images = self.model.generate(**inputs, **noises).images[-1]
        if not images.isfinite().all():
            raise ValueError(f"model {self.model.config.name_or_path!r} draws NaN: its weights are unfit")
        return {"images": images}

    def postprocess(self, images: Tensor, output_type: str) -> Pictures:
        if output_type == "pil":
            return [to_pil(image) for image in images]
        unit = (images.float() + 1) / 2  # (N, 3, S, S) in [0, 1]
        return unit if output_type == "pt" else unit.permute(0, 2, 3, 1).numpy()


@contextmanager
def compiling() -> Iterator[None]:
    """Says in one sentence that torch cannot compile a network called in the block.

    Raises:
        ValueError: as where there is no C++ compiler.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # here, since importing it takes seconds

    try:
        yield
    except BackendCompilerFailed as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"torch cannot compile the generator ({reason:.200}); install a C++ compiler, such as g++, or draw "
            "without compile=True"
        ) from error


def check_device(device: torch.device | str | int | None) -> None:
    """Raises a ValueError where that device is not there."""
    if isinstance(device, int):  # of the library: -1 is the CPU, others number the accelerators there are
        device = f"cuda:{device}" if device >= 0 and torch.cuda.is_available() else None
    if device is None:
        return
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device {str(device)!r:.60} cannot be used: {str(error).splitlines()[0]:.120}") from error


def load_pipeline(
    name: str,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    onnx: bool = False,
    compile: bool = False,
) -> TextToImagePipeline:
    """Loads a pipeline from a folder or the Hub as `transformers.pipeline` does, but answers
    whatever is missing or damaged there in one line.

    Args:
        name: of a folder or of a repository on the Hub, "user/name" or "user/name@revision".
        device: an accelerator where there is one, when absent.
        dtype: of the weights, such as torch.bfloat16 or "bfloat16"; as stored when absent.
        onnx, compile: draw with onnxruntime or compiled code; see `TextToImagePipeline`.

    Raises:
        ValueError: see `load_pretrained` and `TextToImagePipeline`.
    """
    check_device(device)
    model = load_pretrained(name, "model", tuple(gan.composite for gan in GANS.values()))
    tokenizer = load_tokenizer(name, "model")
    if dtype is not None:
        model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    return TextToImagePipeline(model, tokenizer, device=device, onnx=onnx, compile=compile, task=TASK)


PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=TextToImagePipeline, pt_model=AutoModel, type="multimodal")
