"""What the family of DF-GAN shares, against the same written out in plain operations."""

import pytest
import torch
from conftest import TINY, tiny_text
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.models import GANS, DFGANConfig, SSAGANConfig
from t2i_supcon.models.fusion import Affine, FusionBlock, FusionGeneratorBlock, HalvingBlock


def jitter(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def test_an_affine_starts_as_identity_and_then_scales_and_shifts_each_channel():
    x, condition = torch.randn(2, 3, 4, 4), torch.randn(2, 5)
    affine = Affine(3, 5)
    assert torch.equal(affine(x, condition), x)
    jitter(affine)
    found = affine(x, condition)
    for row in range(2):
        scale, shift = (
            mlp.linear2.weight @ (mlp.linear1.weight @ condition[row] + mlp.linear1.bias).clamp(min=0)
            + mlp.linear2.bias
            for mlp in (affine.scale, affine.shift)
        )
        for channel in range(3):
            assert_close(found[row, channel], scale[channel] * x[row, channel] + shift[channel])


def test_a_generator_block_equals_the_papers_order_of_operations():
    """The paper enlarges first, and everything else then acts on the large map."""
    x, condition = torch.randn(2, 4, 5, 5), torch.randn(2, 3)
    for out_channels, size in ((2, 10), (4, 10), (2, 7)):
        block = jitter(FusionGeneratorBlock(4, out_channels, 3, size))
        large = F.interpolate(x, size=(size, size), mode="nearest")
        residual = F.conv2d(block.fuse1(large, condition), block.conv1.weight, block.conv1.bias, padding=1)
        expected = block.shortcut(large) + block.conv2(block.fuse2(residual, condition))
        assert_close(block(x, condition), expected, rtol=1e-4, atol=1e-5)


def test_fusion_is_affine_and_activation_twice():
    x, condition = torch.randn(2, 3, 4, 4), torch.randn(2, 5)
    block = jitter(FusionBlock(3, 5))
    first = block.affines[0](x, condition)
    second = block.affines[1](torch.where(first > 0, first, 0.2 * first), condition)
    assert_close(block(x, condition), torch.where(second > 0, second, 0.2 * second))


def test_a_halving_block_starts_as_its_shortcut_and_freezes_what_it_never_calls():
    x = torch.randn(2, 3, 8, 8)
    same, wider = HalvingBlock(3, 3), HalvingBlock(3, 6)
    assert_close(same(x), F.avg_pool2d(x, 2))
    assert_close(wider(x), F.avg_pool2d(wider.shortcut(x), 2), rtol=1e-4, atol=1e-5)
    assert not same.shortcut.weight.requires_grad and wider.shortcut.weight.requires_grad


def test_a_halving_block_can_start_with_all_of_its_residual():
    x, block = torch.randn(2, 3, 8, 8), HalvingBlock(3, 3, initial_gamma=0.5)
    assert_close(block(x), F.avg_pool2d(x, 2) + block.residual(x) / 2)


@pytest.mark.parametrize(("name", "expected"), [("dfgan", 2), ("ssagan", 5), ("galip", 3)])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_every_learned_factor_starts_as_the_config_says(name, expected, start):
    """Also after the initialisation that all weights of a new model go through."""
    config = GANS[name].config(**TINY[name], text_config=tiny_text(name), initial_gamma=start)
    networks = GANS[name].generator(config), GANS[name].discriminator(config)
    factors = [p for network in networks for key, p in network.named_parameters() if key.endswith(("gamma", "beta"))]
    assert [p.item() for p in factors] == [start] * expected


def test_widths_halve_towards_the_image():
    assert DFGANConfig().generator_widths == (256, 256, 256, 256, 128, 64, 32)
    assert SSAGANConfig(image_size=32, generator_channels=4).generator_widths == (32, 16, 8, 4)
