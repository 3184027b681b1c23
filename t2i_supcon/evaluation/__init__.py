"""Evaluation of encoders and of generated pictures: numbers together with their protocol."""

from .embedding import EmbeddedImages, embed_images, embed_texts
from .evaluate import embed, evaluate, label_groups, run_evaluation
from .judge import LabelAccuracy, LabelClassifier, fit_label_classifier, label_accuracy
from .measures import MEASURES
from .monitor import GeneratorMonitor
from .pictures import DrawnPictures, FolderPictures, Prompt, choose_prompts
from .protocol import Evaluation, Protocol
from .representations import Representations, represent, show_representations
from .tables import compare, compare_files, values_table

__all__ = [
    "MEASURES",
    "DrawnPictures",
    "EmbeddedImages",
    "Evaluation",
    "FolderPictures",
    "GeneratorMonitor",
    "LabelAccuracy",
    "LabelClassifier",
    "Prompt",
    "Protocol",
    "Representations",
    "choose_prompts",
    "compare",
    "compare_files",
    "embed",
    "embed_images",
    "embed_texts",
    "evaluate",
    "label_groups",
    "fit_label_classifier",
    "label_accuracy",
    "represent",
    "run_evaluation",
    "show_representations",
    "values_table",
]
