"""Pictures to judge: drawn, read from a folder, or cut out of rows."""

import threading

import numpy as np
import pytest
import torch
from conftest import CAPTIONS, encoded, write_dataset
from PIL import Image
from torch.testing import assert_close

from t2i_supcon.data import build_tokenizer, load_rows, to_uint8
from t2i_supcon.evaluation import DrawnPictures, FolderPictures, Prompt, choose_prompts
from t2i_supcon.evaluation.pictures import Pictures, RealPictures, ahead, read_groups


def test_a_picture_depends_on_seed_and_number_alone(model):
    prompts = [Prompt(CAPTIONS[i % 4], i % 3) for i in range(7)]
    composite, tokenizer = model
    parts = composite.text_encoder, composite.generator, tokenizer
    pictures = DrawnPictures(*parts, prompts, seed=3)
    together = torch.cat([batch.images for batch in pictures.batches(7)])
    found = {}
    for process in range(2):
        for batch in pictures.batches(2, process, 2):
            found |= dict(zip(batch.numbers, batch.images))
    assert sorted(found) == list(range(7))
    assert_close(torch.stack([found[i] for i in range(7)]), together, rtol=1e-5, atol=1e-5)
    assert not torch.equal(together[0], torch.cat([b.images for b in DrawnPictures(*parts, prompts).batches(7)])[0])


def test_prompts_follow_the_rows(tiny_data):
    rows = load_rows(str(tiny_data), "train")
    first = choose_prompts(rows, "first", None, seed=0)
    assert [prompt.caption for prompt in first[:3]] == [row[0] for row in rows["captions"][:3]]
    assert [prompt.label for prompt in first] == rows["label"][:]
    assert len(choose_prompts(rows, "all", None, seed=0)) == 48
    assert choose_prompts(rows, "first", 30, seed=0) == first + first[:6]
    assert choose_prompts(rows, "first", 2, seed=0) == [first[0], first[-1]]
    random_ones = [choose_prompts(rows, "random", None, seed=seed) for seed in (0, 0, 1)]
    assert random_ones[0] == random_ones[1] != random_ones[2]
    knows_stars = build_tokenizer(["star"], max_words=3)
    assert {prompt.caption for prompt in choose_prompts(rows, "all", None, 0, knows_stars)} == {"yellow star"}
    with pytest.raises(ValueError, match="no row has a caption with a word that the model knows"):
        choose_prompts(rows, "all", None, 0, build_tokenizer(["zebra"], max_words=3))


def test_labels_of_a_folder_come_from_its_pictures(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert FolderPictures(tmp_path).prompts == [Prompt("", -1)]


def test_a_folder_is_decoded_as_real_pictures_are(tmp_path):
    """Transparent pixels on white, greys of 16 bits scaled, and damage named."""
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "a.png")
    Image.new("I;16", (8, 8), 0).save(tmp_path / "b.png")
    Image.new("I;16", (8, 8), 65535).save(tmp_path / "c.png")
    (batch,) = FolderPictures(tmp_path).batches(3)
    assert [image.unique().tolist() for image in batch.images] == [[1], [-1], [1]]
    whole = (tmp_path / "c.png").read_bytes()
    for damaged in (b"", whole[:20], whole[:45], whole[:30] + b"x" + whole[31:]):
        (tmp_path / "d.png").write_bytes(damaged)
        with pytest.raises(ValueError, match="d.png cannot be read as a picture"):
            FolderPictures(tmp_path)


def test_real_pictures_are_the_middle_of_their_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 3), dtype=np.uint8)
    folder = write_dataset(tmp_path / "rows", [0, 1, 2], images=[encoded(Image.fromarray(pixels))] * 3)
    pictures = RealPictures(load_rows(str(folder), "train"), 12)
    assert pictures.prompts == [Prompt("", 0), Prompt("", 1), Prompt("", 2)]
    shares = [batch for process in range(2) for batch in pictures.batches(1, process, 2)]
    assert [batch.numbers for batch in shares] == [[0], [2], [1]]
    for batch in shares:
        assert (to_uint8(batch.images)[0] == pixels[4:16]).all()


def test_batches_are_made_ahead_in_order_and_errors_come_through():
    second = threading.Event()

    def batches():
        yield Pictures([0], None)
        second.set()
        yield Pictures([1], None)
        raise ValueError("the third is broken")

    coming = ahead(batches())
    assert next(coming).numbers == [0]
    assert second.wait(timeout=60)  # though nobody has asked for it
    assert next(coming).numbers == [1]
    with pytest.raises(ValueError, match="the third is broken"):
        next(coming)


def test_pixels_are_rounded_and_clamped():
    values = torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 2.0])
    assert to_uint8(values.expand(1, 3, 1, 6))[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


def test_groups_are_names_of_names(tmp_path):
    path = tmp_path / "groups.json"
    path.write_text('{"fox": "animal"}')
    assert read_groups(path) == {"fox": "animal"}
    for content in ('["fox"]', '{"fox": 3}'):
        path.write_text(content)
        with pytest.raises(ValueError, match="groups.json is no mapping of label names to group names"):
            read_groups(path)
