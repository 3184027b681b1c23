"""The rows and batches that a recipe asks for."""

from collections.abc import Callable

import datasets
import torch
from transformers import PreTrainedTokenizerFast

from ..data import (
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
    load_rows,
    shard_files,
)
from ..identity import content_hash
from .recipe import Recipe


def load_splits(recipe: Recipe) -> tuple[Rows, Rows]:
    """Training rows and held-out rows.

    Raises:
        ValueError: pairs asked of rows without labels, or a training row without captions.
        FileNotFoundError: no such data or split.
    """
    data = recipe.data
    columns = Columns(data.image_column, data.caption_column, data.label_column, data.labels_column, data.bbox_column)
    rows, held_out = (
        load_rows(data.name, split, data.config, data.revision, columns, data.streaming)
        for split in (data.train_split, data.test_split)
    )
    if recipe.sampling == "pairs" and rows.features["label"].num_classes == 0:
        raise ValueError(
            f"data {data.name!r} has no labels to pair on: name their column in data.label_column, or train "
            "with sampling: independent"
        )
    if not data.streaming and not data.max_broken_share:
        check_captions(rows, shard_files(data.name, data.train_split))
    return rows, held_out


def evaluation_rows(
    recipe: Recipe, rows: Rows, split: str, tokenizer: PreTrainedTokenizerFast, size: int, count: int | None
) -> EvaluationRows:
    """`count` rows of a split of the recipe's data, of which as large a share may be broken as it
    allows; see `EvaluationRows`."""
    return EvaluationRows(
        rows, tokenizer, size, count, shard_files(recipe.data.name, split), recipe.data.max_broken_share
    )


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
    data, pairs = recipe.data, recipe.sampling == "pairs"
    files = shard_files(data.name, data.train_split)
    samples = TrainingRows(
        None if data.streaming else rows,
        tokenizer,
        image_sizes,
        recipe.seed,
        data.random_crop,
        data.flip,
        data.long_captions,
        files,
    )
    single_label = recipe.positives == "label"
    collate = Collator(2 if pairs else 1, None if single_label else rows.features["label"].num_classes)
    share = (process_index, num_processes)
    column = "label" if single_label else "labels"
    if data.streaming:
        order = StreamedRows(rows, column, recipe.seed, *share, files)
    else:
        order = IndexedRows(rows[column], recipe.seed, pairs)

    data_id = content_hash(rows, files)

    def make_batches(state: dict | None) -> Batches:
        sampler = BatchSampler(order, recipe.batch_size, recipe.seed, pairs, *share)
        return Batches(samples, sampler, collate, device, data.workers, data.max_broken_share, state, data_id)

    return make_batches


def count_rows(rows: Rows) -> int | None:
    """How many there are, or None for a stream that does not know."""
    if isinstance(rows, datasets.Dataset):
        return len(rows)
    splits = rows.info.splits or {}
    return splits[rows.split].num_examples if rows.split in splits else None
