"""What is known of the models: their evaluations side by side, and their cards."""

import logging
import math
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from t2i_supcon.evaluation.protocol import FILE, Evaluation, check_comparable
from t2i_supcon.evaluation.tables import higher_is_better
from t2i_supcon.hub import split_revision

logger = logging.getLogger(__name__)
REAL = "real pictures"
NONE_YET = "<p>These models come without an <code>evaluation.json</code>.</p>"


def model_file(source: str, file: str) -> Path | None:
    """A file beside a model's weights, in its folder or on the Hub; None where there is none."""
    repository, revision = split_revision(source)
    if Path(repository).is_dir():
        path = Path(repository) / file
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except (HfHubHTTPError, OSError) as error:
        logger.info("%s has no %s: %s", source, file, error)
        return None


def model_cards(sources: Mapping[str, str]) -> dict[str, str]:
    """The cards of models as Markdown without front matter, pictures and outside frames: the page
    shows nothing from elsewhere."""
    cards = {}
    for name, source in sources.items():
        if path := model_file(source, "README.md"):
            text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            cards[name] = re.sub(r"!\[([^\]]*)\]\([^)]*\)|</?[a-zA-Z][^>]*>", r"\1", text).strip()
    return cards


def evaluations(sources: Mapping[str, str]) -> dict[str, Evaluation]:
    """Those evaluations that come with the models."""
    files = {name: model_file(source, FILE) for name, source in sources.items()}
    return {name: Evaluation.load(path) for name, path in files.items() if path}


def scores_page(found: Mapping[str, Evaluation]) -> str:
    """A table and bars of all numbers, as HTML.

    Numbers of different protocols do not stand beside each other: then it says so, and each model
    has a table of its own.
    """
    if not found:
        return NONE_YET
    try:
        check_comparable(found)
    except ValueError as error:
        tables = "".join(_table({name: one}) + _protocol(one) for name, one in found.items())
        return f"<p>{escape(str(error))}.</p>{tables}"
    return _table(found) + _plot(found) + _protocol(next(iter(found.values())))


def _metrics(found: Mapping[str, Evaluation]) -> list[str]:
    return list(dict.fromkeys(key for one in found.values() for key in one.values))


def _columns(found: Mapping[str, Evaluation]) -> dict[str, Mapping[str, float]]:
    """Numbers by column: each model's, then those of real pictures."""
    return {name: one.values for name, one in found.items()} | {REAL: next(iter(found.values())).yardstick}


def _table(found: Mapping[str, Evaluation]) -> str:
    columns = _columns(found)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = ""
    for metric in _metrics(found):
        cells = "".join(f"<td>{_number(values.get(metric))}</td>" for values in columns.values())
        rows += f'<tr><th scope="row">{escape(metric)}{_arrow(metric)}</th>{cells}</tr>'
    return (
        '<div class="wide"><table><caption>Higher is better at ↑, lower at ↓.</caption>'
        f'<thead><tr><th scope="col">measure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _plot(found: Mapping[str, Evaluation]) -> str:
    """One group of bars for each measure, scaled to its largest value."""
    columns, plots = _columns(found), ""
    for metric in (metric for metric in _metrics(found) if "." not in metric):
        values = {name: column.get(metric) for name, column in columns.items()}
        values = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        largest = max((abs(value) for value in values.values()), default=0) or 1
        bars = "".join(
            f'<div class="bar{" real" if name == REAL else ""}"><span>{escape(name)}</span>'
            f'<i style="--share: {abs(value) / largest:.3f}"></i><b>{_number(value)}</b></div>'
            for name, value in values.items()
        )
        plots += f"<figure><figcaption>{escape(metric)}{_arrow(metric)}</figcaption>{bars}</figure>"
    return f'<div class="plots" aria-hidden="true">{plots}</div>'  # the table says the same


def _protocol(one: Evaluation) -> str:
    protocol = one.protocol
    return (
        f"<p>{protocol.generated:,} pictures of {protocol.image_size} px for captions of {escape(protocol.data)} "
        f"({escape(protocol.split)}), against {protocol.real:,} real ones, in the features of "
        f"{escape(str(protocol.features['network']))}. {REAL.capitalize()}: as many training images, and for "
        "accuracies the held-out ones.</p>"
    )


def _arrow(metric: str) -> str:
    return "" if "." in metric else (" ↑" if higher_is_better(metric) else " ↓")


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
