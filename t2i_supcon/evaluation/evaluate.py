"""From pictures to numbers with their protocol, by one process or several."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from ..data import Rows, evenly_spaced, load_rows, to_pil
from ..data.emoji import FOLDER as EMOJI_FOLDER
from ..figures import labelled_grid
from ..identity import content_hash, weights_hash
from ..metrics import feature_statistics, frechet_bias
from ..metrics.features import FeatureNetwork, feature_network
from ..pipeline import load_pipeline
from .judge import LabelClassifier, fit_label_classifier
from .measures import MEASURES, Compared, FeatureSet, check_measures
from .pictures import DrawnPictures, FolderPictures, RealPictures, choose_prompts, read_groups
from .protocol import FILE, Evaluation, Protocol, made_now
from .tables import values_table

logger = logging.getLogger(__name__)
GRID = 24  # pictures shown of those that were judged
Source = DrawnPictures | FolderPictures | RealPictures


def cache_folder() -> Path:
    """Where features of real pictures are kept: `T2I_SUPCON_CACHE`, or in the user's cache."""
    return Path(os.environ.get("T2I_SUPCON_CACHE") or Path.home() / ".cache" / "t2i_supcon")


def embed(
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]], pictures: Source, batch_size: int, what: str | None
) -> FeatureSet:
    """Features of all pictures, in their order, shared out over the processes; pictures themselves
    are not kept.

    Args:
        network: gives features and logits of images in [-1, 1].
        what: said beside the progress bar; None shows none.
    """
    state = PartialState()
    parts, numbers = [], []
    count = len(range(state.process_index, len(pictures.prompts), state.num_processes))
    hidden = what is None or not state.is_main_process
    with torch.no_grad(), tqdm(total=count, unit="image", desc=what, disable=hidden, dynamic_ncols=True) as bar:
        for batch in pictures.batches(batch_size, state.process_index, state.num_processes):
            features, logits = network(batch.images.to(state.device))
            logits = None if logits is None else logits.cpu().numpy()
            parts.append((features.cpu().numpy(), logits))
            numbers += batch.numbers
            bar.update(len(batch.numbers))
    features = np.concatenate([part for part, _ in parts]) if parts else None
    logits = np.concatenate([part for _, part in parts]) if parts and parts[0][1] is not None else None
    shares = [share for share in gather_object([(numbers, features, logits)]) if share[0]]
    order = np.argsort(np.concatenate([share[0] for share in shares]))
    labels = np.array([prompt.label for prompt in pictures.prompts])
    has_logits = shares[0][2] is not None
    return FeatureSet(
        np.concatenate([share[1] for share in shares])[order],
        labels,
        np.concatenate([share[2] for share in shares])[order] if has_logits else None,
    )


def embed_real(network: FeatureNetwork, rows: Rows, image_size: int, data_hash: str, batch_size: int) -> FeatureSet:
    """Features of real pictures, computed once and kept by what they are made of."""
    made_of = {"network": network.protocol, "rows": data_hash, "image_size": image_size}
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / "features" / f"{key}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return FeatureSet(kept["features"], kept["labels"], kept.get("logits"))
    found = embed(network.features_and_logits, RealPictures(rows, image_size), batch_size, "real pictures")
    state = PartialState()
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".partial-{path.name}")
        arrays = {"features": found.features, "labels": found.labels}
        with open(partial, "wb") as file:
            np.savez(file, **arrays, **({} if found.logits is None else {"logits": found.logits}))
        os.replace(partial, path)
    state.wait_for_everyone()
    return found


def fit_classifier(
    names: Sequence[str], training: FeatureSet, label_names: Sequence[str], groups: Mapping[str, str] | None
) -> tuple[LabelClassifier | None, dict[int, str] | None]:
    """The classifier of labels that the named measures need, and the group of each label."""
    if not any("classifier" in MEASURES[name].needs for name in names):
        return None, None
    labelled = training.labels >= 0
    classifier = fit_label_classifier(training.features[labelled], training.labels[labelled])
    return classifier, groups and {i: groups[name] for i, name in enumerate(label_names) if name in groups}


def evaluate(
    pictures: DrawnPictures | FolderPictures,
    network: FeatureNetwork,
    held_out: Rows,
    training: Rows,
    hashes: tuple[str, str],
    names: Sequence[str],
    *,
    data: str,
    split: str,
    captions: str,
    subject: dict[str, object],
    groups: dict[str, str] | None = None,
    batch_size: int = 64,
) -> Evaluation:
    """Measures pictures against held-out real ones, and real training pictures beside them.

    Args:
        pictures: what is judged.
        network: whose features are compared.
        held_out, training: rows with random access.
        hashes: of what held-out and training rows hold.
        names: of `MEASURES`.
        data, split, captions: for the protocol.
        subject: what is judged, for the result.
        groups: the coarser group of each label name, for `label_accuracy`.
        batch_size: pictures at once.

    Returns:
        The same in all processes.

    Raises:
        ValueError: something that cannot be measured, or too few pictures for it.
    """
    size = pictures.image_size
    labels = np.array([prompt.label for prompt in pictures.prompts])
    check_measures(names, has_labels=bool((labels >= 0).any()), has_logits=network.has_logits)
    real = embed_real(network, held_out, size, hashes[0], batch_size)
    real_training = embed_real(network, training, size, hashes[1], batch_size)
    judged = embed(network.features_and_logits, pictures, batch_size, "pictures")
    label_names = held_out.features["label"].names
    classifier, groups_of_labels = fit_classifier(names, real_training, label_names, groups)
    chosen = evenly_spaced(len(real_training.features), len(judged.features))
    as_judged = FeatureSet(
        real_training.features[chosen],
        real_training.labels[chosen],
        None if real_training.logits is None else real_training.logits[chosen],
    )
    values, yardstick = {}, {}
    for name in names:
        values |= MEASURES[name].compute(Compared(real, judged, classifier, groups_of_labels))
        # the classifier was fitted on training pictures: held-out ones are the yardstick of labels
        other = real if "classifier" in MEASURES[name].needs else as_judged
        yardstick |= MEASURES[name].compute(Compared(real, other, classifier, groups_of_labels))
    if "frechet" in names:
        widest = feature_statistics(real_training.features)
        values["frechet.bias"] = frechet_bias(widest, len(judged.features), len(real.features))
    protocol = Protocol(
        features=network.protocol,
        data=data,
        data_hash=hashes[0],
        split=split,
        real=len(real.features),
        generated=len(judged.features),
        image_size=size,
        captions=captions,
        seed=getattr(pictures, "seed", None),
        truncation=getattr(pictures, "truncation", None),
        settings={name: dict(MEASURES[name].settings) for name in names},
    )
    return Evaluation(values, yardstick, protocol, subject, made_now())


def subject_of_model(folder: Path | None, name: str, model: torch.nn.Module) -> dict[str, object]:
    """What is judged: name, kind, hash of the weights and, where it lies in the model's folder or
    beside it, the recipe."""
    subject = {"name": name, "model_type": model.config.model_type, "weights": weights_hash(model)}
    for beside in () if folder is None else (folder, folder.parent):
        if (recipe := beside / "recipe.yaml").is_file():
            return subject | {"recipe": recipe.read_text(encoding="utf-8")}
    return subject


def run_evaluation(
    output: Path,
    model: str | None = None,
    images_folder: Path | None = None,
    *,
    data: str = "emoji",
    split: str = "test",
    training_split: str = "train",
    prompts_split: str | None = None,
    features: str = "imagenet-lite0",
    resize: str | None = None,
    metrics: Sequence[str] = ("frechet", "kid", "label_accuracy"),
    images: int | None = None,
    captions: Literal["all", "first", "random"] = "first",
    seed: int = 0,
    truncation: float | None = None,
    batch_size: int = 64,
    save_images: bool = False,
) -> Evaluation:
    """Judges a model, or a folder of pictures, and writes what it found into `output`:
    `evaluation.json`, `evaluation.md` and `evaluation.png`, a grid of what was judged.

    Args:
        model: folder or Hub name; or else
        images_folder: PNG files.
        data, split, training_split: real pictures and captions; see `load_rows`.
        prompts_split: whose captions are drawn; the held-out split's when absent.
        features, resize: see `feature_network`.
        metrics: names in `MEASURES`.
        images: how many pictures a model draws; None is one a caption.
        captions, seed, truncation: of what a model draws.
        save_images: also write each picture drawn, as PNG in `output/images`.

    Raises:
        ValueError, OSError: one of these is not there or does not fit; nothing is written then.
    """
    if (model is None) == (images_folder is None):
        raise ValueError("name either a model or a folder of images to evaluate")
    if images is not None and images < 2:
        raise ValueError(f"images is {images}; statistics need at least 2 pictures")
    held_out, training = (load_rows(data, name) for name in (split, training_split))
    if images_folder is not None:
        pictures = FolderPictures(images_folder)
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in pictures.files)).hexdigest()
        subject = {"name": str(images_folder), "images": digest[:16]}
    else:
        draw = load_pipeline(model, PartialState().device)
        network, tokenizer = draw.model, draw.tokenizer
        described = held_out if prompts_split is None else load_rows(data, prompts_split)
        prompts = choose_prompts(described, captions, images, seed, tokenizer)
        save_to = output / "images" if save_images else None
        pictures = DrawnPictures(network.text_encoder, network.generator, tokenizer, prompts, seed, truncation, save_to)
        subject = subject_of_model(Path(model) if Path(model).is_dir() else None, model, network)
    found = evaluate(
        pictures,
        feature_network(features, resize).to(PartialState().device),
        held_out,
        training,
        (content_hash(held_out), content_hash(training)),
        metrics,
        data=data,
        split=split,
        captions=captions if prompts_split is None else f"{captions} of {prompts_split}",
        subject=subject,
        groups=label_groups(data),
        batch_size=batch_size,
    )
    if PartialState().is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        shown = next(pictures.batches(min(GRID, len(pictures.prompts))))
        sentences = [pictures.prompts[number].caption for number in shown.numbers]
        labelled_grid([to_pil(image) for image in shown.images], sentences, columns=6).save(output / "evaluation.png")
        (output / "evaluation.md").write_text(values_table(found) + "\n", encoding="utf-8")
        found.save(output / FILE)
    PartialState().wait_for_everyone()
    return found


def label_groups(data: str) -> dict[str, str] | None:
    """The coarser group of each label name, where a folder of data has a `groups.json`."""
    path = (EMOJI_FOLDER if data == "emoji" else Path(data)) / "groups.json"
    return read_groups(path) if path.is_file() else None
