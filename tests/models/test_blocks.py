"""Shared layers against PyTorch's plain ones, and pairs scored one by one."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.models.blocks import ConstantLinear, GradfixConv2d, GradfixLeakyReLU, UpsampledConv2d, score_pairs


def test_layers_equal_plain_ones():
    x = torch.randn(2, 3, 5, 6)
    upsampled = UpsampledConv2d(3, 4, 3, padding=1)
    for size, given in (((10, 12), ()), ((7, 9), ((7, 9),))):
        expected = F.conv2d(F.interpolate(x, size=size), upsampled.weight, upsampled.bias, padding=1)
        assert_close(upsampled(x, *given), expected, rtol=1e-4, atol=1e-5)
    strided = GradfixConv2d(3, 4, 4, stride=2, padding=1)
    assert_close(strided(x), F.conv2d(x, strided.weight, strided.bias, stride=2, padding=1))
    assert_close(GradfixLeakyReLU()(x), torch.where(x > 0, x, 0.2 * x))


def test_a_constant_layer_ignores_its_input_until_it_is_trained():
    layer = ConstantLinear(3, 2, start=0.5)
    assert torch.equal(layer(torch.randn(4, 3)), torch.full((4, 2), 0.5))
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_pairs_are_scored_row_by_row():
    joint = nn.Sequential(nn.Conv2d(3 + 2, 1, 4))
    features, right, wrong = torch.randn(3, 3, 4, 4), torch.randn(3, 2), torch.randn(2, 2)

    def alone(row, sentence):
        return (joint[0].weight[0, :3] * row).sum() + (joint[0].weight[0, 3:].sum((1, 2)) @ sentence) + joint[0].bias[0]

    out = score_pairs(joint, features, right, wrong)
    assert_close(out.cond[0], torch.stack([alone(*pair) for pair in zip(features, right)]))
    assert_close(out.wrong[0], torch.stack([alone(*pair) for pair in zip(features, wrong)]))
    assert score_pairs(joint, features, right, None).wrong is None
