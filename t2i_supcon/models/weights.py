"""The weights of a model: which tensors its files hold, whether all of them are there and sound,
and a short name of what they are."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file


class StoredTensor(NamedTuple):
    """What the head of a safetensors file says about one tensor, such as `("F32", (3, 4))`."""

    dtype: str
    shape: tuple[int, ...]


def stored_tensors(
    name: str | os.PathLike,
    subfolder: str = "",
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> dict[str, StoredTensor]:
    """Reads which tensors a folder, or a repository of the Hub, stores in safetensors files; empty
    where it has none.

    Args:
        name, subfolder, revision, cache_dir: as `from_pretrained` takes them.
        download: fetch the files of a repository; otherwise those fetched before are read.

    Raises:
        OSError: such a file is damaged, or cannot be downloaded.
    """

    def find(file: str) -> str | None:
        return cached_file(
            name,
            file,
            subfolder=subfolder,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=not download,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )

    files = [find(SAFE_WEIGHTS_NAME)]
    if files[0] is None and (index := find(SAFE_WEIGHTS_INDEX_NAME)) is not None:
        shards = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()
        files = [find(shard) for shard in sorted(set(shards))]
    tensors = {}
    for file in files:
        if file is None:
            continue
        try:
            with safe_open(file, framework="pt") as opened:
                slices = {key: opened.get_slice(key) for key in opened.keys()}
                tensors |= {key: StoredTensor(s.get_dtype(), tuple(s.get_shape())) for key, s in slices.items()}
        except SafetensorError as error:
            raise OSError(f"{file}: it is no safetensors file, or a damaged one ({error})") from error
    return tensors


def loading_problems(
    model: PreTrainedModel, missing: Iterable[str], stored: dict[str, StoredTensor]
) -> tuple[str, ...]:
    """One phrase for each tensor of a loaded model that was missing or not stored as real
    numbers."""
    others = [
        f"{key} holds {'complex' if stored[key].dtype.startswith('C') else 'whole'} numbers ({stored[key].dtype})"
        for key, tensor in model.state_dict().items()
        if key in stored and tensor.is_floating_point() and not stored[key].dtype.startswith(("F", "BF"))
    ]
    return (*(f"{key} is missing" for key in sorted(missing)), *others)


def refuse_unfit_weights(model: PreTrainedModel, problems: Sequence[str], where: str) -> None:
    """Raises a ValueError that names the tensors which were not loaded as they should be, or hold
    NaN, infinity or negative variances."""
    state = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}  # not all, quantized
    tensors = {key: tensor for key, tensor in state.items() if tensor.is_floating_point()}
    broken = [f"{key} holds NaN or infinity" for key, tensor in tensors.items() if not tensor.isfinite().all()]
    variances = {key: tensor for key, tensor in tensors.items() if key.endswith("running_var")}
    negative = [f"{key} holds negative variances" for key, tensor in variances.items() if (tensor < 0).any()]
    if found := [*problems, *broken, *negative]:
        more = f" and {len(found) - 5} more tensors like these" if len(found) > 5 else ""
        raise ValueError(f"{where}: the weights of the {type(model).__name__} are unfit: {', '.join(found[:5])}{more}")


def weights_hash(module: nn.Module) -> str:
    """A short name of the values that a network holds."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
