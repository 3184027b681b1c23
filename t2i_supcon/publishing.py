"""What runs and preparations left, and the web page, as repositories of the Hub."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import SpaceCard

from .cards import CARD, CONFIG, EVALUATION, EVALUATION_GRID, EVALUATION_TABLE
from .conversion.pretrained import load_pretrained, load_tokenizer
from .data import MANIFEST, push_shards
from .hub import folder_files, push_files, push_model
from .models import GANS, CLIPPairModel, DAMSMModel
from .models.weights import weights_hash

logger = logging.getLogger(__name__)
MODELS = (*(gan.composite for gan in GANS.values()), DAMSMModel, CLIPPairModel)


def publish(folder: Path, repository: str, private: bool | None = None, tag: str | None = None) -> str:
    """Publishes a saved model, the run that left it, or prepared data, complete and in one commit.

    Args:
        folder: `runs/NAME`, `runs/NAME/model` or a folder of `scripts/prepare_data.py`.
        repository: "user/name"; made where there is none, as a model or a dataset.
        private: of a new repository; None is the default of the account.
        tag: of this version; there is none after a failure.

    Returns:
        The commit's id.

    Raises:
        ValueError: neither lies there, or a model that is damaged.
        OSError: the Hub cannot be reached or refuses; see `hub.explain`.
    """
    if (folder / MANIFEST).is_file():
        return push_shards(folder, repository, private, tag)
    return push_model(model_files(folder), repository, private=private, tag=tag)


def model_files(folder: Path) -> dict[str, Path]:
    """What is published of a saved model, or of the run that left it in `model/`: all its files by
    their paths and, where it was evaluated, what `evaluation/` beside the model says of it.

    Raises:
        ValueError: no model lies there, or a damaged one.
    """
    folder = folder / "model" if (folder / "model" / CONFIG).is_file() else folder
    if not (folder / CONFIG).is_file():
        raise ValueError(
            f"{folder} can not be published: it is no saved model ({CONFIG}), no run that left one in model/ and no "
            f"prepared data ({MANIFEST})"
        )
    model = load_pretrained(str(folder), "model", MODELS)
    load_tokenizer(str(folder), "model")
    files, beside = folder_files(folder), folder.parent / "evaluation"
    if EVALUATION not in files and (beside / EVALUATION).is_file():
        judged = json.loads((beside / EVALUATION).read_text(encoding="utf-8"))["subject"].get("weights")
        if judged == weights_hash(model):
            names = (EVALUATION, EVALUATION_TABLE, EVALUATION_GRID)
            files |= {name: beside / name for name in names if (beside / name).is_file()}
        else:
            logger.warning("%s is of other weights than %s and left out: evaluate these", beside / EVALUATION, folder)
    return files


def publish_space(
    folder: Path, repository: str, models: Sequence[str] = (), private: bool | None = None, tag: str | None = None
) -> str:
    """Publishes a web page as a Space, complete and in one commit.

    Args:
        folder: with the page's `app.py` and its card.
        repository: "user/name"; made where there is none.
        models: repositories of those that it draws with, which its card will name; none leaves the
            card as it is.
        private, tag: see `publish`.

    Returns:
        The commit's id.

    Raises:
        ValueError: no page lies there.
        OSError: the Hub cannot be reached or refuses; see `hub.explain`.
    """
    for name in ("app.py", CARD):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} can not be published as a Space: it has no {name}")
    files: dict[str, Path | bytes] = {
        name: path for name, path in folder_files(folder).items() if path.parent.name != "__pycache__"
    }
    if models:
        card = SpaceCard.load(folder / CARD)
        card.data.models = list(models)
        files[CARD] = str(card).encode()
    return push_files(files, repository, "space", private=private, tag=tag, space_sdk="gradio")
