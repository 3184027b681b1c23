"""Encoders by folder or name of the Hub, and the ImageNet weights that a new trunk starts from."""

from pathlib import Path

from torch import nn
from transformers import AutoModel, AutoTokenizer, CLIPModel, PreTrainedModel, PreTrainedTokenizerFast

from ..models import CLIPPairModel, DAMSMModel
from .files import read_state_dict


def load_encoders(name: str, max_words: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads both towers and their tokenizer from a folder or the Hub: what phase 1 saved, or a
    `CLIPModel` of transformers.

    The tokenizer cuts captions to `max_words` tokens, or to fewer where the text tower has no more
    positions.

    Raises:
        ValueError: nothing of that kind is there.
    """
    try:
        encoders, tokenizer = AutoModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    except OSError as error:
        raise ValueError(
            f"encoders {name!r}: no saved encoders found there; train phase 1 first, or name the folder of "
            f"what it saved or of a CLIP model ({error})"
        ) from error
    if isinstance(encoders, CLIPModel):
        encoders = CLIPPairModel.from_clip(encoders)
    if not isinstance(encoders, (DAMSMModel, CLIPPairModel)):
        raise ValueError(f"encoders {name!r}: these are no encoders but a {type(encoders).__name__}")
    tokenizer.model_max_length = min(
        max_words, getattr(encoders.config.text_config, "max_position_embeddings", max_words)
    )
    return encoders, tokenizer


def load_inception_weights(trunk: nn.Module, path: str) -> None:
    """Fills the trunk with ImageNet weights in torchvision's names, without the classifier and the
    auxiliary head that it lacks.

    Raises:
        FileNotFoundError: says which file is wanted.
        ValueError: the file is damaged or holds something else; it names the first tensor that does
            not fit.
    """
    try:
        state = read_state_dict(Path(path), "Inception-v3")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"inception_weights: there is no file {path}; download inception_v3_google-0cc3c7bd.pth, the "
            "weights of torchvision's Inception-v3"
        ) from error
    own = trunk.state_dict()
    for key, value in own.items():
        if not key.endswith("num_batches_tracked") and (key not in state or state[key].shape != value.shape):
            raise ValueError(
                f"inception_weights: {path} is no Inception-v3 of this width: {key} is missing or of another shape"
            )
    trunk.load_state_dict({key: state.get(key, value) for key, value in own.items()})
