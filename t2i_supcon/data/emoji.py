"""The emoji data: the embedded part, and the builder of the full set at any size.

Embedded (`FOLDER`): 6,628 drawings of 64 px by five design teams, with captions, in 98 Unicode
sub-groups; 5,607 training and 1,021 test rows. No test concept and no test caption stands in the
training split. Licences: see `emoji64/NOTICE.md`.

A row's label is its sub-group; all its labels are sub-group, group and main colours. The names of
labels are those of the sub-groups first, then of the groups, then of the colours.

The full set has nine vendors' drawings, from the icon sets of iconify and the names, keywords and
sub-groups of emojibase, all npm packages:

    npm install --ignore-scripts --prefix DIR emojibase-data@17.0.0

    npm install --ignore-scripts --prefix DIR @iconify-json/{noto,noto-v1,twemoji,openmoji}

    npm install --ignore-scripts --prefix DIR @iconify-json/{fluent-emoji,fluent-emoji-flat}

    npm install --ignore-scripts --prefix DIR @iconify-json/{emojione,emojione-v1,fxemoji}

Captions are templates filled with CLDR names and keywords, the style of the vendor and colours
measured in the pixels.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import unicodedata
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from .shards import Source, check_label_names, make_row

HELP = "drawings of emoji by nine vendors; the head of t2i_supcon/data/emoji.py says how to get them"
logger = logging.getLogger(__name__)
FOLDER = Path(__file__).parent / "emoji64"


class Vendor(NamedTuple):
    licence: str
    style: str
    other_style: str


VENDORS = {
    "noto": Vendor("Apache-2.0", "google noto style", "soft shaded cartoon style"),
    "noto-v1": Vendor("Apache-2.0", "google blob style", "old android blob style"),
    "twemoji": Vendor("CC-BY-4.0", "twitter style", "flat vector style"),
    "openmoji": Vendor("CC-BY-SA-4.0", "openmoji style", "line art style with black outlines"),
    "fluent-emoji": Vendor("MIT", "fluent 3d style", "glossy gradient style"),
    "fluent-emoji-flat": Vendor("MIT", "fluent flat style", "flat microsoft style"),
    "emojione": Vendor("CC-BY-4.0", "emojione style", "flat pastel style"),
    "emojione-v1": Vendor("CC-BY-SA-4.0", "old emojione style", "shaded gradient icon style"),
    "fxemoji": Vendor("Apache-2.0", "firefox os style", "flat mozilla style"),
}
COLOURS = {
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "silver": (200, 200, 205),
    "white": (250, 250, 250),
    "red": (221, 46, 68),
    "dark red": (140, 20, 30),
    "orange": (244, 144, 12),
    "yellow": (255, 204, 77),
    "gold": (200, 150, 20),
    "green": (90, 160, 60),
    "dark green": (30, 90, 50),
    "teal": (30, 150, 150),
    "light blue": (120, 190, 240),
    "blue": (50, 110, 220),
    "navy": (30, 45, 100),
    "purple": (145, 80, 190),
    "pink": (245, 140, 170),
    "magenta": (210, 50, 140),
    "brown": (130, 80, 50),
    "tan": (210, 170, 120),
    "beige": (240, 220, 190),
}
COMPONENTS = 2  # emojibase's group of skin tones and hair, which are no emoji of their own
FILLED = 0.92  # share of the picture's side that a drawing takes, the same for every vendor
SAME_CONCEPT = {  # words that tell apart emoji of one concept
    *("man", "woman", "men", "women", "person", "people", "boy", "girl", "with", "of"),
    *("facing", "right", "left", "up", "down"),
}
HOURS = re.compile(r"\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|oclock|thirty)\b")


class Emoji(NamedTuple):
    """One emoji: code points in hex, CLDR name and keywords, sub-group and group, and other names
    that vendors' icons go by."""

    code: str
    name: str
    keywords: list[str]
    subgroup: str
    group: str
    unicode_name: str
    shortcodes: list[str]


class Looks(NamedTuple):
    """What is seen in a drawing: its up to three main colours, and "wide", "tall" or ""."""

    colours: list[str]
    shape: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the emoji."""
    parser.add_argument(
        "--packages", type=Path, required=True, help="node_modules with emojibase-data and @iconify-json/*"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels (default: 128)")


def read(options: argparse.Namespace, work: Path) -> Source:
    """Renders the emoji as the options say."""
    return read_emoji(options.packages, work, options.size)


def read_emoji(packages: Path, work: Path, size: int = 128, test_share: float = 0.15) -> Source:
    """Renders the drawings and makes their captions, labels (Unicode sub-groups) and a split by
    concept.

    Of each sub-group with several concepts, `test_share` of them are held out with all their
    drawings. Identical drawings are kept once; drawings that cannot be rendered are logged and left
    out.

    Args:
        packages: the `node_modules` folder of the npm packages above.
        work: folder for the rendered drawings; a stopped run goes on with those it has of the same
            packages.
        size: side of the pictures in pixels.

    Raises:
        FileNotFoundError: a package that is not there, named with the command that installs it.
        ValueError: resvg-py is not installed, or a size too small to see anything.
    """
    if size < 16:
        raise ValueError(f"a size of {size} px is too small for an emoji; give at least 16")
    if importlib.util.find_spec("resvg_py") is None:
        raise ValueError("emoji are rendered with resvg: pip install 't2i_supcon[emoji]'")
    emoji = {one.code: one for one in _read_names(packages)}
    icons, names = _find_icons(packages, list(emoji.values()))
    svgs = {
        f"{vendor}_{code}": svg for (vendor, code), name in sorted(names.items()) if (svg := _svg(icons[vendor], name))
    }
    folder = work / f"emoji-{size}-{hashlib.sha1(json.dumps(svgs).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder / f"{name}.png", svg, size) for name, svg in svgs.items()]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        looks = list(tqdm(pool.map(_render, jobs, chunksize=16), total=len(jobs), desc="drawing", unit="emoji"))
    drawings, digests, broken = [], set(), []
    for (path, _, _), look in zip(jobs, looks):
        if look is None:
            broken.append(path.stem)
        elif (digest := hashlib.sha1(path.read_bytes()).hexdigest()) not in digests:
            digests.add(digest)
            drawings.append((path, emoji[path.stem.split("_")[1]], look))
    if broken:
        logger.warning(
            "%d of %d drawings are left out, since they are empty or cannot be rendered: %s",
            len(broken),
            len(jobs),
            ", ".join(broken),
        )

    drawn = {one.code for _, one, _ in drawings}
    known = [one for one in emoji.values() if one.code in drawn]
    names = [*dict.fromkeys(one.subgroup for one in known), *dict.fromkeys(one.group for one in known), *COLOURS]
    ids = {name: number for number, name in enumerate(check_label_names(names, "emoji"))}
    held_out = _held_out_concepts([one for _, one, _ in drawings], test_share)
    rows = {"train": [], "test": []}
    for path, one, look in drawings:
        vendor, labels = path.stem.split("_")[0], [ids[name] for name in (one.subgroup, one.group, *look.colours)]
        split = "test" if (one.subgroup, _concept(one)) in held_out else "train"
        rows[split].append(make_row(path.name, _captions(one, vendor, look), labels, labels[0], path.stem, vendor))
    licences = ", ".join(f"{vendor} {VENDORS[vendor].licence}" for vendor in VENDORS)
    return Source(
        title=f"Emoji of nine vendors, {size} px on white",
        licence=f"drawings, by their `source`: {licences}; names, keywords and sub-groups: Unicode CLDR "
        "through emojibase-data, MIT",
        split=f"by concept, {test_share:g} of each sub-group's held out, so that no test concept is drawn in training",
        label_names=names,
        rows=rows,
        read=lambda name: _on_white(folder / name),
    )


def _load(packages: Path, package: str, file: str):
    path = packages / package / file
    if not path.is_file():
        version = "@17.0.0" if package == "emojibase-data" else ""
        raise FileNotFoundError(
            f"{path} is missing: npm install --ignore-scripts --prefix {packages.parent} {package}{version}"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _code(hexcode: str) -> str:
    return hexcode.lower().replace("-fe0f", "")  # the mark "as a picture", which vendors write or leave out


def _read_names(packages: Path) -> list[Emoji]:
    groups = _load(packages, "emojibase-data", "meta/groups.json")
    unicode_names = {
        _code(code): name for code, name in _load(packages, "emojibase-data", "meta/unicode-names.json").items()
    }
    shortcodes = defaultdict(list)
    for kind in ("emojibase", "joypixels", "github", "iamcal"):
        for code, names in _load(packages, "emojibase-data", f"en/shortcodes/{kind}.json").items():
            shortcodes[_code(code)] += [names] if isinstance(names, str) else names
    found = []
    for entry in _load(packages, "emojibase-data", "en/data.json"):
        if entry.get("group") in (None, COMPONENTS):
            continue
        code, name = _code(entry["hexcode"]), re.sub("[“”]", "", entry["label"])
        subgroup, group = groups["subgroups"][str(entry["subgroup"])], groups["groups"][str(entry["group"])]
        tags, unicode_name = entry.get("tags", []), unicode_names.get(code, "").lower()
        found.append(Emoji(code, name, tags, subgroup, group, unicode_name, shortcodes[code]))
    return found


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.lower().replace("&", "and")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"['\"!.]", "", plain)).strip("-")


def _find_icons(packages: Path, emoji: list[Emoji]) -> tuple[dict[str, dict], dict[tuple[str, str], str]]:
    """The icon sets, and (vendor, code) -> icon name: by code point where a set says it, else by a
    name that means one emoji only."""
    icons = {vendor: _load(packages, f"@iconify-json/{vendor}", "icons.json") for vendor in VENDORS}
    by_code = {}
    for vendor in VENDORS:
        if (packages / "@iconify-json" / vendor / "chars.json").is_file():
            by_code[vendor] = {
                _code(code): name for code, name in _load(packages, f"@iconify-json/{vendor}", "chars.json").items()
            }
    by_code = {vendor: codes for vendor, codes in by_code.items() if codes}  # some sets have an empty table
    if "fluent-emoji-flat" in by_code:
        by_code.setdefault("fluent-emoji", by_code["fluent-emoji-flat"])  # the same drawings' names

    # best first: CLDR names, other sets', Unicode's, short names
    trusted: list[dict[str, set[str]]] = [defaultdict(set) for _ in range(4)]
    for one in emoji:
        names = [
            [_slug(one.name), _slug(one.name.replace("flag: ", "flag for "))],
            [codes[one.code] for codes in by_code.values() if one.code in codes],
            [_slug(one.unicode_name)],
            [_slug(code) for code in one.shortcodes],
        ]
        for table, icon_names in zip(trusted, names):
            for name in filter(None, icon_names):
                table[name].add(one.code)
    # as fxemoji writes them; its short names mislead
    run_together: list[dict[str, set[str]]] = [defaultdict(set) for _ in range(3)]
    for table, plain in zip(run_together, trusted):
        for name, codes in plain.items():
            table[name.replace("-", "")] |= codes

    found = {}
    for vendor, drawings in icons.items():
        known = drawings["icons"].keys() | drawings.get("aliases", {}).keys()
        if vendor in by_code:
            found |= {(vendor, one.code): name for one in emoji if (name := by_code[vendor].get(one.code)) in known}
            continue
        for name in sorted(known):
            tables = (
                [table.get(name.replace("-", "")) for table in run_together]
                if vendor == "fxemoji"
                else [table.get(name) for table in trusted]
            )
            codes = next(filter(None, tables), ())
            if len(codes) == 1:
                found.setdefault((vendor, *codes), name)
    return icons, found


def _svg(drawings: dict, name: str) -> str | None:
    """The SVG of an icon; None for an alias that turns or mirrors another one."""
    changes = {}
    while name not in drawings["icons"]:
        alias = drawings["aliases"][name]
        changes = alias | changes
        name = alias["parent"]
    icon = (
        {"left": 0, "top": 0, "width": drawings.get("width", 16), "height": drawings.get("height", 16)}
        | drawings["icons"][name]
        | changes
    )
    if icon.keys() & {"rotate", "hFlip", "vFlip"}:
        return None
    box = f"{icon['left']} {icon['top']} {icon['width']} {icon['height']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" '
        f'width="{icon["width"]}" height="{icon["height"]}">{icon["body"]}</svg>'
    )


def _render(job: tuple[Path, str, int]) -> Looks | None:
    """Draws one emoji, cropped and centred on a transparent square, into its file, unless it is
    there; says what it looks like."""
    import resvg_py

    path, svg, size = job
    if not path.exists():
        try:
            data = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
        except ValueError:  # what resvg raises for a drawing it does not understand
            return None
        drawing = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
        box = drawing.getchannel("A").getbbox()
        if box is None:
            return None
        drawing = drawing.crop(box)
        scale = size * FILLED / max(drawing.size)
        drawing = drawing.resize([max(1, round(side * scale)) for side in drawing.size], Image.Resampling.LANCZOS)
        square = Image.new("RGBA", (size, size))
        square.paste(drawing, ((size - drawing.width) // 2, (size - drawing.height) // 2))
        square.save(path.with_suffix(".partial"), "PNG")
        path.with_suffix(".partial").replace(path)
    return _look(Image.open(path))


def _look(drawing: Image.Image) -> Looks | None:
    pixels = np.asarray(drawing)
    opaque = pixels[pixels[..., 3] > 127][:, :3]
    if len(opaque) < 20:
        return None
    opaque = opaque[:: max(1, len(opaque) // 3000)]
    nearest = ((_lab(opaque)[:, None] - _lab(np.array(list(COLOURS.values())))) ** 2).sum(-1).argmin(1)
    shares = np.bincount(nearest, minlength=len(COLOURS)) / len(nearest)
    colours = [list(COLOURS)[i] for i in np.argsort(-shares, kind="stable") if shares[i] >= 0.08][:3]
    left, top, right, bottom = drawing.getchannel("A").getbbox()
    ratio = (right - left) / (bottom - top)
    return Looks(colours, "wide" if ratio > 1.35 else "tall" if ratio < 0.74 else "")


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 255] to CIE L*a*b* (white point D65), where distances follow the eye."""
    linear = rgb / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / [0.95047, 1, 1.08883]
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _on_white(path: Path) -> bytes:
    drawing = Image.open(path)
    file = io.BytesIO()
    Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB").save(
        file, "PNG", optimize=True
    )
    return file.getvalue()


def _captions(emoji: Emoji, vendor: str, looks: Looks) -> list[str]:
    """Eight captions; a name that says a colour itself keeps the measured ones out."""
    name = re.sub("^flag: ", "flag of ", emoji.name.lower()).replace(":", "")
    colour_words = {word for colour in COLOURS for word in colour.split()} - {"light", "dark"}
    colours = [] if colour_words & set(re.findall("[a-z]+", name)) else looks.colours
    _, style, other_style = VENDORS[vendor]
    colour_list = " and ".join(filter(None, [", ".join(colours[:-1]), *colours[-1:]])) or other_style
    keywords = [word for word in map(str.lower, emoji.keywords) if word not in name.split() and word.isascii()]
    rng = np.random.default_rng(int(hashlib.sha1((emoji.code + vendor).encode()).hexdigest()[:12], 16))

    def some(count: int) -> str:
        return ", ".join(rng.permutation(keywords)[:count]) if keywords else emoji.subgroup.replace("-", " ")

    captions = [
        name,
        f"{_with_article(style)} emoji of {name}",
        f"{name} drawn in {other_style}",
        _with_article(" ".join(filter(None, [looks.shape, colour_list if colours else "", name]))),
        f"{name}, {some(3)}",
        f"an icon showing {name} in {colour_list}",
        f"{name}, colored {colour_list}, {style}" if colours else f"{name}, {style}",
        f"{some(2)}: {_with_article(f'{looks.shape} picture'.strip())} of {name}",
    ]
    return [" ".join(caption.split()) for caption in captions]


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _concept(emoji: Emoji) -> str:
    """Emoji that differ by gender, direction, family members or the hour share a concept, and so a
    side of the split."""
    name = _slug(emoji.name if emoji.name.startswith("flag: ") else emoji.name.split(":")[0])
    concept = "-".join(word for word in name.split("-") if word not in SAME_CONCEPT) or name
    return f"{emoji.subgroup}-{HOURS.sub('', concept).strip('-')}" if emoji.subgroup in ("family", "time") else concept


def _held_out_concepts(emoji: list[Emoji], share: float) -> set[tuple[str, str]]:
    """(sub-group, concept) of the test split: of each sub-group's concepts the stated share, at
    least one of three, never all."""
    concepts = defaultdict(set)
    for one in emoji:
        concepts[one.subgroup].add(_concept(one))
    held_out = set()
    for subgroup, names in concepts.items():
        ordered = sorted(names, key=lambda name: hashlib.sha1(name.encode()).hexdigest())
        count = round(share * len(ordered))
        held_out |= {(subgroup, name) for name in ordered[: min(max(count, len(ordered) > 2), len(ordered) - 1)]}
    return held_out
