"""The pixel term against differences counted by hand."""

import pytest
import torch

from t2i_supcon.losses import pixel_loss


def test_it_is_the_mean_difference():
    real = torch.zeros(2, 3, 4, 4)
    generated = real.clone()
    generated[0, :, 0, 0] = torch.tensor([1.0, -0.5, 0.0])
    assert pixel_loss(generated, real) == pytest.approx(1.5 / 96)
    assert pixel_loss(-torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2)) == 2


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"generated images have shape \(1, 3, 4, 4\), real ones \(1, 3, 8, 8\)"):
        pixel_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8))
