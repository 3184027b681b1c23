"""Reads the recorded tensors of this folder; see README.md."""

import json
import zlib
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

FOLDER = Path(__file__).parent


class Golden:
    """One recorded file.

    Attributes:
        inputs, outputs: tensors by name.
        weights: the original state dict, keys in the original order.
    """

    def __init__(self, name: str):
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}  # of a file without weights
        self.inputs = {key.removeprefix("inputs/"): value for key, value in stored.items() if key.startswith("inputs/")}
        self.outputs = {
            key.removeprefix("outputs/"): value for key, value in stored.items() if key.startswith("outputs/")
        }
        self.weights = {}
        for key, (shape, dtype, factor) in json.loads(metadata.get("weights", "{}")).items():
            if factor == 0:
                self.weights[key] = stored[f"weights/{key}"]
            else:
                name = key.split("/")[-1]
                self.weights[key] = (factor * draw(name, tuple(shape), int(metadata["seed"]))).to(getattr(torch, dtype))

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The state dict of one network, for files that hold several."""
        return {key.removeprefix(prefix): value for key, value in self.weights.items() if key.startswith(prefix)}

    def image(self, name: str, times: int) -> Tensor:
        """A stored small image, enlarged by repeating pixels."""
        return self.inputs[name].repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)


def stats(tensors) -> Tensor:
    """[sum, l2 norm, first element] of each tensor; zeros for None."""
    rows = [
        torch.zeros(3) if t is None else torch.stack([t.float().sum(), t.float().norm(), t.float().flatten()[0]])
        for t in tensors
    ]
    return torch.stack(rows)


def draw(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The value a recording gave to the entry `key`: depends on (seed, key, shape) only."""

    def normal() -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}:{key}".encode())))

    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.tensor(7)
    if last == "running_mean":
        return 0.3 * normal()
    if last == "running_var":
        return 0.5 + torch.rand(*shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}:{key}".encode())))
    if last in ("weight_u", "weight_v"):
        value = normal()
        return value / value.norm()
    if key.endswith("fc_gamma.linear2.bias"):
        return 1 + 0.2 * normal()
    if len(shape) <= 1:
        if last in ("gamma", "beta") or (shape == (1,) and last != "bias"):
            return 0.5 + 0.1 * normal()
        if last == "weight":
            return 1 + 0.2 * normal()
        if last == "logit_scale":
            return torch.tensor(2.6593)
        return 0.1 * normal()
    if key == "encoder.weight":
        return normal()
    if "embedding" in key:
        return 0.3 * normal()
    fan_in = shape[0] if last in ("proj", "text_projection") else torch.Size(shape[1:]).numel()
    return 1.2 * normal() / fan_in**0.5


def feature_rows(seed: int, n: int, width: int, shift: float) -> Tensor:
    """(n, width) float64 features of the recordings of metrics: rectified, unevenly scaled and
    correlated."""
    g = torch.randn(n, width + 1, generator=torch.Generator().manual_seed(seed))
    scales = 0.5 + (torch.arange(width) % 5) / 4
    return torch.relu(scales * g[:, 1:] + 0.5 * g[:, :1] + shift).double()
