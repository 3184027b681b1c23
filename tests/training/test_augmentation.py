"""Differentiable augmentation against what its names say."""

import torch
from torch.testing import assert_close

from t2i_supcon.training.augmentation import FILL, augment, color, cutout, translation


def test_translation_moves_whole_images_and_fills_with_white():
    images = torch.rand(16, 3, 16, 16)
    (moved,) = translation((images,))
    shifts = set()
    for image, result in zip(images, moved):
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(
                result, torch.nn.functional.pad(image, (2, 2, 2, 2), value=FILL)[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx]
            )
        ]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) > 5


def test_cutout_paints_a_white_square_and_touches_nothing_else():
    images = torch.zeros(16, 3, 16, 16)
    areas = set()
    (painted,) = cutout((images,))
    for result in painted:
        assert set(result.unique().tolist()) <= {0.0, FILL}
        rows, columns = (result[0] == FILL).any(1).sum(), (result[0] == FILL).any(0).sum()
        assert (result == FILL).sum() == 3 * rows * columns and 0 < rows <= 8 and 0 < columns <= 8
        areas.add(int(rows * columns))
    assert len(areas) > 2


def test_color_keeps_the_shape_of_a_grey_picture():
    grey = torch.rand(8, 1, 6, 6).expand(8, 3, 6, 6)
    (result,) = color((grey,))
    assert_close(result[:, 0], result[:, 1])
    centred, original = (x[:, 0].flatten(1) - x[:, 0].flatten(1).mean(1, keepdim=True) for x in (result, grey))
    ratio = (centred * original).sum(1) / original.square().sum(1)  # contrast
    assert_close(centred, ratio[:, None] * original, atol=1e-5, rtol=1e-4)
    assert (ratio > 0.49).all() and (ratio < 1.51).all() and ratio.std() > 0


def test_gradients_pass_and_no_policy_changes_nothing():
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    assert augment((images,), [])[0] is images
    augment((images,), ["color", "translation", "cutout"])[0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_all_scales_of_an_image_are_treated_alike():
    low = torch.rand(8, 3, 8, 8)
    high = low.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    for policy in ("color", "translation", "cutout"):
        small, large = augment((low, high), [policy])
        assert not torch.equal(small, low)
        assert_close(large, small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3), atol=1e-6, rtol=1e-5)
