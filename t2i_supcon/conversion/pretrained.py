"""Saved models by folder or name of the Hub, refused unless whole, and the ImageNet weights that a
new trunk starts from."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPModel, PreTrainedModel, PreTrainedTokenizerFast

from ..hub import NAME, split_revision
from ..models import CLIPPairModel, DAMSMModel
from ..models.weights import loading_problems, refuse_unfit_weights, stored_tensors
from .errors import one_line_errors
from .files import read_state_dict

REMEDIES = {
    "model": "name the folder of a text-to-image model, which phase 2 saves as model/, or its repository on the Hub",
    "encoders": "train phase 1 first, or name the folder of what it saved or of a CLIP model",
}


def load_pretrained(name: str, role: str, expected: tuple[type[PreTrainedModel], ...]) -> PreTrainedModel:
    """Loads a model from a folder or the Hub, in evaluation mode, on the CPU and only if it is
    whole.

    Args:
        name: of a folder or of a repository on the Hub, "user/name" or "user/name@revision".
        role: what it is wanted as, one of `REMEDIES`.
        expected: classes that will do.

    Raises:
        ValueError: in one line, that nothing is there, that the Hub refuses it, that it is damaged
            or something else, or which tensors are missing, of another shape, stored as whole
            numbers, NaN or infinite.
    """
    where = f"{role} {str(name)!r}"
    check_folder(name, role)
    source = split_revision(name)
    name, revision = source
    with one_line_errors(where, *source):
        config = AutoConfig.from_pretrained(name, revision=revision)
    if config.architectures and config.architectures[0] not in [cls.__name__ for cls in expected]:
        raise ValueError(f"{where}: it holds a {config.architectures[0]!s:.60}; {REMEDIES[role]}")
    with one_line_errors(where, *source):
        stored = stored_tensors(name, revision=revision, download=True)
        with torch.device("meta"):
            shapes = {key: tuple(value.shape) for key, value in AutoModel.from_config(config).state_dict().items()}
    if other := [key for key, shape in shapes.items() if key in stored and stored[key].shape != shape]:
        raise ValueError(
            f"{where}: its files do not fit each other: {other[0]} has shape {stored[other[0]].shape}, and by "
            f"config.json {shapes[other[0]]}"
        )
    with one_line_errors(where, *source):
        model, info = AutoModel.from_pretrained(name, revision=revision, config=config, output_loading_info=True)
    if not isinstance(model, expected):
        raise ValueError(f"{where}: it holds a {type(model).__name__}; {REMEDIES[role]}")
    refuse_unfit_weights(model, loading_problems(model, info["missing_keys"], stored), where)
    return model


def load_tokenizer(name: str, role: str) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a folder or of a repository on the Hub.

    Raises:
        ValueError: in one line, that there is none, or a damaged one.
    """
    check_folder(name, role)
    source = split_revision(name)
    with one_line_errors(f"the tokenizer of {role} {str(name)!r}", *source):
        tokenizer = AutoTokenizer.from_pretrained(source[0], revision=source[1])
    check_tokenizer(tokenizer, f"{role} {str(name)!r}")
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, where: str) -> None:
    """Refuses a tokenizer that cannot pad and cut prompts, as one whose tokenizer_config.json is
    lost or damaged.

    Raises:
        ValueError: `where` begins the message.
    """
    limit, problem = tokenizer.model_max_length, None
    if tokenizer.pad_token is None:
        problem = "names no padding token"
    elif isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        problem = f"has the model_max_length {limit!r:.60}, which must be a whole number of at least 1"
    if problem:
        raise ValueError(f"{where}: its tokenizer {problem}; restore its tokenizer_config.json")


def load_players(
    name: str, composite_class: type[PreTrainedModel], discriminator_class: type[PreTrainedModel]
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Loads a text-to-image model and its discriminator, to train them further, from a folder or
    the Hub.

    Raises:
        ValueError: one of them is not there, or not whole; see `load_pretrained`.
    """
    model = load_pretrained(name, "model", (composite_class,))
    (source, revision), where = split_revision(name), f"the discriminator of model {str(name)!r}"
    with one_line_errors(where, source, revision):
        discriminator = discriminator_class.from_pretrained(source, revision=revision, subfolder="discriminator")
    refuse_unfit_weights(discriminator, discriminator.loading_problems, where)
    return model, discriminator


def load_encoders(name: str, max_words: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads both towers and their tokenizer from a folder or the Hub: what phase 1 saved, or a
    `CLIPModel` of transformers.

    The tokenizer cuts captions to `max_words` tokens, None being its own limit, or to fewer where
    the text tower has no more positions.

    Raises:
        ValueError: nothing of that kind is there, or not whole; see `load_pretrained`.
    """
    encoders = load_pretrained(name, "encoders", (DAMSMModel, CLIPPairModel, CLIPModel))
    tokenizer = load_tokenizer(name, "encoders")
    if isinstance(encoders, CLIPModel):
        encoders = CLIPPairModel.from_clip(encoders)
    limit = tokenizer.model_max_length if max_words is None else max_words
    tokenizer.model_max_length = min(limit, getattr(encoders.config.text_config, "max_position_embeddings", limit))
    return encoders, tokenizer


def check_folder(name: str, role: str) -> None:
    """Raises a ValueError where `name` can be neither a folder of a saved model nor a repository of
    the Hub."""
    path, problem = Path(name), None
    if path.is_dir():
        if not (path / "config.json").is_file():
            problem = "the folder has no file config.json"
    elif path.exists():
        problem = "this is a file, not a folder"
    elif not NAME.fullmatch(split_revision(name)[0]):
        problem = "there is no such folder"
    if problem:
        raise ValueError(f"{role} {str(name)!r}: no saved {role} found there: {problem}; {REMEDIES[role]}")


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
        if (
            key in state
            and value.is_floating_point()
            and not (state[key].is_floating_point() and state[key].isfinite().all())
        ):
            raise ValueError(f"inception_weights: {path}: {key} holds whole numbers, NaN or infinity")
    trunk.load_state_dict({key: state.get(key, value) for key, value in own.items()})
