"""The builder of the full emoji set, on a few drawings in the packages' own formats."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from t2i_supcon.data import emoji as module
from t2i_supcon.data import load_rows, prepare, read_emoji
from t2i_supcon.data.emoji import COLOURS, FOLDER

NAMES = {  # code: name, keywords, sub-group
    "1F534": ("red circle", ["round", "geometric"], 0),
    "1F535": ("blue circle", ["round"], 0),
    "1F7E6": ("blue square", ["shape", "box"], 0),
    "2B50-FE0F": ("star", ["night", "shine"], 1),
    "1F468": ("man running", ["sport"], 2),
    "1F469": ("woman running", ["sport"], 2),
}
BODIES = {
    "red-circle": '<circle cx="8" cy="8" r="6" fill="#dd2e44"/>',
    "blue-circle": '<circle cx="8" cy="8" r="6" fill="#326edc"/>',
    "blue-square": '<rect x="1" y="5" width="14" height="6" fill="#326edc"/>',
    "star": '<path d="M8 1 L10 7 L15 8 L8 15 L1 8 Z" fill="#ffcc4d"/>',
    "man-running": '<rect x="6" y="1" width="4" height="14" fill="#141414"/>',
    "woman-running": '<rect x="5" y="1" width="4" height="14" fill="#dd2e44"/>',
    "empty": "",
}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    folder = tmp_path / "node_modules"

    def write(path, content):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content))

    data = [
        {"hexcode": code, "label": name, "tags": tags, "group": 0, "subgroup": sub}
        for code, (name, tags, sub) in NAMES.items()
    ]
    write(
        "emojibase-data/en/data.json",
        [*data, {"hexcode": "1F3FB", "label": "light skin tone", "group": 2}, {"hexcode": "1F1E6", "label": "A"}],
    )
    write(
        "emojibase-data/meta/groups.json",
        {"groups": {"0": "shapes"}, "subgroups": {"0": "geometric", "1": "sky", "2": "person-activity"}},
    )
    write("emojibase-data/meta/unicode-names.json", {"2B50": "WHITE MEDIUM STAR"})
    for kind in ("emojibase", "joypixels", "github", "iamcal"):
        write(
            f"emojibase-data/en/shortcodes/{kind}.json",
            {"1F534": ["red_circle", "dot"]} if kind == "github" else {"2B50": "star"},
        )
    icons = {name: {"body": body} for name, body in BODIES.items()}
    chars = {code.lower().replace("-fe0f", ""): name.replace(" ", "-") for code, (name, _, _) in NAMES.items()}
    write("@iconify-json/noto/icons.json", {"icons": icons, "width": 16, "height": 16})
    write("@iconify-json/noto/chars.json", chars)
    bolder = {
        name: {"body": body.replace('r="6"', 'r="7"').replace("#ffcc4d", "#c89614")}
        for name, body in BODIES.items()
        if "square" not in name
    }
    aliases = {
        "white-medium-star": {"parent": "star"},
        "blue-square": {"parent": "star", "rotate": 1},
        "dot": {"parent": "red-circle"},
    }
    write("@iconify-json/twemoji/icons.json", {"icons": bolder, "aliases": aliases, "width": 16, "height": 16})
    squeezed = {"redcircle": {"body": '<circle cx="8" cy="8" r="6" fill="#8c141e"/>'}, "star": {"body": ""}}
    write("@iconify-json/fxemoji/icons.json", {"icons": squeezed})
    monkeypatch.setattr(
        module, "VENDORS", {vendor: module.VENDORS[vendor] for vendor in ("noto", "twemoji", "fxemoji")}
    )
    return folder


def by_id(rows):
    return {row["image_id"]: row for split in rows for row in rows[split]}


def test_drawings_find_their_emoji_by_code_by_name_and_run_together(packages, tmp_path, caplog):
    source = read_emoji(packages, tmp_path, size=32)
    found = by_id(source.rows)
    expected = {f"noto_{code}" for code in ("1f534", "1f535", "1f7e6", "2b50", "1f468", "1f469")}
    # the turned alias is none; the runners are noto's own drawings again, which count once
    expected |= {"twemoji_1f534", "twemoji_1f535", "twemoji_2b50", "fxemoji_1f534"}
    assert set(found) == expected
    assert "1 of 13 drawings are left out" in caplog.text and "fxemoji_2b50" in caplog.text  # an empty drawing
    assert source.label_names == ["geometric", "sky", "person-activity", "shapes", *COLOURS]
    assert found["fxemoji_1f534"]["source"] == "fxemoji"
    assert "CC-BY-4.0" in source.licence


def test_labels_are_sub_group_group_and_colours(packages, tmp_path):
    source = read_emoji(packages, tmp_path, size=32)
    found = by_id(source.rows)
    named = {what: [source.label_names[i] for i in row["labels"]] for what, row in found.items()}
    assert named["noto_2b50"] == ["sky", "shapes", "yellow"] and named["twemoji_2b50"] == ["sky", "shapes", "gold"]
    assert named["fxemoji_1f534"] == ["geometric", "shapes", "dark red"]
    assert all(row["label"] == row["labels"][0] for row in found.values())


def test_drawings_are_centred_on_white_at_the_asked_size(packages, tmp_path):
    source = read_emoji(packages, tmp_path, size=40)
    pixels = np.asarray(Image.open(io.BytesIO(source.read("noto_1f7e6.png")))).astype(int)
    assert pixels.shape == (40, 40, 3) and (pixels[0] == 255).all()
    filled = np.argwhere((pixels != 255).any(-1))
    (top, left), (bottom, right) = filled.min(0), filled.max(0)
    assert right - left + 1 == round(40 * 0.92) and abs(left - (39 - right)) <= 1 and abs(top - (39 - bottom)) <= 1
    assert np.abs(pixels[20, 20] - [50, 110, 220]).max() <= 1


def test_captions_name_the_thing_its_keywords_vendor_and_colours(packages, tmp_path):
    found = by_id(read_emoji(packages, tmp_path, size=32).rows)
    star = found["noto_2b50"]["captions"]
    assert star[:4] == [
        "star",
        "a google noto style emoji of star",
        "star drawn in soft shaded cartoon style",
        "a yellow star",
    ]
    assert (
        set(star[4].split(", ")) == {"star", "night", "shine"}
        and star[5] == "an icon showing star in yellow"
        and len(star) == 8
    )
    assert found["twemoji_2b50"]["captions"][3] == "a gold star"
    # the name says the colour, the measured one stays away
    assert found["noto_1f7e6"]["captions"][3] == "a wide blue square"
    assert found["noto_1f468"]["captions"][6] == "man running, colored black, google noto style"
    assert found["noto_1f468"]["captions"][3] == "a tall black man running"


def test_the_split_is_by_concept_and_the_same_every_time(packages, tmp_path):
    source = read_emoji(packages, tmp_path, size=32, test_share=0.4)
    assert source.rows == read_emoji(packages, tmp_path / "again", size=32, test_share=0.4).rows
    names = [{row["captions"][0] for row in source.rows[split]} for split in ("train", "test")]
    assert not names[0] & names[1] and len(names[1]) == 1 and names[1] < {"red circle", "blue circle", "blue square"}
    assert {"man running", "woman running"} <= names[0]  # one concept: held out together or not at all
    captions = [{caption for row in source.rows[split] for caption in row["captions"]} for split in ("train", "test")]
    assert not captions[0] & captions[1]


def test_changed_packages_are_drawn_anew(packages, tmp_path):
    before = read_emoji(packages, tmp_path, size=32).read("noto_1f534.png")
    icons = packages / "@iconify-json" / "noto" / "icons.json"
    icons.write_text(icons.read_text().replace("#dd2e44", "#326edc"))
    source = read_emoji(packages, tmp_path, size=32)
    assert (
        source.read("noto_1f534.png") != before
        and by_id(source.rows)["noto_1f534"]["captions"][5] == "an icon showing red circle in soft shaded cartoon style"
    )
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.glob("emoji-*/*.png")}
    read_emoji(packages, tmp_path, size=32)
    assert drawn == {path: path.stat().st_mtime_ns for path in tmp_path.glob("emoji-*/*.png")}


def test_shards_load_and_a_second_run_does_nothing(packages, tmp_path):
    out = tmp_path / "out"
    prepare(lambda work: read_emoji(packages, work, 24, 0.4), out, {"size": 24})
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    rows = load_rows(str(out), "train")
    assert len(rows) + len(load_rows(str(out), "test")) == 10 and rows.features["label"].num_classes == 4 + len(COLOURS)
    assert "openmoji" not in (out / "README.md").read_text() and "noto Apache-2.0" in (out / "README.md").read_text()
    prepare(lambda work: pytest.fail("there is nothing left to do"), out, {"size": 24})
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}


def test_what_is_missing_is_named(packages, tmp_path):
    (packages / "@iconify-json" / "twemoji" / "icons.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"twemoji/icons.json is missing: npm install .* @iconify-json/twemoji"):
        read_emoji(packages, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"npm install .* emojibase-data@17.0.0"):
        read_emoji(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="8 px is too small"):
        read_emoji(packages, tmp_path, size=8)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_embedded_rows_have_all_their_labels(split):
    """Of each row its sub-group, the group that this belongs to, and its colours, which are those
    that its captions name."""
    rows = load_rows("emoji", split).select_columns(["captions", "label", "labels"])
    names, groups = rows.features["label"].names, json.loads((FOLDER / "groups.json").read_text())
    assert names == [*groups, *dict.fromkeys(groups.values()), *COLOURS]
    for row in rows:
        subgroup, group, *colours = (names[i] for i in row["labels"])
        assert names[row["label"]] == subgroup and groups[subgroup] == group and set(colours) <= set(COLOURS)
        if ", colored " in row["captions"][6]:
            listed = row["captions"][6].split(", colored ")[1]
            assert listed.startswith(" and ".join(filter(None, [", ".join(colours[:-1]), *colours[-1:]])))
