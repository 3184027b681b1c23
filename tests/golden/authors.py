"""What the recorded code does and the package on purpose does not: stand-ins for tests that follow
a recording through it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from t2i_supcon.conversion import CONVERSIONS, rename


def mixed_up_softmax(scores: Tensor, attention_mask: Tensor) -> Tensor:
    """`blocks.masked_softmax` with AttnGAN's and DM-GAN's masks: place r of caption b is masked as
    caption (b * R + r) mod B."""
    b, _, r = scores.shape
    rows = torch.arange(b * r).view(b, r) % b
    return scores.masked_fill(attention_mask[rows].transpose(1, 2) == 0, float("-inf")).softmax(dim=1)


def upsample_then_convolve(x: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> Tensor:
    """`operators.upsampled_conv2d` in two operations: equal but for rounding, which DM-GAN's
    recorded steps blow up."""
    return F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, bias, padding=1)


class AuthorsSpectralNorm(nn.Module):
    """DM-GAN's: iterates at every forward, v before u, and swaps them under graphs already built,
    whose backward then sees the newest."""

    def __init__(self, u: Tensor, v: Tensor):
        super().__init__()
        self.u, self.v = (nn.Parameter(x.clone(), requires_grad=False) for x in (u, v))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        self.v.data = F.normalize(matrix.detach().T @ self.u.data, dim=0, eps=1e-12)
        self.u.data = F.normalize(matrix.detach() @ self.v.data, dim=0, eps=1e-12)
        return weight / self.u.dot(matrix.mv(self.v))


def use_authors_spectral_norm(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts `AuthorsSpectralNorm` into a converted scale of DM-GAN's discriminator, with the vectors
    of the original state dict."""
    stored = {rename(key, CONVERSIONS["dmgan", "discriminator64"].rules): value for key, value in weights.items()}
    for name, module in model.named_modules():
        if is_parametrized(module, "weight"):
            prefix = f"{name}.parametrizations.weight.0"
            module.parametrizations.weight[0] = AuthorsSpectralNorm(stored[f"{prefix}._u"], stored[f"{prefix}._v"])


def original_order(
    model: nn.Module, weights: dict[str, Tensor], arch: str, part: str, select=lambda key: True
) -> list[Tensor]:
    """The model's parameters and buffers in the order of the original state dict."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    names = [rename(key, CONVERSIONS[arch, part].rules) for key in weights if select(key)]
    return [own[name] for name in names if name in own]


def is_parameter(key: str) -> bool:
    """Whether the original state-dict key is neither of BatchNorm's statistics nor of spectral
    normalisation's vectors."""
    return not any(part in key for part in ("running_", "num_batches", "weight_u", "weight_v"))


def is_running(key: str) -> bool:
    """Whether the original state-dict key is of BatchNorm's running mean or variance."""
    return "running_" in key
