"""The trunk's published sizes (what it computes is checked against recordings where it is used)."""

import pytest
import torch

from t2i_supcon.models.inception import MIN_SIZE, InceptionTrunk


def test_published_sizes():
    """torchvision's Inception-v3 has 27,161,264 parameters: 3,326,696 in the auxiliary head and
    2,049,000 in the last layer."""
    with torch.device("meta"):
        trunk = InceptionTrunk()
        regions, pooled = trunk(torch.empty(2, 3, 299, 299))
    assert sum(p.numel() for p in trunk.parameters()) == 27_161_264 - 3_326_696 - 2_049_000
    assert regions.shape == (2, 768, 17, 17) and pooled.shape == (2, 2048)
    assert (trunk.region_channels, trunk.pooled_channels) == (768, 2048)


@pytest.mark.parametrize("divisor", [8, 16])
def test_divided_channels_read_the_smallest_images(divisor):
    trunk = InceptionTrunk(divisor).eval()
    regions, pooled = trunk(torch.randn(2, 3, MIN_SIZE, MIN_SIZE))
    assert regions.shape[:2] == (2, 768 // divisor) and pooled.shape == (2, 2048 // divisor)
    with pytest.raises(RuntimeError):
        trunk(torch.randn(2, 3, MIN_SIZE - 1, MIN_SIZE - 1))
