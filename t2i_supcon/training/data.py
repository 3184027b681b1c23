"""The rows and batches that a recipe asks for."""

from collections.abc import Callable, Sequence

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from transformers import PreTrainedTokenizerFast

from ..data import (
    FEWEST_HELD_OUT,
    Batches,
    BatchSampler,
    Collator,
    Columns,
    EvaluationRows,
    IndexedRows,
    Rows,
    StreamedRows,
    TrainingRows,
    check_captions,
    check_known_words,
    load_rows,
    shard_files,
)
from ..identity import content_hash
from .recipe import Recipe

LABEL_TERMS = ("supcon", "unicl", "label_ce")  # of the guidance
HOLD_OUT = "without rows of their own for evaluation, hold out a share of the training rows: data.held_out_share=0.1"


def load_splits(recipe: Recipe) -> tuple[Rows, Rows]:
    """Training rows and held-out rows.

    Raises:
        ValueError: pairs asked of rows without labels, or a training row without captions.
        FileNotFoundError: no such data or split.
    """
    data = recipe.data
    columns = Columns(data.image_column, data.caption_column, data.label_column, data.labels_column, data.bbox_column)

    def load(split: str, label_names: Sequence[str] = ()) -> Rows:
        return load_rows(data.name, split, data.config, data.revision, columns, data.streaming, label_names)

    rows = load(data.train_split)
    if rows.features["label"].num_classes == 0:
        _refuse_labels(recipe)
    if not data.streaming and not data.max_broken_share:
        check_captions(rows, shard_files(data.name, data.train_split), data.train_split)
    if data.held_out_share is not None:
        return hold_out(rows, data.held_out_share)
    try:
        return rows, load(data.test_split, rows.features["label"].names)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; {HOLD_OUT}") from error
    except ValueError as error:  # what `datasets` raises for a split that is not there
        raise ValueError(f"{error}; {HOLD_OUT}" if "Unknown split" in str(error) else str(error)) from error


def _refuse_labels(recipe: Recipe) -> None:
    """Raises ValueError where a recipe asks for labels, which the data has not."""
    terms = [name for name in LABEL_TERMS if recipe.loss_weights.get(name)]
    without = [f"loss_weights.{name}=null" for name in terms]
    if recipe.sampling == "pairs":
        without.insert(0, "sampling=independent")
    if without:
        what = " and ".join([*(["pairs"] if recipe.sampling == "pairs" else []), *terms])
        raise ValueError(
            f"data {recipe.data.name!r} has no labels, which {what} need: name their column in data.label_column, or "
            f"train a baseline without them: {' '.join(without)}"
        )


def hold_out(rows: datasets.Dataset, share: float) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Rows to train on and a share of them to evaluate on, both in the order of the data. The draw
    is the same for every recipe, so that phase 2 evaluates on what phase 1 has not seen either.
    Rows of one image file stay together.

    Raises:
        ValueError: too few rows, or too few pictures, for both.
    """
    pictures = _picture_numbers(rows)
    number = len(np.unique(pictures))
    count = max(FEWEST_HELD_OUT, round(share * number))
    if count >= number:
        raise ValueError(f"data.held_out_share {share:g} of {number} pictures leaves none to train on")
    held_out = np.isin(pictures, np.random.default_rng(0).permutation(number)[:count])
    return rows.select(np.flatnonzero(~held_out)), rows.select(np.flatnonzero(held_out))


def _picture_numbers(rows: datasets.Dataset) -> np.ndarray:
    """(N,) which picture a row shows, numbered as they come: that of its file, or one of its own
    where the image lies in the data itself."""
    numbers: dict[object, int] = {}
    found = []
    for batch in rows.select_columns("image").with_format("arrow").iter(batch_size=1000):
        inside, paths = (pc.struct_field(batch["image"], name) for name in ("bytes", "path"))
        for is_inside, path in zip(pc.is_valid(inside).to_pylist(), paths.to_pylist()):
            picture = len(found) if is_inside or path is None else path
            found.append(numbers.setdefault(picture, len(numbers)))
    return np.array(found, dtype=np.int64)


def evaluation_rows(
    recipe: Recipe, rows: Rows, split: str, tokenizer: PreTrainedTokenizerFast, size: int, count: int | None
) -> EvaluationRows:
    """`count` rows of a split of the recipe's data, of which as large a share may be broken as it
    allows; see `EvaluationRows`.

    Raises:
        ValueError: too few rows.
    """
    data = recipe.data
    evaluation = EvaluationRows(rows, tokenizer, size, count, _files(recipe, split), data.max_broken_share, split)
    if len(evaluation) < FEWEST_HELD_OUT:
        raise ValueError(
            f"data {data.name!r}, split {split!r}: {len(evaluation)} row can be evaluated, and "
            f"{FEWEST_HELD_OUT} are needed; name another data.test_split, or {HOLD_OUT}"
        )
    return evaluation


def _files(recipe: Recipe, split: str) -> list[str]:
    """The Parquet files whose rows have the numbers of this split's."""
    return [] if recipe.data.held_out_share is not None else shard_files(recipe.data.name, split)


def batch_maker(
    recipe: Recipe,
    rows: Rows,
    tokenizer: PreTrainedTokenizerFast,
    image_sizes: tuple[int, ...],
    device: torch.device,
    process_index: int = 0,
    num_processes: int = 1,
) -> Callable[[dict | None], Batches]:
    """What gives the endless batches of one process, from the start (None) or behind a state of
    theirs."""
    data, pairs, twice = recipe.data, recipe.sampling == "pairs", recipe.sampling == "captions"
    files = _files(recipe, data.train_split)
    if not data.streaming and not data.max_broken_share:
        check_known_words(rows, tokenizer, files, data.train_split)
    samples = TrainingRows(
        None if data.streaming else rows,
        tokenizer,
        image_sizes,
        recipe.seed,
        data.random_crop,
        data.flip,
        data.long_captions,
        data.word_dropout,
        files,
        data.train_split,
    )
    single_label = recipe.positives == "label"
    collate = Collator(2 if pairs or twice else 1, None if single_label else rows.features["label"].num_classes)
    share = (process_index, num_processes)
    column = "label" if single_label else "labels"
    if data.streaming:
        order = StreamedRows(rows, column, recipe.seed, *share, files)
    else:
        order = IndexedRows(rows[column], recipe.seed, pairs)

    data_id = content_hash(rows, files)

    def make_batches(state: dict | None) -> Batches:
        sampler = BatchSampler(order, recipe.batch_size, recipe.seed, pairs, *share, twice=twice)
        return Batches(samples, sampler, collate, device, data.workers, data.max_broken_share, state, data_id)

    return make_batches


def count_rows(rows: Rows) -> int | None:
    """How many there are, or None for a stream that does not know."""
    if isinstance(rows, datasets.Dataset):
        return len(rows)
    splits = rows.info.splits or {}
    return splits[rows.split].num_examples if rows.split in splits else None
