"""From pictures to numbers with their protocol, by one process or several."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from torch import Tensor
from tqdm import tqdm

from ..data import Columns, Rows, load_rows, to_pil
from ..data.emoji import FOLDER as EMOJI_FOLDER
from ..figures import labelled_grid
from ..files import new_folder, partial_folder
from ..identity import content_hash, other_data, pictures_hash
from ..memory import keep_freed_memory
from ..metrics import feature_statistics, frechet_bias
from ..metrics.arrays import UNREADABLE
from ..metrics.features import NETWORKS, FeatureNetwork, feature_network
from ..models.weights import weights_hash
from ..pipeline import load_pipeline
from .judge import fit_label_classifier
from .measures import (
    DEFAULT_MEASURES,
    MEASURES,
    OTHER_METRICS,
    FeatureSet,
    References,
    check_encoders,
    check_measures,
)
from .pictures import DrawnPictures, FolderPictures, Prompt, RealPictures, choose_prompts, is_known, read_groups
from .protocol import FILE, Evaluation, Protocol, made_now
from .significance import bootstrap_errors
from .tables import values_table

logger = logging.getLogger(__name__)
LARGE_BIAS = 0.1  # share of a Frechet distance that its bias must exceed to be warned of
TEXTS_AT_ONCE = 256
GRID = 24  # pictures shown of those that were judged
Source = DrawnPictures | FolderPictures | RealPictures


def launched_state() -> PartialState:
    """The processes that `accelerate launch` started, this one among them; PartialState by itself
    overlooks those on CPUs."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def cache_folder() -> Path:
    """Where features of real pictures are kept: `T2I_SUPCON_CACHE`, or in the user's cache."""
    return Path(os.environ.get("T2I_SUPCON_CACHE") or Path.home() / ".cache" / "t2i_supcon")


def embed(
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    pictures: Source,
    batch_size: int,
    what: str | None,
    encoders: FeatureNetwork | None = None,
) -> FeatureSet:
    """Features of all pictures, in their order, shared out over the processes; pictures themselves
    are not kept.

    Args:
        network: gives features and logits of images in [-1, 1].
        what: said beside the progress bar; None shows none.
        encoders: give `image_emb` of the same pictures.
    """
    state = launched_state()
    parts, numbers = [], []
    count = len(range(state.process_index, len(pictures.prompts), state.num_processes))
    hidden = what is None or not state.is_main_process
    with torch.no_grad(), tqdm(total=count, unit="image", desc=what, disable=hidden, dynamic_ncols=True) as bar:
        for batch in pictures.batches(batch_size, state.process_index, state.num_processes):
            images = batch.images.to(state.device)
            found = (*network(images), None if encoders is None else encoders(images))
            parts.append([None if one is None else one.cpu().numpy() for one in found])
            numbers += batch.numbers
            bar.update(len(batch.numbers))
    shares = gather_object([(numbers, [_joined(column) for column in zip(*parts)])])
    shares = [share for share in shares if share[0]]  # a process without pictures has no arrays
    found = np.concatenate([numbers for numbers, _ in shares])
    order = np.argsort(found)
    joined = [_joined(column) for column in zip(*(arrays for _, arrays in shares))]
    features, logits, image_emb = (None if one is None else one[order] for one in joined)
    labels = np.array([prompt.label for prompt in pictures.prompts])[found[order]]
    return FeatureSet(features, labels, logits, image_emb=image_emb, numbers=found[order])


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Parts one behind the other; None where there are none."""
    return None if parts[0] is None else np.concatenate(parts)


def embed_real(
    network: FeatureNetwork,
    rows: Rows,
    image_size: int,
    data_hash: str,
    batch_size: int,
    max_broken_share: float = 0.0,
) -> FeatureSet:
    """Features of real pictures, computed once and kept by what they are made of: all pictures, the
    rows' `data_hash`, the network, the size and the share that may be left out."""
    state = launched_state()
    pictures = pictures_hash(rows) if state.is_main_process else ""  # which alone looks for what is kept
    made_of = {
        "network": network.protocol,
        "rows": data_hash,
        "pictures": pictures,
        "image_size": image_size,
        "max_broken_share": max_broken_share,
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / "features" / f"{key}.npz"
    kept = [_read_kept(path) if state.is_main_process else None]
    broadcast_object_list(kept)  # one process decides: others may see another disk, or look a moment later
    if kept[0] is not None:
        return kept[0]
    source = RealPictures(rows, image_size, max_broken_share)
    found = embed(network.features_and_logits, source, batch_size, "real pictures")
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # another evaluation may write the same
        arrays = {"features": found.features, "labels": found.labels, "numbers": found.numbers}
        with open(partial, "wb") as file:
            np.savez(file, **arrays, **({} if found.logits is None else {"logits": found.logits}))
        os.replace(partial, path)
    state.wait_for_everyone()
    return found


def _read_kept(path: Path) -> FeatureSet | None:
    """What `embed_real` has kept; None where there is nothing, or a damaged file, which is said."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            return FeatureSet(kept["features"], kept["labels"], kept.get("logits"), numbers=kept["numbers"])
    except UNREADABLE as error:
        logger.warning("%s is damaged (%s); the features are computed once more", path, error)
        return None


def with_sentences(pictures: FeatureSet, network: FeatureNetwork, captions: Sequence[str]) -> FeatureSet:
    """The same with their captions, in the space that the network puts pictures in; see
    `FeatureSet`."""
    read = [caption for caption in dict.fromkeys(captions) if caption and is_known(caption, network.tokenizer)]
    sentences = np.full_like(pictures.features if pictures.image_emb is None else pictures.image_emb, np.nan)
    found = {}  # once each, so that pictures of one caption have the very same sentence
    for start in range(0, len(read), TEXTS_AT_ONCE):
        some = read[start : start + TEXTS_AT_ONCE]
        found |= zip(some, network.embed_texts(some).cpu().numpy())
    for place, caption in enumerate(captions):
        if caption in found:
            sentences[place] = found[caption]
    return replace(pictures, sentences=sentences)


def real_references(
    network: FeatureNetwork,
    held_out: Rows,
    training: Rows,
    hashes: tuple[str, str],
    names: Sequence[str],
    image_size: int,
    groups: Mapping[str, str] | None,
    batch_size: int = 64,
    encoders: FeatureNetwork | None = None,
    max_broken_share: float = 0.0,
) -> References:
    """The real pictures that the named measures judge by, with the classifier of labels and the
    captions that they need; the arguments are those of `evaluate`."""
    needs = {need for name in names for need in MEASURES[name].needs}
    sets = [
        embed_real(network, rows, image_size, data_hash, batch_size, max_broken_share)
        for rows, data_hash in zip((held_out, training), hashes)
    ]
    if "sentences" in needs:
        own = held_out["captions"][:]
        captions = [next((one for one in own[number] or () if one), "") for number in sets[0].numbers]
        if encoders is not None:
            image_emb = embed_real(encoders, held_out, image_size, hashes[0], batch_size, max_broken_share).features
            sets[0] = replace(sets[0], image_emb=image_emb)
        sets[0] = with_sentences(sets[0], encoders or network, captions)
    if "classifier" not in needs:
        return References(*sets)
    labelled = sets[1].take(np.flatnonzero(sets[1].labels >= 0))
    unseen = (sets[0].labels >= 0) & ~np.isin(sets[0].labels, labelled.labels)
    if unseen.any():
        logger.warning(
            "%d of %d held-out rows have a label that no training row has; label_accuracy leaves them out",
            unseen.sum(),
            len(unseen),
        )
    label_names = training.features["label"].names
    groups_of_labels = groups and {i: groups[name] for i, name in enumerate(label_names) if name in groups}
    return References(*sets, fit_label_classifier(labelled.features, labelled.labels), groups_of_labels)


def shares_labels(labels: Iterable[int | None], training: Rows) -> bool:
    """Whether one of the labels, of which None and negative ones are none, is a training row's."""
    return any(label is not None and label >= 0 for label in set(labels) & set(training["label"][:]))


def default_measures(prompts: Sequence[Prompt], held_out: Rows, training: Rows) -> tuple[str, ...]:
    """`DEFAULT_MEASURES`, without label_accuracy where no label of the pictures, or no held-out
    one, is a training row's, which it warns of."""
    unshared = _unshared_labels(prompts, held_out, training)
    if unshared is None:
        return DEFAULT_MEASURES
    if launched_state().is_main_process:
        logger.warning("%s: it is left out", unshared)
    return tuple(name for name in DEFAULT_MEASURES if "classifier" not in MEASURES[name].needs)


def _unshared_labels(prompts: Sequence[Prompt], held_out: Rows, training: Rows) -> str | None:
    """Why label_accuracy cannot be measured; None where it can."""
    for whose, labels in (("held-out rows", held_out["label"][:]), ("pictures", [one.label for one in prompts])):
        if not shares_labels(labels, training):
            return f"no label of the {whose} is among those of the training rows, so label_accuracy cannot be measured"
    return None


def check_pictures(
    names: Sequence[str],
    network: FeatureNetwork,
    prompts: Sequence[Prompt],
    held_out: Rows,
    training: Rows,
    encoders: FeatureNetwork | None = None,
) -> None:
    """Refuses what cannot be measured of these pictures, before anything is drawn or embedded.

    Raises:
        ValueError: see `check_measures`; or no held-out label, or none of the pictures, is a
            training row's, where one is needed; or nothing would be measured by the encoders.
    """
    labelled = any(prompt.label >= 0 for prompt in prompts)
    check_measures(names, labelled, network.has_logits, (encoders or network).text_source is not None)
    if encoders is not None:
        check_encoders(names)
    if any("classifier" in MEASURES[name].needs for name in names):
        unshared = _unshared_labels(prompts, held_out, training)
        if unshared is not None:
            raise ValueError(f"{unshared}: {OTHER_METRICS}")


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
    encoders: FeatureNetwork | None = None,
    bootstrap: int | None = None,
    max_broken_share: float = 0.0,
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
        encoders: what measures of captions judge by, in place of `network`.
        bootstrap: sets of pictures drawn for standard errors; see `bootstrap_errors`.
        max_broken_share: of held-out and of training rows; see `RealPictures`.

    Returns:
        The same in all processes.

    Raises:
        ValueError: something that cannot be measured, or too few pictures for it.
    """
    if len(pictures.prompts) < 2:
        raise ValueError(f"there is {len(pictures.prompts)} picture to judge; statistics need at least 2")
    size = pictures.image_size
    check_pictures(names, network, pictures.prompts, held_out, training, encoders)
    references = real_references(
        network, held_out, training, hashes, names, size, groups, batch_size, encoders, max_broken_share
    )
    judged = embed(network.features_and_logits, pictures, batch_size, "pictures", encoders)
    if any("sentences" in MEASURES[name].needs for name in names):
        judged = with_sentences(judged, encoders or network, [prompt.caption for prompt in pictures.prompts])
        warn_of_unread(int(np.isnan(judged.sentences).any(axis=1).sum()), len(judged.sentences))
    real_count, count = len(references.held_out.features), len(judged.features)
    errors = {}
    if bootstrap is not None:
        errors = bootstrap_errors(lambda chosen: references.measure(names, judged.take(chosen)), count, bootstrap)
    values, yardstick = references.measure(names, judged), references.yardstick(names, count)
    if "frechet" in names:
        values["frechet.bias"] = frechet_bias(feature_statistics(references.training.features), count, real_count)
        warn_of_bias(values["frechet"], values["frechet.bias"], count, real_count)
    protocol = Protocol(
        features=network.protocol,
        data=data,
        data_hash=hashes[0],
        split=split,
        real=real_count,
        generated=count,
        image_size=size,
        captions=captions,
        seed=getattr(pictures, "seed", None),
        truncation=getattr(pictures, "truncation", None),
        settings={name: _settings(name, hashes[1]) for name in names},
        encoders=None if encoders is None else encoders.protocol,
    )
    return Evaluation(values, yardstick, protocol, subject, made_now(), errors)


def warn_of_unread(unread: int, count: int) -> None:
    """Says how many pictures measures of captions leave out."""
    if unread and launched_state().is_main_process:
        logger.warning(
            "%d of %d pictures have captions without a word that the encoders know: r_precision and clip_score leave "
            "them out",
            unread,
            count,
        )


def warn_of_bias(distance: float, bias: float, generated: int, real: int) -> None:
    """Warns where the numbers of pictures alone make up much of a Frechet distance."""
    if not launched_state().is_main_process:
        return
    if bias >= distance:
        logger.warning(
            "the Frechet distance of %.4g between %d pictures and %d real ones says nothing: as many of one kind can "
            "be as far apart; judge more",
            distance,
            generated,
            real,
        )
    elif bias > LARGE_BIAS * distance:
        logger.warning(
            "of the Frechet distance of %.4g between %d pictures and %d real ones, about %.3g are owed to these "
            "numbers alone, whatever the pictures: judge more, or compare equal numbers",
            distance,
            generated,
            real,
            bias,
        )


def _settings(name: str, training_hash: str) -> dict[str, object]:
    """What the protocol says of a measure; of a classifier also what it was fitted on."""
    fitted = {"training": training_hash} if "classifier" in MEASURES[name].needs else {}
    return {**MEASURES[name].settings, **fitted}


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
    columns: Sequence[str] = (),
    split: str = "test",
    training_split: str = "train",
    prompts_split: str | None = None,
    features: str = "imagenet-lite0",
    resize: str | None = None,
    encoders: str | None = None,
    metrics: Sequence[str] | None = None,
    images: int | None = None,
    captions: Literal["all", "first", "random"] = "first",
    seed: int = 0,
    truncation: float | None = None,
    batch_size: int = 64,
    save_images: bool = False,
    bootstrap: int | None = None,
    max_broken_share: float = 0.0,
) -> Evaluation:
    """Judges a model, or a folder of pictures, and writes what it found into `output`:
    `evaluation.json`, `evaluation.md` and `evaluation.png`, a grid of what was judged.

    Args:
        model: folder or Hub name; or else
        images_folder: PNG files.
        data, split, training_split: real pictures and captions; see `load_rows`.
        columns: what the data calls its columns, such as "captions=text" or "label=null".
        prompts_split: whose captions are drawn; the held-out split's when absent.
        features, resize: see `feature_network`.
        encoders: folder or Hub name of encoders, or a feature network that reads captions by its
            name there: r_precision and clip_score are measured by it in place of `features`.
        metrics: names in `MEASURES`; None is frechet, kid and, where pictures and held-out rows
            have labels of training rows, label_accuracy.
        images: how many pictures a model draws; None is one a caption.
        captions, seed, truncation: of what a model draws.
        save_images: also write each picture drawn, as PNG in `output/images`, which is there once
            all are.
        bootstrap: sets of the pictures drawn with replacement, for standard errors of all numbers.
        max_broken_share: of the held-out and of the training rows that is left out where images are
            broken, in [0, 1).

    Raises:
        ValueError, OSError: one of these is not there or does not fit; nothing is written then.
    """
    if (model is None) == (images_folder is None):
        raise ValueError("name either a model or a folder of images to evaluate")
    if bootstrap is not None and bootstrap < 2:
        raise ValueError(f"bootstrap is {bootstrap}; a standard error needs at least 2 sets of pictures")
    if not 0 <= max_broken_share < 1:
        raise ValueError(f"max_broken_share is {max_broken_share}; it must be at least 0 and below 1")
    if images is not None and images < 2:
        raise ValueError(f"images is {images}; statistics need at least 2 pictures")
    for name, number, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if number < least:
            raise ValueError(f"{name} is {number}; it must be at least {least}")
    of_models = {"images": images, "prompts_split": prompts_split, "truncation": truncation, "save_images": save_images}
    if images_folder is not None and (
        given := [name for name, value in of_models.items() if value is not None and value is not False]
    ):
        raise ValueError(f"{', '.join(given)}: only of what a model draws; {images_folder} holds its pictures already")
    saved = output / "images"
    if save_images and saved.exists() and (not saved.is_dir() or any(saved.iterdir())):
        raise ValueError(f"output: {saved} is there already; name another folder, or move it away")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"output: {output} is a file; name a folder")
    keep_freed_memory()
    called = columns_of(columns)
    training = load_rows(data, training_split, columns=called)
    label_names = training.features["label"].names  # an id is the same label in both
    held_out = load_rows(data, split, columns=called, label_names=label_names)
    if images_folder is not None:
        pictures = FolderPictures(images_folder)
        digest = hashlib.sha256()
        for file in pictures.files:
            digest.update(file.read_bytes())
        subject = {"name": str(images_folder), "images": digest.hexdigest()[:16]}
    else:
        draw = load_pipeline(model, launched_state().device)
        if (trained := other_data(model, data)) is not None and launched_state().is_main_process:
            logger.warning("%s was trained on %r and is judged by %r: see --data", model, trained, data)
        network, tokenizer = draw.model, draw.tokenizer
        described = held_out
        if prompts_split is not None:
            described = load_rows(data, prompts_split, columns=called, label_names=label_names)
        prompts = choose_prompts(described, captions, images, seed, tokenizer)
        save_to = partial_folder(saved) if save_images else None
        pictures = DrawnPictures(network.text_encoder, network.generator, tokenizer, prompts, seed, truncation, save_to)
        subject = subject_of_model(Path(model) if Path(model).is_dir() else None, model, network)
    state = launched_state()
    with new_folder(saved) if save_images and state.is_main_process else nullcontext():
        state.wait_for_everyone()  # before the others draw into it
        found = evaluate(
            pictures,
            feature_network(features, resize).to(state.device),
            held_out,
            training,
            (content_hash(held_out), content_hash(training)),
            default_measures(pictures.prompts, held_out, training) if metrics is None else metrics,
            data=data,
            split=split,
            captions=captions if prompts_split is None else f"{captions} of {prompts_split}",
            subject=subject,
            groups=label_groups(data),
            batch_size=batch_size,
            encoders=None if encoders is None else caption_network(encoders).to(state.device),
            bootstrap=bootstrap,
            max_broken_share=max_broken_share,
        )
        if state.is_main_process:
            output.mkdir(parents=True, exist_ok=True)
            shown = next(pictures.batches(min(GRID, len(pictures.prompts))))
            sentences = [pictures.prompts[number].caption for number in shown.numbers]
            grid = labelled_grid([to_pil(image) for image in shown.images], sentences, columns=6)
            grid.save(output / "evaluation.png")
            (output / "evaluation.md").write_text(values_table(found) + "\n", encoding="utf-8")
    if state.is_main_process:
        found.save(output / FILE)
    state.wait_for_everyone()
    return found


def columns_of(given: Sequence[str]) -> Columns:
    """Names of columns as a command has them: "captions=text", "label=null".

    Raises:
        ValueError: another form, or a name that the row schema has not.
    """
    named = {}
    for one in given:
        name, separator, column = one.partition("=")
        if not separator or not column or name not in Columns.__dataclass_fields__:
            known = ", ".join(Columns.__dataclass_fields__)
            raise ValueError(f"columns: {one!r} is not NAME=COLUMN with a NAME of {known}")
        named[name] = None if column == "null" else column
    return Columns(**named)


def caption_network(name: str) -> FeatureNetwork:
    """A feature network by name, or encoders by their folder or Hub name alone."""
    return feature_network(name if name.partition(":")[0] in NETWORKS else f"encoder:{name}")


def label_groups(data: str) -> dict[str, str] | None:
    """The coarser group of each label name, where a folder of data has a `groups.json`."""
    path = (EMOJI_FOLDER if data == "emoji" else Path(data)) / "groups.json"
    return read_groups(path) if path.is_file() else None
