"""What every network here shares: the output types, the initialisation policy, the text-to-image
composite and its road from token ids and noise to images."""

import math
import operator
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from ..hub import explained, files_beside_weights, folder_files, push_model, split_revision
from .weights import loading_problems, stored_tensors

ROWS_AT_ONCE = 64  # that one forward of a generator draws, so that memory does not grow with the pictures asked for
MAX_IMAGES = 10_000  # of one call of `generate`

Noises = tuple[Tensor, Tensor | None]  # `noise` and `conditioning_noise` of one prompt's pictures


@dataclass
class TextEmbeddings(ModelOutput):
    """Text in the space it shares with images.

    Attributes:
        sent_emb: (B, D), one vector per caption.
        word_embs: (B, T, D), one vector per word, zero where `attention_mask` is 0.
        attention_mask: (B, T), 1 = real word.
    """

    sent_emb: Tensor | None = None
    word_embs: Tensor | None = None
    attention_mask: Tensor | None = None


@dataclass
class ImageEmbeddings(ModelOutput):
    """Images in the space they share with text.

    Attributes:
        image_emb: (B, D), one vector per image.
        region_feats: (B, D, h, w), one vector per region, from the encoders that embed regions.
        local_feats: (B, n, W, g, g), patch features of n intermediate layers in their own width,
            from the encoders that expose them.
    """

    image_emb: Tensor | None = None
    region_feats: Tensor | None = None
    local_feats: Tensor | None = None


@dataclass
class GeneratorOutput(ModelOutput):
    """What a generator draws.

    Attributes:
        images: one (B, 3, S, S) tensor in [-1, 1] per scale, from low to high.
        mu, logvar: (B, C) of conditioning augmentation, for the generators that have it.
        attentions: word attention (B, T, s, s) per stage after the first, for the generators that
            attend to words.
        masks: (B, 1, s, s) in [0, 1] per block, where the text may change the picture, for the
            generators that predict masks.
    """

    images: tuple[Tensor, ...] | None = None
    mu: Tensor | None = None
    logvar: Tensor | None = None
    attentions: tuple[Tensor, ...] | None = None
    masks: tuple[Tensor, ...] | None = None


@dataclass
class DiscriminatorOutput(ModelOutput):
    """Logits (never probabilities), one (B,) tensor per scale.

    Attributes:
        cond: image with its own caption.
        wrong: the first M images with the M wrong captions given.
        uncond: image alone, for the discriminators that have that head.
    """

    cond: tuple[Tensor, ...] | None = None
    wrong: tuple[Tensor, ...] | None = None
    uncond: tuple[Tensor, ...] | None = None


class GANPreTrainedModel(PreTrainedModel):
    """A `PreTrainedModel` that keeps the initialisation its layers were built with.

    The library's default would draw every convolution anew with std 0.02. Here each module that
    owns parameters says in `reset_parameters` how they start (as torch's own layers do), and the
    same method restores what a checkpoint lacks. Only the owner may say it: the library passes over
    modules without parameters of their own. The library guards the `torch.nn.init` functions
    while this runs, so that tensors already loaded are left alone; only BatchNorm writes its
    buffers without them.

    Loading makes every parameter trainable again; a module that keeps some frozen therefore has a
    `freeze` method, called here.
    """

    main_input_name = "input_ids"
    source: str = ""  # what it was loaded from: a folder, or "user/name" or "user/name@revision" of the Hub
    loading_problems: tuple[str, ...] = ()  # tensors that what it was loaded from lacks or holds as whole numbers
    _supports_sdpa = True  # for the towers that attend; the choice made here is handed down to them

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs):
        name = pretrained_model_name_or_path
        with explained(str(name), kwargs.get("revision")):
            model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        for module in model.modules():
            if hasattr(module, "freeze"):
                module.freeze()
        where = (kwargs.get("subfolder") or "", kwargs.get("revision"), kwargs.get("cache_dir"))
        stored = {} if name is None else stored_tensors(name, *where)
        revision = kwargs.get("revision")
        model.source = model.config.name_or_path
        if revision is not None and not Path(model.source).is_dir():
            model.source += f"@{revision}"
        model.loading_problems = loading_problems(model, info["missing_keys"], stored)
        return (model, info) if output_loading_info else model

    def push_to_hub(
        self,
        repo_id: str,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload model",
        tag: str | None = None,
    ) -> str:
        """Publishes the model in one commit, and a tag of it if asked, with a card and all that lay
        beside the weights that it was loaded from: tokenizer, discriminator, evaluation, samples.

        Of weights that were changed since then the old evaluation and samples would be wrong: only
        the tokenizer goes along with those.

        Args:
            repo_id: "user/name"; made where there is none.
            tokenizer: in place of the one that lay there.
            private: of a new repository; None is the default of the account.
            token: in place of the one that was logged in with.
            commit_message, tag: of this version.

        Returns:
            The commit's id.

        Raises:
            OSError, ValueError: the Hub cannot be reached or refuses; see `push_files`.
        """
        whole = self.config.architectures == [type(self).__name__] and bool(self.source)
        beside = files_beside_weights(self.source) if whole else {}
        if whole and not self._is_as_stored():
            beside = {name: file for name, file in beside.items() if name.startswith("tokenizer")}
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)
            files = beside | folder_files(Path(folder))
            options = {"private": private, "token": token, "message": commit_message, "tag": tag}
            return push_model(files, repo_id, **options)

    def _is_as_stored(self) -> bool:
        """Whether the weights are still those that the model was loaded from."""
        name, revision = split_revision(self.source)
        stored = type(self).from_pretrained(name, revision=revision).state_dict()
        return all(torch.equal(tensor.to(stored[name]), stored[name]) for name, tensor in self.state_dict().items())

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.affine:
                init.ones_(module.weight)
                init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


class TextToImageModel(GANPreTrainedModel):
    """A text encoder and a generator that together draw pictures from token ids.

    A subclass names its `config_class`, `text_encoder_class` and `generator_class`; one saved
    folder serves the composite and both parts.
    """

    base_model_prefix = "generator"
    text_encoder_class: type[PreTrainedModel]
    generator_class: type[PreTrainedModel]

    def __init__(self, config):
        super().__init__(config)
        self.text_encoder = self.text_encoder_class(config.text_config)
        self.generator = self.generator_class(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        noise: Tensor | None = None,
        conditioning_noise: Tensor | None = None,
        output_attentions: bool = False,
    ) -> GeneratorOutput:
        """Draws one image per caption, with gradients and in the mode the model is in; to draw
        pictures for people, call `generate`.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 = real token; left to the text encoder when absent.
            noise: (B, Z); drawn from N(0, 1) when absent.
            conditioning_noise: (B, C), the normal draw of conditioning augmentation; drawn when
                absent, not used by a generator without it.
            output_attentions: whether to return `attentions` or `masks`, whichever the generator
                has.
            return_dict: False gives a tuple of what is not None.
        """
        text = self.text_encoder(input_ids, attention_mask)
        if noise is None:
            noise = torch.randn(
                len(input_ids), self.config.noise_dim, device=text.sent_emb.device, dtype=text.sent_emb.dtype
            )
        output = self.generator(noise, text.sent_emb, text.word_embs, text.attention_mask, conditioning_noise)
        return output if output_attentions else _without_attentions(output)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        num_images_per_prompt: int = 1,
        noise: Tensor | None = None,
        conditioning_noise: Tensor | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        truncation: float | None = None,
        output_attentions: bool = False,
    ) -> GeneratorOutput:
        """Draws N images for each of B captions, in evaluation mode; rows come prompt by prompt.

        With `noise` and, for a generator with conditioning augmentation, `conditioning_noise`
        given, this is a function of its arguments. With `generator` given instead, an image depends
        on its prompt, the generator's state and its number among the prompt's images, but neither
        on how many images are drawn nor on the other prompts. CPUs compute the rows one by one,
        without their padding, so that this holds bit for bit; other devices compute batches, whose
        size may change the rounding.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 = real token, padding on the right; when absent, the text
                encoder decides: DAMSM's reads all tokens, CLIP's up to the first end of text.
            num_images_per_prompt: N.
            noise: (B * N, Z); drawn from N(0, 1) when absent.
            conditioning_noise: (B * N, C), the normal draw of conditioning augmentation; drawn when
                absent, not used by a generator without it.
            generator: source of the noise that is not given. One generator gives every prompt the
                same N noises; a list has one for each prompt or for each of the B * N images. When
                absent, torch's global one gives every row its own.
            truncation: keeps each drawn value within this bound (typical: 0.5 to 2; less variety,
                cleaner images).
            output_attentions: whether to return where each word was read or where the text may
                change the picture.

        Returns:
            Output whose tensors have B * N rows, images clamped to [-1, 1]. With
            `output_attentions` it holds what the generator has:
            `attentions`, (B * N, T, s, s) per refining stage, which sum to one over the real words
            and are zero at padding, or
            `masks`, (B * N, 1, s, s) in [0, 1] per block. Both are None without it.

        Raises:
            ValueError: token ids or noise of another shape, type or range; fewer than one image or
                more than `MAX_IMAGES`; a truncation that is not positive and finite; another number
                of generators than prompts or images; attentions asked of a GAN that has neither
                them nor masks.
        """
        input_ids, attention_mask = check_tokens(input_ids, attention_mask, self.config.text_config.vocab_size)
        num_images = check_num_images(num_images_per_prompt, len(input_ids))
        rows = len(input_ids) * num_images
        given = {"noise": noise, "conditioning_noise": conditioning_noise}
        widths = noise_widths(self.config)
        for name, tensor in given.items():
            if tensor is None or not widths[name]:
                continue
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                raise ValueError(
                    f"{name} is a {getattr(tensor, 'dtype', type(tensor).__name__)}; it must be a tensor "
                    "of real numbers"
                )
            if tuple(tensor.shape) != (rows, widths[name]):
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}; {len(input_ids)} prompts x {num_images} "
                    f"images need {(rows, widths[name])}"
                )
            if not tensor.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinity")
        truncation = check_truncation(truncation)
        if any(given[name] is None and width for name, width in widths.items()):
            drawn = self._sample_noise(len(input_ids), num_images, generator, truncation)
            noise = drawn[0] if noise is None else noise
            conditioning_noise = drawn[1] if conditioning_noise is None else conditioning_noise
        device = self.get_input_embeddings().weight.device
        output = draw_images(
            self.text_encoder,
            self.generator,
            input_ids.to(device),
            None if attention_mask is None else attention_mask.to(device),
            noise,
            conditioning_noise,
            rows_at_once=1 if device.type == "cpu" else ROWS_AT_ONCE,
        )
        if not output_attentions:
            return _without_attentions(output)
        if not (output.attentions or output.masks):
            raise ValueError(
                f"{type(self).__name__} has no attentions to return: its generator neither attends to words "
                "nor predicts masks"
            )
        return output

    def _sample_noise(
        self,
        num_prompts: int,
        num_images: int,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        truncation: float | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Both noises of all rows; see `generate`."""
        rows = num_prompts * num_images
        if generator is None:
            return sample_noise(self.config, rows, None, truncation)
        if isinstance(generator, torch.Generator):
            drawn = [sample_noise(self.config, num_images, generator, truncation)] * num_prompts
        else:
            drawn = [
                sample_noise(self.config, num_images, one, truncation)
                for one in generators_of_prompts(generator, num_prompts, num_images)
            ]
        return tuple(None if parts[0] is None else torch.cat(parts) for parts in zip(*drawn))


def _without_attentions(output: GeneratorOutput) -> GeneratorOutput:
    return GeneratorOutput(images=output.images, mu=output.mu, logvar=output.logvar)


@torch.no_grad()
def draw_images(
    text_encoder: PreTrainedModel,
    generator: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    noise: Tensor,
    conditioning_noise: Tensor | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> GeneratorOutput:
    """Draws N images for each of B captions: the one road from token ids and noise to images.

    Both networks run in evaluation mode, whichever they were in, and are put back into it.

    Args:
        text_encoder, generator: on one device.
        input_ids: (B, T) token ids, on that device.
        attention_mask: (B, T), 1 = real token; left to the text encoder when absent.
        noise: (B * N, Z), the N rows of a caption one after the other, on any device.
        conditioning_noise: (B * N, C), for a generator with conditioning augmentation.
        rows_at_once: of one forward; a row's values do not depend on it but for rounding.

    Returns:
        Output of B * N rows with all that the generator gives, images clamped to [-1, 1].
    """
    with evaluation_mode(text_encoder, generator):
        text = _by_rows(text_encoder, rows_at_once, input_ids=input_ids, attention_mask=attention_mask)
        sent_emb, word_embs, mask = (
            tensor.repeat_interleave(len(noise) // len(input_ids), dim=0)
            for tensor in (text.sent_emb, text.word_embs, text.attention_mask)
        )
        noise, conditioning_noise = (None if x is None else x.to(sent_emb) for x in (noise, conditioning_noise))
        output = _by_rows(
            generator,
            rows_at_once,
            word_embs=word_embs,
            attention_mask=mask,
            noise=noise,
            sent_emb=sent_emb,
            conditioning_noise=conditioning_noise,
        )
    output.images = tuple(image.clamp(-1, 1) for image in output.images)
    return output


OF_WORDS = ("input_ids", "word_embs", "attention_mask", "attentions")  # tensors (B, T, ...)


def _by_rows(network: nn.Module, rows_at_once: int, **inputs: Tensor | None) -> ModelOutput:
    """Calls the network on a few rows of its inputs at a time, the first of which is one of
    `OF_WORDS`, and joins what it gives.

    Padding that those rows have in common is left out and put back as zeros, since it could change
    the rounding of the real words.
    """
    num_rows, num_words = next(iter(inputs.values())).shape[:2]
    parts = []
    for start in range(0, num_rows, rows_at_once):
        rows = {name: x[start : start + rows_at_once] for name, x in inputs.items() if x is not None}
        if "attention_mask" in rows:
            longest = int(rows["attention_mask"].sum(dim=1).max())
            rows = {name: x[:, :longest] if name in OF_WORDS else x for name, x in rows.items()}
        parts.append(network(**rows))

    def join(name: str, values: list) -> Tensor | tuple[Tensor, ...]:
        if isinstance(values[0], tuple):
            return tuple(join(name, list(same)) for same in zip(*values, strict=True))
        if name in OF_WORDS:
            values = [F.pad(x, (0, 0) * (x.ndim - 2) + (0, num_words - x.shape[1])) for x in values]
        return torch.cat(values) if len(values) > 1 else values[0]

    return type(parts[0])(**{name: join(name, [part[name] for part in parts]) for name in parts[0]})


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Inside the block the networks are in evaluation mode; afterwards each of their modules is in
    the mode it was in."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def noise_widths(config: PreTrainedConfig) -> dict[str, int]:
    """Z of `noise` and C of `conditioning_noise`, which is 0 without conditioning augmentation."""
    return {"noise": config.noise_dim, "conditioning_noise": getattr(config, "conditioning_dim", 0)}


def sample_noise(
    config: PreTrainedConfig,
    num_images: int,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    truncation: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Draws from N(0, 1) all that N images leave to chance, image by image: the first images are
    the same however many follow.

    Args:
        config: of the GAN.
        num_images: N.
        generator: source of the draws, such as `seeded_generator(0)`, or one for each image;
            torch's global one when absent.
        truncation: keeps each value within this bound, by drawing from the normal distribution cut
            off there.

    Returns:
        `noise` (N, Z) and `conditioning_noise` (N, C), on the generator's device; the second is
        None for a GAN without conditioning augmentation.

    Raises:
        ValueError: a truncation that is not positive and finite.
    """
    truncation = check_truncation(truncation)
    widths = list(noise_widths(config).values())
    each = [generator] * num_images if generator is None or isinstance(generator, torch.Generator) else generator
    rows = torch.stack([_normal_values(sum(widths), one, truncation) for one in each])
    noise, conditioning_noise = rows.split(widths, dim=1)
    return noise, conditioning_noise if conditioning_noise.shape[1] else None


def _normal_values(width: int, generator: torch.Generator | None, truncation: float | None) -> Tensor:
    """(Z,) from N(0, 1), or, by the inverse of its distribution function, from what of it lies
    within `truncation`."""
    device = generator.device if generator is not None else "cpu"
    if truncation is None:
        return torch.randn(width, generator=generator, device=device, dtype=torch.float32)
    mass = math.erf(truncation / math.sqrt(2))  # of N(0, 1) within the bound
    uniform = torch.rand(width, generator=generator, device=device, dtype=torch.float64)
    values = math.sqrt(2) * torch.erfinv((2 * uniform - 1) * mass)
    return values.clamp(-truncation, truncation).float()


def generators_of_prompts(
    generators: Sequence[torch.Generator], num_prompts: int, num_images: int
) -> list[torch.Generator] | list[Sequence[torch.Generator]]:
    """For each prompt its generator or, of as many as there are images, those of its images.

    Raises:
        ValueError: something other than generators, or another number of them.
    """
    if not isinstance(generators, Sequence) or not all(isinstance(one, torch.Generator) for one in generators):
        raise ValueError(f"generator is a {type(generators).__name__}; it must be a torch.Generator or a list of such")
    if len(generators) == num_prompts:
        return list(generators)
    if len(generators) == num_prompts * num_images:
        return [generators[start : start + num_images] for start in range(0, len(generators), num_images)]
    raise ValueError(
        f"there are {len(generators)} generators for {num_prompts} prompts and {num_prompts * num_images} images; give "
        "one, one for each prompt, or one for each image"
    )


def noises_of_prompts(
    config: PreTrainedConfig,
    num_prompts: int | None,
    num_images_per_prompt: int = 1,
    seed: int | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    truncation: float | None = None,
) -> Iterator[Noises]:
    """Both noises of each prompt's pictures in turn, as `sample_noise` gives them; see
    `TextToImagePipeline`. Bad arguments are refused at once.

    Args:
        config: of the GAN.
        num_prompts: None where they are not known in advance.
    """
    num_images_per_prompt = check_num_images(num_images_per_prompt, 1)
    truncation = check_truncation(truncation)
    if seed is not None:
        generator = seeded_generator(seed)
    if isinstance(generator, torch.Generator):
        return repeat(sample_noise(config, num_images_per_prompt, generator, truncation))
    sources = repeat(None)
    if generator is not None:
        one_each = num_prompts is None and isinstance(generator, Sequence)
        num_prompts = len(generator) if one_each else num_prompts
        sources = generators_of_prompts(generator, num_prompts, num_images_per_prompt)
    return (sample_noise(config, num_images_per_prompt, source, truncation) for source in sources)


def check_num_images(num_images_per_prompt: int, num_prompts: int) -> int:
    """Gives it back.

    Raises:
        ValueError: it is no whole number, or the prompts' images are not 1 to `MAX_IMAGES`.
    """
    number = whole_number("num_images_per_prompt", num_images_per_prompt)
    if not 1 <= num_prompts * number <= MAX_IMAGES:
        raise ValueError(
            f"num_images_per_prompt is {shown_number(number)}; one call draws from 1 to {MAX_IMAGES:,} "
            f"images, and there are {num_prompts} prompts"
        )
    return number


def check_truncation(truncation: float | None) -> float | None:
    """Gives it back.

    Raises:
        ValueError: it is there, and no positive and finite number.
    """
    if truncation is None:
        return None
    value = math.nan
    if isinstance(truncation, Real) and not isinstance(truncation, bool):
        with suppress(OverflowError):
            value = float(truncation)
    if not 0 < value < math.inf:
        raise ValueError(f"truncation is {truncation!r:.60}; it must be a positive, finite number")
    return value


def seeded_generator(seed: int) -> torch.Generator:
    """A generator of the CPU at the start of its seed.

    Raises:
        ValueError: a seed that is no whole number from 0 to 2^64 - 1.
    """
    number = whole_number("seed", seed)
    if not 0 <= number < 2**64:
        raise ValueError(f"seed is {shown_number(number)}; it must be from 0 to 2^64 - 1")
    return torch.Generator().manual_seed(number)


def check_count(name: str, value: int) -> int:
    """Gives it back.

    Raises:
        ValueError: it is no whole number from 1 to `MAX_IMAGES`.
    """
    number = whole_number(name, value)
    if not 1 <= number <= MAX_IMAGES:
        raise ValueError(f"{name} is {shown_number(number)}; it must be at least 1 and at most {MAX_IMAGES:,}")
    return number


def whole_number(name: str, value: int) -> int:
    """The value as Python's own integer, also where it is one of numpy or torch.

    Raises:
        ValueError: it is none.
    """
    with suppress(TypeError):
        if not isinstance(value, bool):
            return operator.index(value)
    raise ValueError(f"{name} is {value!r:.60}; it must be a whole number")


def shown_number(number: int) -> str:
    """As messages show a number that may have thousands of digits."""
    return str(number) if abs(number) < 10**20 else f"{'-' if number < 0 else ''}2^{number.bit_length()} or so"


def check_tokens(input_ids: Tensor, attention_mask: Tensor | None, vocab_size: int) -> tuple[Tensor, Tensor | None]:
    """Gives back token ids and mask as int64.

    Raises:
        ValueError: not (B, T) whole numbers from 0 to `vocab_size` - 1, or a mask that is not of
            their shape, holds anything but 0 and 1, or does not start each row with a real token
            and end it with its padding.
    """
    if not isinstance(input_ids, Tensor) or input_ids.ndim != 2 or 0 in input_ids.shape:
        found = tuple(input_ids.shape) if isinstance(input_ids, Tensor) else type(input_ids).__name__
        raise ValueError(f"input_ids are {found}; they must be a tensor (B, T) of at least one token id")
    if input_ids.is_floating_point() or input_ids.is_complex() or input_ids.dtype == torch.bool:
        raise ValueError(f"input_ids are {input_ids.dtype}; token ids are whole numbers")
    if not 0 <= input_ids.min() or not input_ids.max() < vocab_size:
        raise ValueError(
            f"input_ids go from {input_ids.min()} to {input_ids.max()}; the text encoder knows ids from 0 to "
            f"{vocab_size - 1}"
        )
    if attention_mask is None:
        return input_ids.long(), None
    if not isinstance(attention_mask, Tensor):
        raise ValueError(f"attention_mask is a {type(attention_mask).__name__}; it must be a tensor (B, T)")
    if tuple(attention_mask.shape) != tuple(input_ids.shape):
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; input_ids have {tuple(input_ids.shape)}"
        )
    real = attention_mask.long()
    if (real != attention_mask).any() or not ((real == 0) | (real == 1)).all():
        raise ValueError("attention_mask holds something other than 0 (padding) and 1 (real token)")
    if (real[:, 0] == 0).any() or (real.diff(dim=1) > 0).any():
        raise ValueError(
            "every row of attention_mask must start with a real token and have its padding behind the last one"
        )
    return input_ids.long(), real
