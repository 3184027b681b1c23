"""The web page: pictures appear while a sentence is typed.

python spaces/text_to_image/app.py                        # the embedded models
MODEL_IDS=me/a,me/b python spaces/text_to_image/app.py    # models of the Hub, or folders
"""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from html import escape
from pathlib import Path

import gradio as gr
from api import FAILED, add_endpoints
from drawing import (
    FREE,
    MAX_FRAMES,
    MAX_PICTURES,
    MAX_SEED,
    Refused,
    Request,
    Studio,
    animation,
    checked_whole,
    load_studio,
)
from huggingface_hub import SpaceCard
from PIL import Image
from scores import evaluations, model_cards, scores_page
from served import picture_file, served_file

from t2i_supcon import EMBEDDED_MODELS, embedded_model
from t2i_supcon.figures import enlarged, image_strip
from t2i_supcon.files import short_name

logger = logging.getLogger(__name__)
FOLDER = Path(__file__).parent
EXAMPLES = json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))  # sentences by group and label
FRAMES, STILLS = 16, 8  # pictures of a walk, and how many of them stand side by side
QUEUE = 24  # requests that wait; others are told that the page is busy
VISITS = 100  # of which the open view is remembered; each costs some 130 kB of memory
PICTURES = {"show_label": False, "interactive": False, "elem_classes": "pictures"}  # of all that shows pictures
SAVED = {**PICTURES, "buttons": ["download", "fullscreen"]}
GALLERY = {"format": "png", "height": "auto", "object_fit": "contain"}
ONE_BY_ONE = {"concurrency_id": "drawing", "concurrency_limit": 1}
PRIVATE = {**ONE_BY_ONE, "api_visibility": "private"}
HOUR = 3600  # seconds
TITLE = "Draws while you type"
HEADER = f"""<h1>{TITLE}</h1>
<p>Small text-to-image GANs, trained with and without
<a href="https://arxiv.org/abs/2412.03957" target="_blank" rel="noopener">supervised contrastive learning</a>.</p>"""
COMPARE = "The same words and the same noise: **{}** on the left, **{}** on the right. Drag the handle."
WORDS = (
    "Where a GAN reads words, the light shows where each one was read, on a scale of its own. "
    "Where a GAN predicts masks, white is where the text may act. Choose a tile to enlarge it."
)
WALK = "From the sentence above and its seed to another sentence, another seed, or both."
LAUNCH = {
    "theme": gr.themes.Soft(
        primary_hue="amber",
        neutral_hue="stone",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["monospace"],
    ),
    "css": (FOLDER / "style.css").read_text(encoding="utf-8"),
    "js": (FOLDER / "page.js").read_text(encoding="utf-8"),
    "max_file_size": 1,  # byte: nothing here takes files
    "state_session_capacity": VISITS,
    "show_error": False,
    "footer_links": ["settings"],
    "run_history": False,
    "ssr_mode": False,
}


def model_sources(ids: str, card: Path = FOLDER / "README.md") -> dict[str, str]:
    """Folders or repositories of models by the names that visitors know: a folder's `short_name`,
    or all of it where several have the same.

    Args:
        ids: a list with commas; where it is empty, the models count that the card names, and else
            the embedded ones.
        card: of the Space.
    """
    several = [name.strip() for name in ids.split(",") if name.strip()]
    several = several or SpaceCard.load(card).data.models or list(EMBEDDED_MODELS)
    names = [short_name(name) if Path(name).is_dir() else name for name in several]
    return {
        known if names.count(known) == 1 else name: str(embedded_model(name)) if name in EMBEDDED_MODELS else name
        for known, name in zip(names, several)
    }


def known_examples(studio: Studio) -> dict[str, list[str]]:
    """Example sentences by group, of the groups of which the first model knows every word."""
    known = {
        group: [
            text for text in labels.values() if not any(why for _, why in studio.marked_words(studio.names[0], text))
        ]
        for group, labels in EXAMPLES.items()
    }
    return {group: sentences for group, sentences in known.items() if len(sentences) == len(EXAMPLES[group])}


def note(words: list[tuple[str, str | None]], text: str, trouble: bool = False) -> str:
    """The line below the sentence, as HTML: the words that are left out are marked."""
    marked = ""
    if any(why for _, why in words):
        pieces = (f'<u class="left-out" title="{why}">{escape(w)}</u>' if why else escape(w) for w, why in words)
        kinds = {"unknown": "unknown to the model", "no room": "more than it reads"}
        reasons = " or ".join(reason for why, reason in kinds.items() if any(why == w for _, w in words))
        marked = f'<span class="words">{"".join(pieces)}</span> Underlined words are {reasons}. '
    return f'<p class="{"trouble" if trouble else "fine"}">{marked}{escape(text)}</p>'


def view_value(studio: Studio, view: str, request: Request, name: str, beside: str) -> list | tuple:
    """What one view shows of a request: files, those of words with their labels."""
    if view == "compare":
        return tuple(picture_file(sheet) for sheet in studio.sheets([beside, name], request))
    if view == "words":
        return [(picture_file(picture), label) for picture, label in studio.word_views(name, request)]
    return [picture_file(picture) for picture in studio.pictures(name, request)]


def build_page(studio: Studio, sources: Mapping[str, str]) -> gr.Blocks:
    """The page of these models, with first pictures drawn.

    Args:
        studio: draws.
        sources: folder or repository of each of its models.
    """
    groups = known_examples(studio)
    sentences = [sentence for several in groups.values() for sentence in several]
    scores = evaluations(sources)
    name, other = studio.names[0], studio.names[-1]
    opening = Request(sentences[0]) if sentences else None  # drawn before anybody comes

    @lru_cache(len(EXAMPLES))
    def drawn_examples(group: str) -> list[Image.Image]:
        return [studio.pictures(name, Request(text, 1))[0] for text in groups.get(group, [])]

    def tiles(group: str) -> list[tuple[str, str]]:
        return [(picture_file(picture), text) for picture, text in zip(drawn_examples(group), groups.get(group, []))]

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        view = gr.State("pictures")
        with gr.Row(elem_id="head"):
            gr.HTML(HEADER, elem_id="header")
            dark = gr.Button("◐", elem_id="dark", size="sm", scale=0, min_width=44)
        with gr.Row(elem_id="bar"):
            prompt = gr.Textbox(
                opening and opening.prompt,
                label="Sentence",
                show_label=False,
                placeholder="a red heart",
                max_lines=1,
                scale=6,
                min_width=260,
                elem_id="prompt",
            )
            go = gr.Button("Draw", variant="primary", scale=1, min_width=90, elem_id="go")
            shuffle = gr.Button("New noise", scale=1, min_width=90, elem_id="shuffle")
        status = gr.HTML(note([], "Type, and watch."), elem_id="status")
        with gr.Tabs(elem_id="views"):
            with gr.Tab("Pictures", id="pictures") as pictures_tab:
                gallery = gr.Gallery(
                    opening and view_value(studio, "pictures", opening, name, other),
                    label="Pictures",
                    columns=4,
                    elem_id="gallery",
                    **SAVED,
                    **GALLERY,
                )
            with gr.Tab("Compare", id="compare") as compare_tab:
                sides = gr.Markdown(COMPARE.format(other, name), elem_id="sides")
                slider = gr.ImageSlider(
                    opening and view_value(studio, "compare", opening, name, other),
                    label="Comparison",
                    format="png",
                    buttons=["fullscreen"],
                    elem_id="slider",
                    **PICTURES,
                )
            with gr.Tab("Words", id="words") as words_tab:
                gr.Markdown(WORDS)
                views = gr.Gallery(
                    opening and view_value(studio, "words", opening, name, other),
                    label="Where words act",
                    columns=5,
                    elem_id="word-views",
                    **SAVED,
                    **GALLERY,
                )
            with gr.Tab("Walk", id="walk"):
                gr.Markdown(WALK)
                with gr.Row(elem_id="walk-bar"):
                    to_prompt = gr.Textbox(
                        groups[next(iter(groups))][-1] if groups else "",
                        label="To this sentence",
                        max_lines=1,
                        scale=4,
                        min_width=240,
                    )
                    to_seed = gr.Number(
                        1, label="To this seed", minimum=0, maximum=MAX_SEED, precision=0, min_width=110
                    )
                    frames = gr.Slider(4, MAX_FRAMES, FRAMES, step=1, label="Pictures", min_width=160)
                    walk = gr.Button("Walk", variant="primary", min_width=90, elem_id="walk-go")
                with gr.Row():
                    moving = gr.Image(
                        label="Walk",
                        format="gif",
                        type="filepath",
                        alt_text="An animation from one picture to the other and back",
                        elem_id="moving",
                        **SAVED,
                        scale=1,
                    )
                    stills = gr.Image(
                        label="Stills",
                        format="png",
                        alt_text="Pictures on the way, side by side",
                        elem_id="stills",
                        **SAVED,
                        scale=2,
                    )
            with gr.Tab("Scores", id="scores"):
                gr.HTML(scores_page(scores), elem_id="scores")
                for model, card in model_cards(sources).items():
                    with gr.Accordion(f"Card of {model}", open=False):
                        gr.Markdown(card)
            with gr.Tab("API", id="api"):
                gr.Markdown((FOLDER / "API.md").read_text(encoding="utf-8"), elem_id="api")
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            with gr.Row():
                model = gr.Dropdown(studio.names, value=name, label="Model", interactive=True, elem_id="model")
                beside = gr.Dropdown(
                    studio.names, value=other, label="Compared with", interactive=True, elem_id="beside"
                )
                count = gr.Slider(1, MAX_PICTURES, 4, step=1, label="Pictures", elem_id="count")
                seed = gr.Number(
                    0,
                    label="Seed",
                    info="Empty: a new one, which is written here.",
                    minimum=0,
                    maximum=MAX_SEED,
                    precision=0,
                    elem_id="seed",
                )
                truncation = gr.Slider(
                    0.1,
                    FREE,
                    FREE,
                    step=0.1,
                    label="Truncation",
                    info=f"Bound of the noise: less is cleaner and more alike; {FREE:g} is without.",
                    elem_id="truncation",
                )
        if groups:
            gr.Markdown("### Examples by label")
            group = gr.Radio(
                list(groups), value=next(iter(groups)), show_label=False, container=False, elem_id="groups"
            )
            examples = gr.Gallery(
                tiles(next(iter(groups))),
                label="Examples",
                show_label=False,
                format="png",
                columns=8,
                height="auto",
                allow_preview=False,
                interactive=False,
                buttons=[],
                elem_id="examples",
                elem_classes="pictures",
            )

        components = {"pictures": gallery, "compare": slider, "words": views}

        def redraw(shown, prompt, name, beside, count, seed_given, truncation) -> dict:
            """Draws the view that is open. What cannot be drawn leaves the pictures that are there
            and says why."""
            outcome, words = {}, []
            try:
                request = Request.checked(prompt, count, seed_given, truncation)
                if request.seed != seed_given:
                    outcome[seed] = request.seed
                words = studio.marked_words(name, request.prompt)
                begun = time.perf_counter()
                outcome[components[shown]] = view_value(studio, shown, request, name, beside)
                took = time.perf_counter() - begun
                if shown == "compare":
                    outcome[sides] = COMPARE.format(beside, name)
                outcome[status] = note(words, f"Drawn by {name} from seed {request.seed} in {took:.2f} s.")
            except Refused as refusal:
                outcome[status] = note(words, str(refusal), trouble=True)
            except Exception:
                logger.exception("a view could not be drawn")
                outcome[status] = note(words, FAILED, trouble=True)
            return outcome

        def walked(prompt, to_prompt, name, seed, to_seed, frames, truncation) -> dict:
            """Animates the way between two requests."""
            try:
                start = Request.checked(prompt, 1, seed, truncation)
                end = Request.checked(to_prompt, 1, to_seed, truncation)
                number = checked_whole("number of pictures", frames, 2, MAX_FRAMES)
                pictures = studio.walk(name, start, end.prompt, end.seed, number)
                way = f"From seed {start.seed} to seed {end.seed} by {name}."
                some = [pictures[round(i * (number - 1) / (STILLS - 1))] for i in range(STILLS)]
                strip = image_strip([enlarged(picture, 128) for picture in some], gap=6, columns=STILLS // 2)
                return {
                    moving: served_file(animation(pictures), "walk.gif"),
                    stills: picture_file(strip),
                    status: note([], way),
                }
            except Refused as refusal:
                return {status: note([], str(refusal), trouble=True)}
            except Exception:
                logger.exception("a walk failed")
                return {status: note([], FAILED, trouble=True)}

        asked = [view, prompt, model, beside, count, seed, truncation]
        shown = [gallery, slider, sides, views, status, seed]
        gr.on(
            [prompt.input, prompt.submit, go.click, count.change, truncation.change, seed.change, model.change]
            + [beside.change],
            redraw,
            asked,
            shown,
            trigger_mode="always_last",
            show_progress="hidden",
            **PRIVATE,
        )
        for tab, chosen in ((pictures_tab, "pictures"), (compare_tab, "compare"), (words_tab, "words")):
            opened = tab.select(partial(str, chosen), None, view, queue=False, api_visibility="private")
            opened.then(redraw, asked, shown, show_progress="hidden", **PRIVATE)
        walking = [prompt, to_prompt, model, seed, to_seed, frames, truncation]
        gr.on(
            [walk.click, to_prompt.submit],
            walked,
            walking,
            [moving, stills, status],
            show_progress_on=moving,
            **PRIVATE,
        )
        shuffle.click(None, None, seed, js=f"() => Math.floor(Math.random() * {MAX_SEED})")
        dark.click(None, None, None, js="() => {document.body.classList.toggle('dark')}")
        if groups:
            group.change(tiles, group, examples, show_progress="hidden", **PRIVATE)

            def choose(chosen: gr.SelectData, group):
                return groups[group][chosen.index]

            examples.select(choose, group, prompt, show_progress="hidden", api_visibility="private").then(
                redraw, asked, shown, show_progress="hidden", **PRIVATE
            )
        add_endpoints(studio, scores, **ONE_BY_ONE)
    page.queue(max_size=QUEUE, api_open=False)
    return page


def main() -> None:
    """Opens the page."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        sources = model_sources(os.environ.get("MODEL_IDS", ""))
        studio = load_studio(sources)
    except (ValueError, OSError) as error:
        sys.exit(f"error: MODEL_IDS: {error}")
    build_page(studio, sources).launch(**LAUNCH)


if __name__ == "__main__":
    main()
