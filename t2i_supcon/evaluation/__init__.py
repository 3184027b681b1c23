"""Evaluation of encoders and of generated pictures: numbers together with their protocol."""

from .embedding import EmbeddedImages, embed_images, embed_texts
from .evaluate import evaluate, run_evaluation
from .measures import MEASURES
from .pictures import DrawnPictures, FolderPictures, Prompt, choose_prompts
from .protocol import Evaluation, Protocol
from .tables import compare, compare_files, values_table

__all__ = [
    "MEASURES",
    "DrawnPictures",
    "EmbeddedImages",
    "Evaluation",
    "FolderPictures",
    "Prompt",
    "Protocol",
    "choose_prompts",
    "compare",
    "compare_files",
    "embed_images",
    "embed_texts",
    "evaluate",
    "run_evaluation",
    "values_table",
]
