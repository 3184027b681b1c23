"""Trained emoji models that come with the package: they draw with no network and no training."""

from pathlib import Path

FOLDER = Path(__file__).parent
EMBEDDED_MODELS = {name: FOLDER / name for name in ("emoji-scl", "emoji-baseline")}


def embedded_model(name: str = "emoji-scl") -> Path:
    """The folder of an embedded model, for `from_pretrained` and `pipeline`.

    Args:
        name: of `EMBEDDED_MODELS`; with supervised contrast (`emoji-scl`), or trained by the same
            recipe without it (`emoji-baseline`).

    Raises:
        ValueError: there is no such model.
    """
    if name not in EMBEDDED_MODELS:
        raise ValueError(f"there is no embedded model {name!r}; there are {', '.join(EMBEDDED_MODELS)}")
    return EMBEDDED_MODELS[name]
