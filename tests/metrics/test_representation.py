"""Alignment, uniformity and positives of points whose distances are known."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.losses import positive_mask
from t2i_supcon.metrics import alignment, positives_per_anchor, uniformity


def on_circle(*degrees):
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_alignment_of_known_angles():
    points = on_circle(0.0, 90.0, 180.0, 10.0)
    # a right angle: squared distance 2
    assert_close(alignment(points, positive_mask(torch.tensor([0, 0, 1, 2]))), torch.tensor(2.0))
    assert_close(alignment(points, positive_mask(torch.tensor([0, 1, 0, 2]))), torch.tensor(4.0))  # opposite
    weighted = torch.tensor([[9.0, 1, 3, 0], [0] * 4, [0] * 4, [0] * 4])  # the diagonal does not count
    assert_close(alignment(points, weighted), torch.tensor((1 * 2 + 3 * 4) / 4.0))
    assert alignment(points, positive_mask(torch.arange(4))) == 0  # no positive at all


def test_uniformity_of_known_angles():
    assert_close(uniformity(on_circle(30.0, 30.0, 30.0)), torch.tensor(0.0))
    # 0, 45 and 90 degrees, each pair twice
    expected = math.log((2 * math.exp(-2 * 2) + 4 * math.exp(-2 * (2 - math.sqrt(2)))) / 6)
    assert_close(uniformity(on_circle(0.0, 45.0, 90.0)), torch.tensor(expected), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="there are 1 rows"):
        uniformity(on_circle(0.0))


def test_spread_points_are_more_uniform_than_a_cluster():
    points = F.normalize(torch.randn(50, 8), dim=1)
    cluster = F.normalize(points + 5, dim=1)
    assert uniformity(points) < uniformity(cluster) < 0


def test_positives_are_counted_without_the_row_itself():
    assert positives_per_anchor(positive_mask(torch.tensor([0, 0, 0, 1, -1]))) == pytest.approx(6 / 5)
    sets = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert positives_per_anchor(positive_mask(sets, "jaccard")) == pytest.approx(2 / 3)
