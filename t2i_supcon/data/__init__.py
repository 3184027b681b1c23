"""Data: rows of images, captions and labels; their pairing, transforms and tokenization."""

from .archives import BrokenArchiveError, read_plain_pickle
from .batches import Batches
from .builders import BUILDERS
from .coco import read_coco
from .collate import Batch, Collator
from .columns import Columns
from .cub import read_cub
from .emoji import read_emoji
from .folder import read_folder
from .loading import (
    EvaluationBatch,
    EvaluationRows,
    Rows,
    TrainingRows,
    check_captions,
    check_known_words,
    evenly_spaced,
    load_rows,
    shard_files,
)
from .pairing import BatchSampler, IndexedRows
from .shards import FEWEST_HELD_OUT, MANIFEST, Source, make_row, prepare, push_shards
from .streaming import StreamedRows
from .tokenization import (
    PromptWords,
    build_tokenizer,
    describe_left_out,
    encode_prompts,
    extend_vocabulary,
    prompt_words,
    save_tokenizer,
    shortened,
    split_words,
    word_tokenizer,
)
from .transforms import BrokenRowError, decode_image, image_pyramid, scale_pixels, to_pil, to_uint8

__all__ = [
    "BrokenArchiveError",
    "BUILDERS",
    "Batch",
    "BatchSampler",
    "Batches",
    "BrokenRowError",
    "Collator",
    "Columns",
    "FEWEST_HELD_OUT",
    "MANIFEST",
    "EvaluationBatch",
    "EvaluationRows",
    "IndexedRows",
    "PromptWords",
    "Rows",
    "Source",
    "StreamedRows",
    "TrainingRows",
    "build_tokenizer",
    "check_captions",
    "check_known_words",
    "decode_image",
    "describe_left_out",
    "encode_prompts",
    "extend_vocabulary",
    "evenly_spaced",
    "image_pyramid",
    "load_rows",
    "make_row",
    "prepare",
    "prompt_words",
    "push_shards",
    "read_coco",
    "read_cub",
    "read_emoji",
    "read_folder",
    "read_plain_pickle",
    "save_tokenizer",
    "scale_pixels",
    "shard_files",
    "shortened",
    "split_words",
    "to_pil",
    "to_uint8",
    "word_tokenizer",
]
