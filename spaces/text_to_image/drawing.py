"""What the page and its API draw. It knows nothing of layout, and trusts nothing that a visitor
sends."""

import io
import math
import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from t2i_supcon.data import to_pil
from t2i_supcon.figures import attention_overlay, enlarged, image_strip
from t2i_supcon.models.base import draw_images, sample_noise, seeded_generator
from t2i_supcon.pipeline import TextToImagePipeline, load_pipeline

MAX_CHARACTERS = 300
MAX_PICTURES = 9
MAX_SEED = 2**32 - 1
MAX_FRAMES = 48
FREE = 3.0  # a truncation of this size leaves the noise as it is
SIDE = 256  # pixels that a picture is enlarged to
SHEET = 512  # pixels, nearly, of a sheet with all pictures of a request
FRAME_TIME = 70  # milliseconds
REST_TIME = 900  # at both ends of a walk


class Refused(ValueError):
    """A request that cannot be met; the message is for the visitor."""


@dataclass(frozen=True)
class Request:
    """What is to be drawn, checked.

    Attributes:
        prompt: one line without control characters.
        count: of pictures.
        seed: of the noise.
        truncation: bound of the noise; None leaves it as it is.
    """

    prompt: str
    count: int = 4
    seed: int = 0
    truncation: float | None = None

    @classmethod
    def checked(cls, prompt: object, count: object = 4, seed: object = None, truncation: object = FREE) -> "Request":
        """Takes whatever a visitor sent. A seed of None becomes a random one.

        Raises:
            Refused: anything of another type or out of its range.
        """
        return cls(
            checked_prompt(prompt),
            checked_whole("number of pictures", count, 1, MAX_PICTURES),
            random.randint(0, MAX_SEED) if seed is None else checked_whole("seed", seed, 0, MAX_SEED),
            checked_truncation(truncation),
        )

    def described(self, model: str) -> dict[str, str]:
        """What the PNG file of a picture says about it."""
        text = {"prompt": self.prompt, "seed": str(self.seed), "model": model, "software": "t2i_supcon"}
        return text | ({} if self.truncation is None else {"truncation": str(self.truncation)})


def checked_prompt(prompt: object) -> str:
    """One line of text, without control characters.

    Raises:
        Refused: something else than text, none of it, or too much.
    """
    if not isinstance(prompt, str):
        raise Refused("The sentence has to be text.")
    if len(prompt) > MAX_CHARACTERS:
        raise Refused(f"That is {len(prompt):,} characters long; up to {MAX_CHARACTERS} are read. Please shorten it.")
    line = " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in prompt).split())
    if not line:
        raise Refused("Type a few words, such as “a red heart”.")
    return line


def checked_whole(name: str, value: object, least: int, most: int) -> int:
    """A whole number from `least` to `most`, whether it was sent as 4 or as 4.0.

    Raises:
        Refused: anything else.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
    if not (whole and least <= value <= most):
        raise Refused(f"The {name} has to be a whole number from {least} to {most}.")
    return int(value)


def checked_truncation(value: object) -> float | None:
    """A bound of the noise, None where it changes nothing.

    Raises:
        Refused: no number, or one that is not above 0.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and 0.1 <= value <= FREE):
        raise Refused(f"The truncation has to be a number from 0.1 to {FREE:g}; {FREE:g} leaves the noise as it is.")
    return None if value == FREE else float(value)


class Studio:
    """Models, each loaded once, and everything that they draw for visitors.

    Args:
        models: by the names that visitors know; the first is the one that they meet first.
    """

    def __init__(self, models: Mapping[str, TextToImagePipeline]):
        self.models = dict(models)
        self.names = list(models)
        for draw in self.models.values():
            draw.model.eval()

    def model(self, name: object) -> TextToImagePipeline:
        """Raises a Refused for a name that is no model's."""
        if not isinstance(name, str) or name not in self.models:
            raise Refused(f"There is no such model; choose one of {', '.join(self.names)}.")
        return self.models[name]

    def marked_words(self, name: str, prompt: str) -> list[tuple[str, str | None]]:
        """The prompt in pieces, each with None or with why the model leaves it out: "unknown" or
        "no room"."""
        words = self.model(name).prompt_words(prompt)
        left = {None: list(words.read), "unknown": list(words.unknown), "no room": list(words.beyond)}
        pieces, copied = [], 0
        for match in re.finditer(r"\w+", prompt):
            why = next(why for why, several in left.items() if several and several[0] == match[0])
            left[why].pop(0)
            if why:
                pieces += [(prompt[copied : match.start()], None), (match[0], why)]
                copied = match.end()
        return [(text, why) for text, why in [*pieces, (prompt[copied:], None)] if text]

    def pictures(self, name: str, request: Request, side: int = SIDE) -> list[Image.Image]:
        """The pictures of a request, enlarged to `side` pixels, each with its description.

        Raises:
            Refused: no word of the prompt is known.
        """
        draw = self.model(name)
        inputs = self._read(name, request.prompt)
        noise, conditioning_noise = self._noise(draw, request)
        output = draw.model.generate(
            **inputs, num_images_per_prompt=request.count, noise=noise, conditioning_noise=conditioning_noise
        )
        drawn = [enlarged(to_pil(image), side) for image in output.images[-1]]
        for number, picture in enumerate(drawn, start=1):
            picture.info = {**request.described(name), "image": str(number)}
        return drawn

    def sheets(self, names: Sequence[str], request: Request) -> list[Image.Image]:
        """For each model one sheet with all pictures of a request: the same words, the same noise
        where the models take noise of the same size."""
        sheets = []
        columns = math.ceil(math.sqrt(request.count))
        for name in names:
            sheet = image_strip(self.pictures(name, request, SHEET // columns), gap=8, columns=columns)
            sheet.info = request.described(name)
            sheets.append(sheet)
        return sheets

    def word_views(self, name: str, request: Request) -> list[tuple[Image.Image, str]]:
        """The first picture, and where each word was read or, of a GAN without word attention,
        where each of its blocks lets the text act. A GAN with neither gives the picture alone."""
        draw = self.model(name)
        inputs = self._read(name, request.prompt)
        noise, conditioning_noise = self._noise(draw, request, count=1)
        inputs = {key: value.to(draw.device) for key, value in inputs.items()}
        output = draw_images(draw.model.text_encoder, draw.model.generator, *inputs.values(), noise, conditioning_noise)
        picture = enlarged(to_pil(output.images[-1][0]), SIDE)
        views = [(picture, "the picture")]
        if output.attentions:
            tokens = draw.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
            for token, weights in zip(tokens, output.attentions[-1][0].float().cpu().numpy()):
                word = token.removeprefix("▁").removesuffix("</w>")
                views.append((attention_overlay(picture, weights), f"{word} (up to {weights.max():.0%})"))
        for number, mask in enumerate(output.masks or (), start=1):
            grey = Image.fromarray((mask[0, 0].float().cpu().numpy() * 255).round().astype("uint8"))
            views.append(
                (grey.resize(picture.size, Image.Resampling.NEAREST).convert("RGB"), f"block {number}, {grey.width} px")
            )
        for view, label in views:
            view.info = {**request.described(name), "view": label}
        return views

    @torch.no_grad()
    def walk(self, name: str, start: Request, prompt: str, seed: int, frames: int) -> list[Image.Image]:
        """Pictures on the way from one sentence and seed to another.

        Sentences are blended in the embedding space, noises along the sphere that they lie on. The
        ends are the very pictures of both requests: for blending, the words of each sentence are
        repeated until both have as many, which attention over words does not notice.

        Args:
            start: prompt and seed of the first picture, and the bound of all noise.
            prompt, seed: of the last picture.
            frames: number of pictures, both ends included.

        Returns:
            The pictures, not enlarged.

        Raises:
            Refused: no word of a prompt is known.
        """
        draw = self.model(name)
        requests = [start, Request(prompt, 1, seed, start.truncation)]
        steps = torch.linspace(0, 1, frames, device=draw.device)
        texts = []
        for request in requests:
            inputs = self._read(name, request.prompt)
            texts.append(draw.model.text_encoder(**{key: value.to(draw.device) for key, value in inputs.items()}))
        length = math.lcm(*(text.word_embs.shape[1] for text in texts))
        words = [text.word_embs.repeat_interleave(length // text.word_embs.shape[1], dim=1) for text in texts]
        mask = torch.ones(1, length, dtype=texts[0].attention_mask.dtype, device=draw.device)
        noises = [
            None if parts[0] is None else [part.to(texts[0].sent_emb) for part in parts]
            for parts in zip(*(self._noise(draw, request, count=1) for request in requests))
        ]
        pictures = []
        for step in steps:
            noise, conditioning_noise = (None if ends is None else on_sphere(*ends, step) for ends in noises)
            sent_emb = torch.lerp(texts[0].sent_emb, texts[1].sent_emb, step)
            image = draw.model.generator(noise, sent_emb, torch.lerp(*words, step), mask, conditioning_noise).images[-1]
            pictures.append(to_pil(image[0]))
        return pictures

    def _read(self, name: str, prompt: str) -> dict[str, Tensor]:
        draw = self.model(name)
        if not draw.prompt_words(prompt).read:
            raise Refused(f"{name} knows none of these words. Try other ones, such as those of the examples.")
        return draw.preprocess([prompt])

    @staticmethod
    def _noise(draw: TextToImagePipeline, request: Request, count: int | None = None) -> tuple[Tensor, Tensor | None]:
        generator = seeded_generator(request.seed)
        return sample_noise(draw.model.config, count or request.count, generator, request.truncation)


def load_studio(sources: Mapping[str, str]) -> Studio:
    """Loads models by name, each from a folder or from a repository of the Hub.

    Raises:
        ValueError: in one line, which one cannot be loaded and why.
    """
    return Studio({name: load_pipeline(source) for name, source in sources.items()})


def on_sphere(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """Goes from one noise (1, Z) to another along a great circle, so that what lies between is as
    far from the origin as noise is.

    Shoemake, "Animating rotation with quaternion curves", 1985; lengths are blended linearly.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle.sin() < 1e-4:  # the same direction
        return torch.lerp(start, end, step)
    lengths = torch.lerp(start.norm(), end.norm(), step)
    along = torch.sin((1 - step) * angle) * start / start.norm() + torch.sin(step * angle) * end / end.norm()
    return lengths * along / angle.sin()


def animation(pictures: Sequence[Image.Image]) -> bytes:
    """An endless GIF of enlarged pictures that goes there and back and rests at both ends."""
    there = []
    for picture in pictures:
        palette = picture.quantize()  # of the small picture, which is much faster
        there.append(enlarged(picture, SIDE).quantize(palette=palette, dither=Image.Dither.NONE))
    frames = [*there, *there[-2:0:-1]]
    times = [FRAME_TIME] * len(frames)
    times[0] = times[len(there) - 1] = REST_TIME
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()
