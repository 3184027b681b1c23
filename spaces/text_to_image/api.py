"""Named endpoints for programs: plain values in, plain values and files out."""

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import gradio as gr
from drawing import FREE, MAX_FRAMES, Refused, Request, Studio, animation, checked_prompt, checked_whole
from served import picture_file, served_file

from t2i_supcon.evaluation.protocol import Evaluation

logger = logging.getLogger(__name__)
FAILED = "Something went wrong here, and it was written down. Please try again."


def visible_errors(endpoint: Callable) -> Callable:
    """Lets refusals through as they are, and nothing else: the log alone knows more."""

    @wraps(endpoint)
    def answered(*args, **kwargs):
        try:
            return endpoint(*args, **kwargs)
        except Refused as refusal:
            raise gr.Error(str(refusal), print_exception=False) from None
        except Exception:
            logger.exception("an endpoint failed")
            raise gr.Error(FAILED, print_exception=False) from None

    return answered


def add_endpoints(studio: Studio, evaluations: Mapping[str, Evaluation], **event: Any) -> None:
    """Adds the public endpoints to the page that is being built.

    Args:
        studio: draws.
        evaluations: by model.
        event: how all of them are queued.
    """
    default = studio.names[0]

    @visible_errors
    def draw(
        prompt: str, model: str = default, count: int = 1, seed: int | None = None, truncation: float = FREE
    ) -> tuple[list[dict], int, list[str]]:
        """Draws 1 to 9 pictures of a sentence. Returns PNG files, which hold what they were drawn
        from, the seed used and the words that the model left out."""
        request = Request.checked(prompt, count, seed, truncation)
        pictures = [file_data(picture_file(picture)) for picture in studio.pictures(model, request)]
        left_out = [word for word, why in studio.marked_words(model, request.prompt) if why]
        return pictures, request.seed, left_out

    @visible_errors
    def compare(prompt: str, count: int = 1, seed: int | None = None, truncation: float = FREE) -> tuple[dict, int]:
        """Draws a sentence with every model from the same noise. Returns one PNG file for each
        model, by its name, and the seed used."""
        request = Request.checked(prompt, count, seed, truncation)
        sheets = studio.sheets(studio.names, request)
        return {name: file_data(picture_file(sheet)) for name, sheet in zip(studio.names, sheets)}, request.seed

    @visible_errors
    def words(prompt: str, model: str = default) -> tuple[list[str], list[str], list[str]]:
        """Tells which words of a sentence a model reads, which it does not know, and for which it
        has no room."""
        told = studio.model(model).prompt_words(checked_prompt(prompt))
        return told.read, told.unknown, told.beyond

    @visible_errors
    def word_views(
        prompt: str, model: str = default, seed: int | None = None, truncation: float = FREE
    ) -> tuple[list[dict], list[str], int]:
        """Shows where each word was read, or where the text may act. Returns PNG files, their
        labels and the seed used; the first is the picture itself."""
        request = Request.checked(prompt, 1, seed, truncation)
        views = studio.word_views(model, request)
        return [file_data(picture_file(view)) for view, _ in views], [label for _, label in views], request.seed

    @visible_errors
    def walk(
        prompt: str,
        to_prompt: str,
        model: str = default,
        seed: int | None = None,
        to_seed: int | None = None,
        frames: int = 16,
        truncation: float = FREE,
    ) -> tuple[dict, int, int]:
        """Goes from one sentence and seed to another. Returns a GIF file that goes there and back,
        and both seeds."""
        start = Request.checked(prompt, 1, seed, truncation)
        end = Request.checked(to_prompt, 1, start.seed if to_seed is None else to_seed, truncation)
        number = checked_whole("number of frames", frames, 2, MAX_FRAMES)
        pictures = studio.walk(model, start, end.prompt, end.seed, number)
        return file_data(served_file(animation(pictures), "walk.gif")), start.seed, end.seed

    @visible_errors
    def models() -> dict:
        """Names the models, each with the numbers of its evaluation, if it comes with one."""
        return {name: dict(evaluations[name].values) if name in evaluations else {} for name in studio.names}

    for endpoint in (draw, compare, words, word_views, walk, models):
        gr.api(endpoint, api_name=endpoint.__name__, **event)


def file_data(path: str) -> dict:
    """A file that clients download."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
