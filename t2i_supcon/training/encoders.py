"""The encoders phase 1 starts from and phase 2 builds on: made new for the captions of the data, or loaded."""

from pathlib import Path

import datasets
from torch import nn
from transformers import AutoModel, AutoTokenizer, CLIPModel, PreTrainedModel, PreTrainedTokenizerFast

from ..data import build_tokenizer
from ..models import CLIPPairConfig, CLIPPairModel, DAMSMConfig, DAMSMModel
from ..original_files import read_state_dict
from .recipe import EncoderRecipe, build_model_config

ENCODERS = {"damsm": (DAMSMConfig, DAMSMModel), "clip": (CLIPPairConfig, CLIPPairModel)}


def new_encoders(recipe: EncoderRecipe, rows: datasets.Dataset) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Makes both towers and a tokenizer that knows the words of the training captions.

    Raises:
        ValueError: an architecture key the config does not know, or one that the captions decide.
    """
    text_config = dict(recipe.model_config.get("text_config", {}))
    tokenizer = build_tokenizer((caption or "" for captions in rows["captions"] for caption in captions or ()), recipe.data.max_words)
    decided = {"vocab_size": len(tokenizer)}
    if recipe.model == "clip":
        padding = tokenizer.pad_token_id
        decided |= {"max_position_embeddings": recipe.data.max_words, "pad_token_id": padding, "bos_token_id": padding, "eos_token_id": padding}
    for key in decided:
        if key in text_config:
            raise ValueError(f"model_config.text_config.{key} is set by the captions of the data; remove it from the recipe")
    config_class, model_class = ENCODERS[recipe.model]
    model = model_class(build_model_config(config_class, {**recipe.model_config, "text_config": text_config | decided}))
    if recipe.inception_weights is not None:
        load_inception_weights(model.image_encoder.trunk, recipe.inception_weights)
    return model, tokenizer


def load_encoders(name: str, max_words: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads both towers and their tokenizer from a folder or the Hub: what phase 1 saved, or a `CLIPModel` of transformers.

    The tokenizer cuts captions to `max_words` tokens, or to fewer where the text tower has no more positions.

    Raises:
        ValueError: nothing of that kind is there.
    """
    try:
        encoders, tokenizer = AutoModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    except OSError as error:
        raise ValueError(
            f"encoders {name!r}: no saved encoders found there; train phase 1 first, or name the folder of what it saved or of a CLIP model ({error})"
        ) from error
    if isinstance(encoders, CLIPModel):
        encoders = CLIPPairModel.from_clip(encoders)
    if not isinstance(encoders, tuple(model_class for _, model_class in ENCODERS.values())):
        raise ValueError(f"encoders {name!r}: these are no encoders but a {type(encoders).__name__}")
    tokenizer.model_max_length = min(max_words, getattr(encoders.config.text_config, "max_position_embeddings", max_words))
    return encoders, tokenizer


def load_inception_weights(trunk: nn.Module, path: str) -> None:
    """Fills the trunk with ImageNet weights in torchvision's names, without the classifier and the auxiliary head that it lacks.

    Raises:
        FileNotFoundError: says which file is wanted.
        ValueError: the file is damaged or holds something else; it names the first tensor that does not fit.
    """
    try:
        state = read_state_dict(Path(path), "Inception-v3")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"inception_weights: there is no file {path}; download inception_v3_google-0cc3c7bd.pth, the weights of torchvision's Inception-v3"
        ) from error
    own = trunk.state_dict()
    for key, value in own.items():
        if not key.endswith("num_batches_tracked") and (key not in state or state[key].shape != value.shape):
            raise ValueError(f"inception_weights: {path} is no Inception-v3 of this width: {key} is missing or of another shape")
    trunk.load_state_dict({key: state.get(key, value) for key, value in own.items()})
