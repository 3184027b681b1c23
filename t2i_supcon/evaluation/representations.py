"""What encoders make of images and texts, real or drawn: numbers of the space they share, and a map
of it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..conversion.pretrained import load_encoders
from ..data import Rows, evenly_spaced, load_rows
from ..files import short_name
from ..identity import content_hash
from ..metrics import alignment, label_precision, uniformity
from ..models.weights import weights_hash
from ..pipeline import TextToImagePipeline, load_pipeline
from .embedding import embed_texts
from .pictures import DrawnPictures, RealPictures, choose_prompts, is_known

NEIGHBOURS = 10  # of which label retrieval tells how many share the label
BATCH_SIZE = 64
COLOURED = 10  # labels with a colour of their own in the map
MEASURED = {
    "alignment": "mean squared distance of an image and its text (lower: closer)",
    "label_alignment": "the same of all images and texts that share a label (lower: closer)",
    "image_uniformity": "log mean Gaussian kernel of all pairs of images (lower: more evenly spread)",
    "text_uniformity": "the same of texts",
    "image_to_image": f"share of an image's {NEIGHBOURS} nearest other images that have its label",
    "text_to_text": f"share of a text's {NEIGHBOURS} nearest other texts that have its label",
    "image_to_text": f"share of an image's {NEIGHBOURS} nearest texts of other rows that have its label",
    "text_to_image": f"share of a text's {NEIGHBOURS} nearest images of other rows that have its label",
    "chance": "share of the rows that have a row's label, the row itself left out",
}


@dataclass(frozen=True)
class Representations:
    """Rows as a pair of encoders embeds them.

    Attributes:
        name: of the encoders or, where it drew the images, of the model.
        weights: the encoders' hash.
        image_emb, sent_emb: (N, D), normalised.
        labels: (N,) class ids.
    """

    name: str
    weights: str
    image_emb: torch.Tensor
    sent_emb: torch.Tensor
    labels: np.ndarray

    def measure(self) -> dict[str, float]:
        """The numbers that `MEASURED` names."""
        images, texts, labels = self.image_emb, self.sent_emb, self.labels
        same = torch.from_numpy(labels[:, None] == labels)
        retrieval = {
            f"{a}_to_{b}": label_precision(queries, gallery, labels, labels, min(NEIGHBOURS, len(labels) - 1), own=True)
            for a, queries in (("image", images), ("text", texts))
            for b, gallery in (("image", images), ("text", texts))
        }
        numbers = {
            "alignment": float((images - texts).square().sum(1).mean()),
            "label_alignment": float(alignment(torch.cat([images, texts]), same.repeat(2, 2))),
            "image_uniformity": float(uniformity(images)),
            "text_uniformity": float(uniformity(texts)),
            **retrieval,
            "chance": float((same.sum(1) - 1).float().mean() / (len(labels) - 1)),
        }
        return {name: numbers[name] for name in MEASURED}


def represent(
    encoders: str,
    rows: Rows,
    draw: TextToImagePipeline | None = None,
    image_size: int | None = None,
    name: str | None = None,
) -> Representations:
    """Embeds the image and the first caption with a known word of each labelled row.

    Args:
        encoders: what phase 1 saved, or a `CLIPModel` of transformers: a folder or a name on the
            Hub.
        rows: in the row schema, with random access.
        draw: draws the captions, with seed 0; its pictures stand in place of the rows'.
        image_size: that the rows' pictures are reduced to before the encoder sees them; None is the
            encoder's own.
        name: of what comes out; None is the encoders'.

    Raises:
        ValueError: there are no such encoders, or fewer than two labelled rows with a known word.
    """
    towers, tokenizer = load_encoders(encoders)
    towers.eval()
    usable = [
        any(caption and is_known(caption, tokenizer) for caption in captions) and label is not None and label >= 0
        for captions, label in zip(rows["captions"], rows["label"])
    ]
    rows = rows.select(np.flatnonzero(usable))
    if len(rows) < 2:
        raise ValueError(
            f"{len(rows)} rows have a label and a caption with a word that {encoders} knows; at least 2 are compared"
        )
    prompts = choose_prompts(rows, "first", None, 0, tokenizer)
    if draw is None:
        pictures = RealPictures(rows, image_size or towers.image_encoder.config.image_size)
    else:
        pictures = DrawnPictures(draw.model.text_encoder, draw.model.generator, draw.tokenizer, prompts)
    with torch.no_grad():
        images = [towers.image_encoder(batch.images).image_emb.float() for batch in pictures.batches(BATCH_SIZE)]
    texts = embed_texts(towers.text_encoder, tokenizer, [prompt.caption for prompt in prompts], torch.device("cpu"))
    return Representations(
        name or short_name(encoders),
        weights_hash(towers),
        torch.nn.functional.normalize(torch.cat(images), dim=1),
        torch.nn.functional.normalize(texts, dim=1),
        np.array([prompt.label for prompt in prompts]),
    )


def show_representations(
    encoders: Sequence[str],
    output: Path,
    data: str = "emoji",
    split: str = "test",
    rows: int | None = None,
    models: Sequence[str] = (),
) -> str:
    """Measures encoders on the same rows, or one pair of them on pictures that models draw of these
    rows' captions, and writes what it found into `output`: `representations.json`,
    `representations.md` and `representations.png`.

    Args:
        encoders: folders or Hub names, one or several.
        rows: how many, evenly spaced; None is all.
        models: folders or Hub names. Their pictures stand beside the real ones, which are reduced
            to the size of the first model's.

    Returns:
        The table.

    Raises:
        ValueError, OSError: something is not there or does not fit, or the extra `maps` is not
            installed; nothing is written then.
    """
    _tsne()  # before the work
    if models and len(encoders) != 1:
        raise ValueError(f"what models draw is shown by one pair of encoders, and {len(encoders)} are named")
    held_out = load_rows(data, split)
    data_hash = content_hash(held_out)
    if rows is not None:
        held_out = held_out.select(evenly_spaced(len(held_out), rows))
    draws = [load_pipeline(model, "cpu") for model in models]
    if draws:
        size = draws[0].model.config.image_size
        found = [represent(encoders[0], held_out, image_size=size, name=f"real, {size} px")]
        found += [represent(encoders[0], held_out, draw=draw, name=short_name(one)) for one, draw in zip(models, draws)]
    else:
        found = [represent(name, held_out) for name in encoders]
    numbers = [one.measure() for one in found]
    named = [f"{one.name} ({number})" for number, one in enumerate(found, start=1)]
    table = "\n".join(
        [f"| | {' | '.join(named)} |", "|---" * (len(found) + 1) + "|"]
        + [f"| {what} | {' | '.join(f'{one[key]:.3f}' for one in numbers)} |" for key, what in MEASURED.items()]
    )
    protocol = {"data": data, "split": split, "data_hash": data_hash, "captions": "first", "neighbours": NEIGHBOURS}
    results = [
        {"name": one.name, "weights": one.weights, "rows": len(one.labels), "values": values}
        for one, values in zip(found, numbers)
    ]
    output.mkdir(parents=True, exist_ok=True)
    if models:
        drawn = [{"name": one, "weights": weights_hash(draw.model)} for one, draw in zip(models, draws)]
        protocol |= {"encoders": encoders[0], "models": drawn, "seed": 0}
    content = json.dumps({"protocol": protocol, "pictures" if models else "encoders": results}, indent=1)
    (output / "representations.json").write_text(content + "\n", encoding="utf-8")
    (output / "representations.md").write_text(table + "\n", encoding="utf-8")
    plot_representations(found, numbers, held_out.features["label"].names, output / "representations.png")
    return table


def _tsne() -> type:
    """scikit-learn's t-SNE, of the extra `maps`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from sklearn.manifold import TSNE  # slow to import
    except ModuleNotFoundError as error:
        raise ValueError(
            'scikit-learn, which draws the map, is not installed; pip install "t2i_supcon[maps]"'
        ) from error
    return TSNE


def plot_representations(
    found: Sequence[Representations], numbers: Sequence[dict[str, float]], label_names: Sequence[str], path: Path
) -> None:
    """Maps of images (discs) and texts (crosses) by t-SNE (van der Maaten and Hinton, 2008), the
    most frequent labels in colour, and label retrieval as bars.

    Raises:
        ValueError: the extra `maps` is not installed.
    """
    from matplotlib.figure import Figure  # slow to import

    make_map = _tsne()
    frequent = [label for label, _ in Counter(found[0].labels.tolist()).most_common(COLOURED)]
    figure = Figure(figsize=(4.6 * len(found) + 4.4, 5.2), layout="constrained")
    *maps, bars = figure.subplots(1, len(found) + 1)
    for one, axes in zip(found, maps):
        both = torch.cat([one.image_emb, one.sent_emb]).numpy()
        perplexity = min(30, (len(both) - 1) / 3)
        places = make_map(init="pca", metric="cosine", perplexity=perplexity, random_state=0).fit_transform(both)
        for part, marker, size in ((places[: len(one.labels)], "o", 14), (places[len(one.labels) :], "x", 12)):
            others = ~np.isin(one.labels, frequent)
            axes.scatter(*part[others].T, s=size / 2, marker=marker, color="0.85", linewidths=0.7)
            for n, label in enumerate(frequent):
                chosen = one.labels == label
                name = label_names[label] if marker == "o" else None
                axes.scatter(*part[chosen].T, s=size, marker=marker, color=f"C{n}", linewidths=0.8, label=name)
        axes.set_title(one.name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(*maps[0].get_legend_handles_labels(), loc="outside lower left", ncols=5, fontsize=8, frameon=False)
    kinds = ("image_to_image", "text_to_text", "image_to_text", "text_to_image")
    width = 0.8 / len(found)
    for n, (one, values) in enumerate(zip(found, numbers)):
        places = [i + (n - (len(found) - 1) / 2) * width for i in range(len(kinds))]
        bars.bar(places, [values[kind] for kind in kinds], width, label=one.name)
    bars.axhline(numbers[0]["chance"], linestyle="--", linewidth=1, color="gray", label="chance")
    bars.set_xticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds], fontsize=8)
    bars.set_title(f"share of the {NEIGHBOURS} nearest with the same label", fontsize=10)
    bars.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
