"""What others trained, as models of this package: the original authors' tensors and files, and
encoders by folder or name."""

from .files import convert_files, read_state_dict, read_vocabulary
from .load import CONVERSIONS, load_original
from .pretrained import load_encoders, load_inception_weights, load_players
from .rules import rename

__all__ = [
    "CONVERSIONS",
    "convert_files",
    "load_encoders",
    "load_inception_weights",
    "load_original",
    "load_players",
    "read_state_dict",
    "read_vocabulary",
    "rename",
]
