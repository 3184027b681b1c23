"""Text-to-image GANs with label-guided supervised contrastive learning.

Importing this package registers its models with transformers' Auto classes and the "text-to-image"
pipeline.
"""

from . import models
from .contrast import SupConGuidance
from .embedded import EMBEDDED_MODELS, embedded_model
from .label_pairs import LabelPairs, LabelPairStream
from .models import *  # noqa: F403
from .pipeline import TextToImagePipeline

__version__ = "0.1.0"
__all__ = [
    *models.__all__,
    "EMBEDDED_MODELS",
    "LabelPairStream",
    "LabelPairs",
    "SupConGuidance",
    "TextToImagePipeline",
    "embedded_model",
]
