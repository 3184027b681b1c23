"""Images to tensors."""

import io
import os
import struct
import zipfile

import datasets
import numpy as np
import pytest
import torch
from conftest import encoded, picture
from PIL import Image, features
from torch.testing import assert_close

from t2i_supcon.data import BrokenRowError, decode_image, image_pyramid, scale_pixels, to_pil
from t2i_supcon.data.transforms import crop_to_bbox


def test_an_image_of_the_right_size_keeps_its_pixels():
    image = picture(0, 16)
    tensor = scale_pixels(image_pyramid(image, (16,))[0])
    assert_close(tensor, torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1)
    assert np.array_equal(np.array(to_pil(tensor)), np.array(image))


def test_the_centre_of_a_wide_image_is_taken_when_nothing_is_random():
    image = Image.new("RGB", (60, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    tensor = scale_pixels(image_pyramid(image, (20,))[0])
    assert_close(tensor, torch.tensor([-1.0, -1.0, 1.0])[:, None, None].expand(3, 20, 20))


def test_every_scale_shows_the_same_square():
    low, high = image_pyramid(picture(1, 40), (8, 16), rng=np.random.default_rng(0), random_crop=True, flip=True)
    assert low.shape == (8, 8, 3) and high.shape == (16, 16, 3)
    assert np.array_equal(np.array(Image.fromarray(high.numpy()).resize((8, 8), Image.Resampling.BILINEAR)), low)


@pytest.mark.parametrize("side", [(57, 40), (33, 61), (200, 150)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_resizing_only_the_square_equals_cropping_it_out_of_the_whole(side, seed):
    image = Image.fromarray(np.random.default_rng(9).integers(0, 256, (side[1], side[0], 3), dtype=np.uint8))
    cut = image_pyramid(image, (32,), rng=np.random.default_rng(seed), random_crop=True)[0]
    rng = np.random.default_rng(seed)
    scale = 38 / min(side)  # int(32 * 76 / 64)
    whole = image.resize((max(38, round(side[0] * scale)), max(38, round(side[1] * scale))), Image.Resampling.BILINEAR)
    left, top = int(rng.integers(whole.width - 31)), int(rng.integers(whole.height - 31))
    plain = np.array(whole)[top : top + 32, left : left + 32]
    assert np.abs(cut.numpy().astype(int) - plain).max() <= 1


def test_random_choices_follow_the_generator():
    image = picture(2, 40)
    draws = [
        image_pyramid(image, (16,), rng=np.random.default_rng(seed), random_crop=True, flip=True)[0]
        for seed in (0, 0, *range(1, 9))
    ]
    assert torch.equal(draws[0], draws[1])
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) > 4
    flipped = [image_pyramid(image, (40,), rng=np.random.default_rng(seed), flip=True)[0] for seed in range(20)]
    plain = image_pyramid(image, (40,))[0]
    mirrored = sum(torch.equal(f, plain.flip(1)) for f in flipped)
    assert 0 < mirrored < 20 and mirrored + sum(torch.equal(f, plain) for f in flipped) == 20


def test_bbox_crop_by_hand():
    image = picture(3, 100)
    # centre (40, 45), half side int(0.75 * 30) = 22
    assert np.array_equal(np.array(crop_to_bbox(image, [30.7, 30.2, 20.0, 30.9])), np.array(image)[23:67, 18:62])
    assert crop_to_bbox(image, [0, 0, 10, 10]).size == (12, 12)  # clipped at the corner


@pytest.mark.parametrize(
    "box", [[5, 5, 0, 0], [5, 5, 1, 1], [200, 5, 10, 10], [5, 200, 10, 10], [-90, 5, 10, 10], [5, 5, -9, -9]]
)
def test_a_box_without_pixels_is_refused(box):
    with pytest.raises(BrokenRowError, match=r"the bounding box \[.*\] holds nothing of the image of 100 x 90 pixels"):
        image_pyramid(Image.new("RGB", (100, 90)), (16,), [float(value) for value in box])


@pytest.mark.parametrize(
    "box", [[], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, float("nan"), 4.0], [1.0, 2.0, None, 4.0]]
)
def test_a_box_that_is_not_four_numbers_is_refused(box):
    with pytest.raises(BrokenRowError, match=r"the bounding box \[.*\] is not four numbers"):
        image_pyramid(Image.new("RGB", (100, 90)), (16,), box)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_as_datasets_does(kind, orientation):
    image = Image.new("RGBA" if kind == "PNG" else "RGB", (40, 24), "red")
    image.paste("blue", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif)
    value = {"bytes": file.getvalue(), "path": None}
    upright = datasets.Image(mode="RGB").decode_example(value)
    assert upright.size == ((40, 24) if orientation < 5 else (24, 40))
    assert np.array_equal(np.array(decode_image(value, "row")), np.array(upright))


def test_damaged_exif_leaves_the_pixels_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture(0).save(file, "WEBP", exif=exif, lossless=True)
    data = file.getvalue().replace(b"MM\x00*", b"MM\x00?")
    assert data != file.getvalue()
    assert np.array_equal(np.array(decode_image({"bytes": data, "path": None}, "row")), np.array(picture(0)))


def test_16_bit_greys_keep_their_brightness():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257  # 257 = 65535 / 255
    for kind in ("PNG", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, kind)
        pixels = np.array(decode_image({"bytes": file.getvalue(), "path": None}, "row"))
        assert np.array_equal(pixels, np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2))


def greys_of_12_bits():
    """A TIFF by hand; PIL writes none."""
    bits = "".join(f"{value:012b}" for value in np.arange(256) * 16 + 15)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = [(256, 16), (257, 16), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_wide_greys_of_other_formats_keep_their_brightness():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    files = {
        "PGM": b"P5 16 16 65535\n" + grey.astype(">u2").tobytes(),
        "PGM of 12 bits": b"P5 16 16 4095\n" + (grey // 16).astype(">u2").tobytes(),
        "TIFF of 12 bits": greys_of_12_bits(),
    }
    for name, data in files.items():
        pixels = np.array(decode_image({"bytes": data, "path": None}, name))
        assert np.abs(pixels[..., 0].astype(int).ravel() - np.arange(256)).max() <= 1, name


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_greys_of_unknown_brightness_are_refused(kind):
    file = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=kind).reshape(16, 16)).save(file, "TIFF")
    with pytest.raises(BrokenRowError, match="^row 7: the image cannot be decoded .its pixels have 32 bits"):
        decode_image({"bytes": file.getvalue(), "path": None}, "row 7")


def test_images_are_read_out_of_zip_archives_and_never_from_pipes(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.png", encoded(picture(3)))
    inside = decode_image({"bytes": None, "path": f"zip://a.png::{tmp_path}/b.zip"}, "row")
    assert np.array_equal(np.array(inside), np.array(picture(3)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BrokenRowError, match="^row 7: the image .*/pipe cannot be decoded .it is no file but"):
        decode_image({"bytes": None, "path": str(tmp_path / "pipe")}, "row 7")


def test_broken_image_files_are_named(tmp_path):
    picture(0).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:400])
    with pytest.raises(BrokenRowError, match=r"^row 7: the image .*/a.jpg cannot be decoded \("):
        decode_image({"bytes": None, "path": str(tmp_path / "a.jpg")}, "row 7")
    with pytest.raises(BrokenRowError, match=r"^row 7: the image .*/b.jpg cannot be decoded \(.*No such file"):
        decode_image({"bytes": None, "path": str(tmp_path / "b.jpg")}, "row 7")


@pytest.mark.skipif(not features.check("avif"), reason="this PIL reads no AVIF")
def test_broken_avif_is_a_broken_row():
    file = io.BytesIO()
    picture(0).save(file, "AVIF")
    with pytest.raises(BrokenRowError, match="row 7: the image cannot be decoded .Failed to decode"):
        decode_image({"bytes": file.getvalue()[:-100], "path": None}, "row 7")


def test_transparent_pixels_become_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    file = io.BytesIO()
    image.save(file, "PNG")
    assert decode_image({"bytes": file.getvalue(), "path": None}, "row").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("bad", [b"", b"no image", encoded(picture(0))[:-40]])
def test_broken_images_are_named(bad):
    with pytest.raises(BrokenRowError, match=r"row 7 \(bird-7\): the image cannot be decoded"):
        decode_image({"bytes": bad, "path": None}, "row 7 (bird-7)")


@pytest.mark.parametrize("missing", [None, {"bytes": None, "path": None}])
def test_missing_images_are_named(missing):
    with pytest.raises(BrokenRowError, match=r"row 7 \(bird-7\): it has no image"):
        decode_image(missing, "row 7 (bird-7)")
