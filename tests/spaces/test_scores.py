"""Evaluations side by side, and cards."""

import json
import re
from html.parser import HTMLParser

import pytest
from scores import evaluations, model_cards, scores_page

PROTOCOL = {
    "features": {"network": "imagenet-lite0"},
    "data": "emoji",
    "data_hash": "1",
    "split": "test",
    "real": 1021,
    "generated": 1021,
    "image_size": 32,
    "captions": "first",
    "seed": 0,
    "truncation": None,
}
CARD = """---
license: apache-2.0
---
# A model

![its pictures](samples/1.png) and ![elsewhere](https://example.com/spy.png)
<img src="https://example.com/spy.png"> <Gallery /> <script>alert(1)</script>
It draws [well](https://example.com).
"""


@pytest.fixture
def sources(tmp_path):
    for name, frechet, accuracy in (("mine", 400.0, 0.25), ("base<i>line", 500.0, None)):
        (tmp_path / name).mkdir()
        values = {"frechet": frechet, "frechet.bias": 1.5} | ({"label_accuracy": accuracy} if accuracy else {})
        found = {"values": values, "yardstick": {"frechet": 100.0, "label_accuracy": 0.5}, "subject": {}}
        (tmp_path / name / "evaluation.json").write_text(json.dumps(found | {"protocol": PROTOCOL}))
    (tmp_path / "mine" / "README.md").write_text(CARD)
    (tmp_path / "bare").mkdir()
    return {name: str(tmp_path / name) for name in ("mine", "base<i>line", "bare")}


class Cells(HTMLParser):
    """Texts of table rows and the widths of bars."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.widths, self.tags, self.inside = [], [], set(), False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if tag == "i":
            self.widths.append(float(re.search(r"--share: ([\d.]+)", dict(attributes)["style"])[1]))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, text):
        if self.inside:
            self.rows[-1].append(text)


def test_numbers_stand_side_by_side_as_table_and_bars(sources):
    page = Cells(scores_page(evaluations(sources)))
    assert page.rows == [
        ["measure", "mine", "base<i>line", "real pictures"],
        ["frechet ↓", "400", "500", "100"],
        ["frechet.bias", "1.5", "1.5", "–"],
        ["label_accuracy ↑", "0.25", "–", "0.5"],
    ]
    # Fréchet of both and of real pictures, then accuracy of those known
    assert page.widths == [0.8, 1.0, 0.2, 0.5, 1.0]


def test_numbers_of_other_protocols_are_not_compared(sources):
    found = evaluations(sources)
    found["mine"].protocol.features["network"] = "inception"
    page = scores_page(found)
    assert "cannot be compared: features is" in page and page.count("<table>") == 2
    assert not Cells(page).widths


def test_models_without_evaluations_say_so(sources):
    assert "without an <code>evaluation.json" in scores_page(evaluations({"bare": sources["bare"]}))


def test_cards_show_nothing_from_elsewhere(sources):
    assert list(cards := model_cards(sources)) == ["mine"]
    assert cards["mine"].startswith("# A model") and "license" not in cards["mine"]
    assert not re.search(r"!\[|<|spy|samples/1.png", cards["mine"])
    assert "its pictures" in cards["mine"] and "[well](https://example.com)" in cards["mine"]
