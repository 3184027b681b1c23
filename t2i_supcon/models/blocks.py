"""What several GANs share: layers, and how a discriminator scores features with right and wrong
captions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import operators
from .base import DiscriminatorOutput


class UpsampledConv2d(nn.Conv2d):
    """Nearest upsampling, by two unless a size is given, then a 3x3 convolution with padding 1."""

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        return operators.upsampled_conv2d(x, self.weight, self.bias, size or (2 * x.shape[2], 2 * x.shape[3]))


class GradfixConv2d(nn.Conv2d):
    """A convolution for discriminators whose gradient is penalised."""

    def forward(self, x: Tensor) -> Tensor:
        return operators.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class GradfixLeakyReLU(nn.Module):
    """Leaky ReLU with slope 0.2, for discriminators whose gradient is penalised."""

    def forward(self, x: Tensor) -> Tensor:
        return operators.leaky_relu(x, 0.2)


class ConstantLinear(nn.Linear):
    """A linear layer that gives `start` for every input at the start of training."""

    def __init__(self, in_features: int, out_features: int, start: float):
        self.start = start
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, self.start)


def score_pairs(
    joint: Callable[[Tensor], Tensor], features: Tensor, sent_emb: Tensor, wrong_sent_emb: Tensor | None
) -> DiscriminatorOutput:
    """Scores image features with their captions and with wrong ones (the one-way output of DF-GAN,
    arXiv 2008.05865).

    Args:
        joint: maps features joined with a sentence, (B, c + D, h, w), to one logit each.
        features: (B, c, h, w).
        sent_emb: (B, D), the images' own captions.
        wrong_sent_emb: (M, D) with M <= B, a caption of another image for each of the first M
            images; or None.
    """

    def score(rows: Tensor, sentences: Tensor) -> Tensor:
        text = sentences[:, :, None, None].expand(-1, -1, *rows.shape[2:])
        return joint(torch.cat([rows, text], dim=1)).flatten()

    wrong = None if wrong_sent_emb is None else (score(features[: len(wrong_sent_emb)], wrong_sent_emb),)
    return DiscriminatorOutput(cond=(score(features, sent_emb),), wrong=wrong)
