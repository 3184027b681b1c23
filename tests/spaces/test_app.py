"""The page in a real browser, on a desktop and on a phone, light and dark, as visitors use it."""

import io
import os
import re
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from app import model_sources, note
from conftest import tiny_config
from drawing import Request, load_studio
from huggingface_hub import snapshot_download
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from scores import evaluations, model_cards
from spaces.conftest import FOLDER

from t2i_supcon import EMBEDDED_MODELS, embedded_model
from t2i_supcon.figures import enlarged
from t2i_supcon.models import GANS
from t2i_supcon.pipeline import TextToImagePipeline, load_pipeline
from t2i_supcon.publishing import publish, publish_space

DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
LOOKS = {
    "desktop, light": {**DESKTOP, "color_scheme": "light"},
    "desktop, dark": {**DESKTOP, "color_scheme": "dark"},
    "phone, light": {**PHONE, "color_scheme": "light"},
    "phone, dark": {**PHONE, "color_scheme": "dark"},
}
TABS = ("Pictures", "Compare", "Words", "Walk", "Scores", "API")
SECONDS = 1000  # milliseconds
PATIENCE = 60 * SECONDS  # for a machine with much else to do


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: install it, such as by `apt-get install chromium`")
        pytest.skip("these tests need Chromium, such as by `apt-get install chromium`")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


def opened(browser, server, look):
    """The page in a window of its own, and what went wrong in it."""
    page = browser.new_context(**LOOKS[look]).new_page()
    page.set_default_timeout(PATIENCE)
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    local = (server.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    page.goto(server.url)
    expect(page.locator("#gallery img")).to_have_count(4, timeout=PATIENCE)
    return page, wrong


@pytest.fixture(scope="module", params=["desktop, light", "phone, dark"])
def visit(browser, server, request):
    """One visit, during which nothing goes wrong and nothing is fetched from elsewhere."""
    page, wrong = opened(browser, server, request.param)
    yield page
    assert not wrong, wrong
    page.context.close()


@pytest.fixture
def page(visit):
    visit.get_by_role("tab", name="Pictures", exact=True).click()
    return visit


def write(page, sentence):
    page.locator("#prompt input").fill(sentence)
    page.locator("#prompt input").press("Enter")


def files(page, where="#gallery"):
    sources = page.locator(f"{where} img").evaluate_all("images => images.map(image => image.src)")
    return [urllib.request.urlopen(source, timeout=60).read() for source in sources]


def pictures(page, where="#gallery"):
    return [Image.open(io.BytesIO(content)) for content in files(page, where)]


def wait_for(page, met, seconds=60):
    """Asks again until what is to come is there."""
    for _ in range(seconds * 10):
        if met():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"it did not come; the page says: {page.locator('#status').inner_text()}")


def wait_for_pictures(page, **texts):
    wait_for(page, lambda: (drawn := pictures(page)) and texts.items() <= drawn[0].text.items())


def open_settings(page):
    if not page.locator("#seed input").is_visible():
        page.locator("#settings > button").click()


def seed_shown(page):
    open_settings(page)
    return page.locator("#seed input").input_value()


def test_pictures_appear_while_a_sentence_is_typed(page):
    page.locator("#prompt input").fill("")
    page.locator("#prompt input").press_sequentially("a red circle", delay=30)  # and Enter is not pressed
    wait_for_pictures(page, prompt="a red circle")
    drawn, seed = pictures(page), int(seed_shown(page))
    native = load_pipeline(str(embedded_model()))("a red circle", num_images_per_prompt=4, seed=seed)
    for one, expected in zip(drawn, native, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(enlarged(expected, 256)))
        assert one.text["seed"] == str(seed) and one.text["model"] == "emoji-scl"


def test_new_noise_gives_other_pictures_and_writes_its_seed(page):
    write(page, "a blue star")
    wait_for_pictures(page, prompt="a blue star")
    before, old = pictures(page)[0], seed_shown(page)
    page.click("#shuffle")
    wait_for(page, lambda: seed_shown(page) != old and pictures(page)[0].text["seed"] == seed_shown(page))
    assert not np.array_equal(np.asarray(pictures(page)[0]), np.asarray(before))
    page.locator("#seed input").fill("")
    page.locator("#seed input").press("Enter")
    write(page, "a blue star")
    wait_for(page, lambda: re.fullmatch(r"\d+", seed_shown(page)))
    wait_for_pictures(page, seed=seed_shown(page))


def test_settings_are_obeyed(page):
    write(page, "a green tree")
    open_settings(page)
    for name, value, text in (("count", "9", {"image": "1"}), ("truncation", "0.5", {"truncation": "0.5"})):
        page.locator(f"#{name} input[type=number]").fill(value)
        page.locator(f"#{name} input[type=number]").press("Enter")
        wait_for_pictures(page, prompt="a green tree", **text)
    wait_for(page, lambda: len(files(page)) == 9)
    page.locator("#model input").click()
    page.get_by_role("option", name="emoji-baseline").click()
    wait_for_pictures(page, model="emoji-baseline", truncation="0.5", prompt="a green tree")
    page.locator("#model input").click()
    page.get_by_role("option", name="emoji-scl").click()
    for name, value in (("count", "4"), ("truncation", "3")):
        page.locator(f"#{name} input[type=number]").fill(value)
        page.locator(f"#{name} input[type=number]").press("Enter")
    wait_for(page, lambda: len(files(page)) == 4 and "truncation" not in pictures(page)[0].text)


def test_unknown_words_are_marked_and_nothing_is_rendered(page):
    sentence = 'a red <img src=q onerror="window.hacked=1"> zorp <b>circle</b>'
    write(page, sentence)
    wait_for_pictures(page, prompt=sentence)
    expect(page.locator("#status .words")).to_have_text(sentence)
    marked = page.locator("#status .left-out").all_inner_texts()
    assert "zorp" in marked and "red" not in marked and "circle" not in marked
    for tab in ("Words", "Compare"):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(500)
        assert page.evaluate("window.hacked") is None and page.locator("img[src=q], #status b").count() == 0


@pytest.mark.parametrize(
    "sentence, said",
    [("", "Type a few words"), ("zorp blorb", "knows none of these words"), ("red " * 100, "400 characters long")],
)
def test_errors_are_friendly_and_keep_the_pictures(page, sentence, said):
    write(page, "a red circle")
    wait_for_pictures(page, prompt="a red circle")
    write(page, sentence)
    expect(page.locator("#status .trouble")).to_contain_text(said, timeout=PATIENCE)
    assert len(files(page)) == 4
    write(page, "a blue circle")
    wait_for_pictures(page, prompt="a blue circle")
    expect(page.locator("#status .trouble")).to_have_count(0, timeout=PATIENCE)


def test_an_example_is_chosen_by_its_label(page):
    page.locator("#groups label", has_text="Food").click()
    tile = page.locator("#examples button", has_text="a red apple")
    tile.click(timeout=PATIENCE)
    expect(page.locator("#prompt input")).to_have_value("a red apple", timeout=PATIENCE)
    wait_for_pictures(page, prompt="a red apple")


def test_models_are_compared_by_a_slider(page):
    write(page, "a red circle")
    page.get_by_role("tab", name="Compare", exact=True).click()
    wait_for(page, lambda: {p.text["prompt"] for p in pictures(page, "#slider")} == {"a red circle"})
    left, right = pictures(page, "#slider")
    assert left.size == right.size and (left.text["model"], right.text["model"]) == ("emoji-baseline", "emoji-scl")
    handle = page.get_by_role("slider", name="Where the left picture ends")
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#slider img").nth(1)).to_have_css(
        "clip-path", re.compile(r"inset\(0px 0px 0px 5[45](\.\d+)?%\)"), timeout=PATIENCE
    )
    expect(handle).to_have_attribute("aria-valuenow", "55")
    write(page, "a yellow circle")  # the view that is open follows the sentence
    wait_for(page, lambda: {p.text["prompt"] for p in pictures(page, "#slider")} == {"a yellow circle"})


def test_words_are_shown_where_they_act_and_enlarged_by_a_tap(page):
    page.get_by_role("tab", name="Words", exact=True).click()
    write(page, "a red circle")
    wait_for(page, lambda: {p.text["prompt"] for p in pictures(page, "#word-views")} == {"a red circle"})
    labels = page.locator("#word-views .caption-label").all_inner_texts()
    assert labels[0] == "the picture" and len(labels) > 1
    page.locator("#word-views .thumbnail-item").nth(1).click()
    expect(page.locator("#word-views .preview")).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("Escape")


def test_a_walk_is_an_animation(page):
    write(page, "a red circle")
    wait_for_pictures(page, prompt="a red circle")
    page.get_by_role("tab", name="Walk", exact=True).click()
    page.get_by_label("To this sentence").fill("a blue circle")
    page.click("#walk-go")
    expect(page.locator("#moving img")).to_be_visible(timeout=PATIENCE)
    [film] = pictures(page, "#moving")
    assert film.format == "GIF" and film.n_frames == 30
    expect(page.locator("#stills img")).to_be_visible(timeout=PATIENCE)


def test_the_download_holds_what_was_drawn(page):
    write(page, "a red circle")
    wait_for_pictures(page, prompt="a red circle")
    page.locator("#gallery .thumbnail-item").first.click()
    with page.expect_download(timeout=PATIENCE) as download:
        page.locator(
            "#gallery a[download], #gallery button[title*=ownload], #gallery button[aria-label*=ownload]"
        ).first.click()
    assert Image.open(download.value.path()).text["prompt"] == "a red circle"
    page.keyboard.press("Escape")


def test_every_tab_is_in_sight_and_fits_the_window(page):
    for name in TABS:
        tab = page.get_by_role("tab", name=name, exact=True)
        expect(tab).to_be_visible()
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        page.wait_for_timeout(150)
        wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window
    expect(page.locator("#api")).to_contain_text("gradio_client")


def test_keyboard_and_screen_reader_reach_everything(page):
    open_settings(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, select, a[href], [role=tab]')]
        .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
        .filter(e => !(e.innerText || e.ariaLabel || e.title || e.placeholder || e.closest('label')?.innerText
            || e.querySelector('img')?.alt)?.trim())
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert not nameless, nameless
    assert page.locator("img:visible:not([alt])").count() == 0
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    page.locator("#prompt input").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id]:not([id^=component])')?.id || ''"))
    assert {"go", "shuffle", "gallery", "count", "seed", "truncation", "groups", "examples"} <= reached, reached


def check_shades(page):
    """Light or dark as the visitor prefers, the other one at a click, and back at the next."""

    def shades():
        return page.evaluate(
            """() => [[document.body, 'backgroundColor'], [document.querySelector('#header h1'), 'color']].map(
            ([e, what]) => getComputedStyle(e)[what].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3)"""
        )

    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    for now_dark in (dark, not dark, dark):
        paper, ink = shades()
        assert (paper < 60 and ink > 200) if now_dark else (paper > 220 and ink < 60)
        page.click("#dark")
    page.click("#dark")


def test_light_and_dark_are_what_the_visitor_prefers(page):
    check_shades(page)


@pytest.mark.parametrize("look", ["desktop, dark", "phone, light"])
def test_the_other_looks(browser, server, look):
    page, wrong = opened(browser, server, look)
    check_shades(page)
    page.context.close()
    assert not wrong, wrong


def test_models_are_named_by_ids_or_are_the_embedded_ones(tmp_path, monkeypatch):
    embedded = {name: str(folder) for name, folder in EMBEDDED_MODELS.items()}
    assert model_sources("") == model_sources(" , ") == embedded
    (tmp_path / "mine").mkdir()
    assert model_sources(f"me/a, {tmp_path / 'mine'} ,emoji-scl") == {
        "me/a": "me/a",
        "mine": str(tmp_path / "mine"),
        "emoji-scl": embedded["emoji-scl"],
    }
    runs = [str(tmp_path / path) for path in ("a/model", "b/model", "b/best", "c/mine")]
    for run in runs:
        Path(run).mkdir(parents=True)
    assert model_sources(",".join(runs)) == dict(zip(("a", "b", "b/best", "mine"), runs))
    monkeypatch.chdir(tmp_path / "a")
    assert model_sources("model") == {"a": "model"}
    both = [runs[3], str(tmp_path / "mine")]  # of one name
    assert model_sources(",".join(both)) == dict(zip(both, both))


def test_a_published_page_draws_with_the_models_that_its_card_names(hub, tokenizer, tmp_path):
    for seed, name in enumerate(("me/first", "me/second")):
        torch.manual_seed(seed)
        model = GANS["ssagan"].composite(tiny_config("ssagan", len(tokenizer)))
        TextToImagePipeline(model, tokenizer).save_pretrained(tmp_path / name)
        publish(tmp_path / name, name)
    publish_space(FOLDER, "me/demo", ["me/first", "me/second"])
    there = Path(snapshot_download("me/demo", repo_type="space"))
    sources = model_sources("", there / "README.md")
    studio = load_studio(sources)
    assert studio.names == ["me/first", "me/second"]
    [drawn] = studio.pictures("me/second", Request("a red circle", 1, 3))
    [expected] = load_pipeline(tmp_path / "me/second")("a red circle", seed=3)
    assert np.array_equal(np.asarray(drawn), np.asarray(enlarged(expected, 256)))
    assert model_cards(sources).keys() == {"me/first", "me/second"} and not evaluations(sources)


def test_the_line_below_the_sentence_escapes_what_visitors_write():
    line = note([("a <b>", None), ("<i>", "unknown"), ("&", "no room")], "<u>", trouble=True)
    assert "<b>" not in line and "<i>" not in line and "&lt;i&gt;" in line and "&lt;u&gt;" in line
    assert "unknown to the model or more than it reads" in line
