"""Differentiable augmentation against what DiffAugment's paper and code define."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.training.augmentation import augment, color, cutout, translation


@pytest.mark.parametrize(("size", "reach"), [(16, 2), (20, 2), (8, 1), (12, 1), (64, 8)])
def test_translation_moves_whole_images_by_up_to_an_eighth_and_fills_with_zeros(size, reach):
    images = 0.5 + torch.rand(600, 1, size, size)
    (moved,) = translation((images,))
    found = [set(), set()]
    for image, result in zip(images, moved):
        inside = result[0] != 0
        rows, columns = (inside.any(dim=1 - axis).nonzero().flatten() for axis in (0, 1))
        down, right = (int(x[0]) or int(x[-1]) + 1 - size for x in (rows, columns))
        padded = F.pad(image, (reach,) * 4)
        window = padded[:, reach - down : reach - down + size, reach - right : reach - right + size]
        assert torch.equal(result, window)
        found[0].add(down)
        found[1].add(right)
    assert found == [set(range(-reach, reach + 1))] * 2


@pytest.mark.parametrize(("size", "side", "first"), [(16, 8, -4), (8, 4, -2), (6, 3, -1), (10, 5, -2)])
def test_cutout_zeroes_a_square_of_half_the_side_around_any_point(size, side, first):
    """Of an even side, the centre lies between pixels or on the edge; of an odd one, on a pixel."""
    images = 0.5 + torch.rand(4000, 3, size, size)
    (painted,) = cutout((images,))
    cut = painted == 0
    assert (cut == cut[:, :1]).all() and torch.equal(painted[~cut], images[~cut])
    starts = range(first, first + size + 1 - side % 2)
    squares = {}
    for top in starts:
        rows = (torch.arange(size) >= top) & (torch.arange(size) < top + side)
        for left in starts:
            columns = (torch.arange(size) >= left) & (torch.arange(size) < left + side)
            squares[tuple((rows[:, None] & columns).flatten().tolist())] = (top, left)
    assert len(squares) == len(starts) ** 2
    places = [squares[tuple(mask.flatten().tolist())] for mask in cut[:, 0]]  # no other shape is a key
    for axis in (0, 1):
        counts = [sum(place[axis] == start for place in places) for start in starts]
        assert min(counts) > 0.7 * 4000 / len(starts) and max(counts) < 1.3 * 4000 / len(starts)


def test_color_keeps_the_shape_of_a_grey_picture():
    grey = torch.rand(8, 1, 6, 6).expand(8, 3, 6, 6)
    (result,) = color((grey,))
    assert_close(result[:, 0], result[:, 1])
    centred, original = (x[:, 0].flatten(1) - x[:, 0].flatten(1).mean(1, keepdim=True) for x in (result, grey))
    ratio = (centred * original).sum(1) / original.square().sum(1)  # contrast
    assert_close(centred, ratio[:, None] * original, atol=1e-5, rtol=1e-4)
    assert (ratio > 0.49).all() and (ratio < 1.51).all() and ratio.std() > 0


def test_color_reaches_what_it_should():
    """Of a picture of two values, brightness is the move of its mean, contrast the change of its
    spread, saturation that of the distance between its channels."""
    flat = torch.full((4000, 3, 2, 2), 0.25)
    moved = color((flat,))[0][:, 0, 0, 0] - 0.25
    assert moved.min() < -0.49 and moved.max() > 0.49 and moved.abs().max() <= 0.5
    red = torch.zeros(4000, 3, 2, 2)
    red[:, 0, 0] = 1  # two pixels red, two black
    changed = color((red,))[0]
    spread = changed[:, :, 0, 0] - changed[:, :, 1, 0]  # (4000, 3): contrast and saturation together
    contrast = spread.mean(dim=1) / red[0, :, 0, 0].mean()
    saturation = (spread[:, 0] - spread[:, 1]) / contrast
    for value, low, high in ((contrast, 0.5, 1.5), (saturation, 0.0, 2.0)):
        assert low - 1e-4 <= value.min() < low + 0.02 and high - 0.02 < value.max() <= high + 1e-4


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


@pytest.mark.parametrize("policy", ["translation", "cutout"])
def test_pictures_on_white_stay_on_white(policy):
    torch.manual_seed(3)
    white = torch.ones(6, 3, 16, 16)
    assert torch.equal(augment((white,), [policy], fill=1.0)[0], white)
    assert (augment((white,), [policy])[0] == 0).any()
