"""CUB's official archives, drawn small, to batches a training step reads; and what is wrong with
broken ones."""

import os
import pickle
from pathlib import Path

import pytest
from data.conftest import BIRDS, CLASSES, jpeg, numbered, prepare_cub, python2_pickle, training_batch

from t2i_supcon.data import decode_image, load_rows


def test_cub_to_a_training_batch(tmp_path, cub, caplog):
    out = prepare_cub(tmp_path, cub)
    assert caplog.text == ""  # nothing is left out
    train, test = load_rows(str(out), "train"), load_rows(str(out), "test")
    assert (len(train), len(test)) == (10, 5) and sorted(p.name for p in out.glob("train*"))[
        0
    ] == "train-00000-of-00003.parquet"
    assert train.features["label"].names == CLASSES and set(train["label"]) == {0, 1} and set(test["label"]) == {2}
    for row in train:
        number = BIRDS.index(row["image_id"])
        assert row["image"]["bytes"] == cub["images"][f"CUB_200_2011/images/{BIRDS[number]}.jpg"]
        assert row["bbox"] == [number, 2.0, 10.5, 12.0] and row["labels"] == [row["label"]] == [number % 3]
        assert len(row["captions"]) == 10 and row["captions"][3] == f"a bird number {number} with word 3"
    assert sorted(train["image_id"]) != list(train["image_id"])  # shuffled
    batch = training_batch(out)
    assert batch.images[1].shape == (4, 3, 16, 16) and batch.labels[0] == batch.labels[2]
    card = (out / "README.md").read_text()
    assert (
        "non-commercial" in card
        and "seed 0" in card
        and "`train`: 10 rows, 100 captions" in card
        and CLASSES[2] in card
    )
    assert not list(out.glob("*.partial")) and not (out / ".work").exists()


def test_cub_official_split_resized(tmp_path, cub):
    out = prepare_cub(tmp_path, cub, "--split", "official", "--resize", "12", "--seed", "3")
    rows = load_rows(str(out), "train")
    assert len(rows) == 7 and len(load_rows(str(out), "test")) == 8
    for row in rows:
        assert decode_image(row["image"], "row").size == (12, 12) and row["bbox"][1:] == [1.0, 5.25, 6.0]


@pytest.mark.parametrize(
    ("part", "name", "data", "message"),
    [
        ("texts", f"text/{BIRDS[4]}.txt", None, f"{BIRDS[4]}.txt of .* are missing"),
        ("texts", f"text/{BIRDS[4]}.txt", b"\n...\n", f"{BIRDS[4]}.jpg: it has no caption"),
        ("images", f"CUB_200_2011/images/{BIRDS[4]}.jpg", jpeg(4)[:300], f"{BIRDS[4]}.jpg .* cannot be decoded"),
        ("images", f"CUB_200_2011/images/{BIRDS[4]}.jpg", None, f"{BIRDS[4]}.jpg is missing"),
        ("images", "CUB_200_2011/image_class_labels.txt", numbered([9] * 15), "the class 9, which classes.txt lacks"),
        ("images", "CUB_200_2011/bounding_boxes.txt", b"1 0 0 5 5\n", "image 2 is missing in bounding_boxes.txt"),
        (
            "images",
            "CUB_200_2011/bounding_boxes.txt",
            numbered(["1 2 3 4"] * 2 + ["1 2 3"] * 13),
            f"image 3 .*{BIRDS[2]}.jpg.*'1 2 3' is not four",
        ),
        (
            "images",
            "CUB_200_2011/bounding_boxes.txt",
            numbered(["1 2 3 x"] * 15),
            "image 1 .*'1 2 3 x' is not four numbers",
        ),
        (
            "images",
            "CUB_200_2011/bounding_boxes.txt",
            numbered(["1 2 3 nan"] * 15),
            "image 1 .*'1 2 3 nan' has no area",
        ),
        (
            "images",
            "CUB_200_2011/bounding_boxes.txt",
            numbered(["1 2 0 5"] * 15),
            "bounding_boxes.txt: image 1 .*'1 2 0 5' has no area",
        ),
        (
            "images",
            "CUB_200_2011/bounding_boxes.txt",
            numbered(["24 2 5 5"] * 15),
            r"\.jpg .row .*box \[24.0, .* outside the image of 24 x 24 px",
        ),
        (
            "images",
            "CUB_200_2011/bounding_boxes.txt",
            numbered(["1 2 3 4"] * 16),
            "bounding_boxes.txt lists the image 16, which images.txt lacks",
        ),
        (
            "images",
            "CUB_200_2011/train_test_split.txt",
            numbered([1] * 16),
            "train_test_split.txt lists the image 16, which images.txt lacks",
        ),
        (
            "images",
            "CUB_200_2011/images.txt",
            numbered(f"{bird}.jpg" for bird in BIRDS) + b"3 x.jpg",
            "images.txt has two lines 3",
        ),
        (
            "images",
            "CUB_200_2011/images.txt",
            numbered(f"{bird}.jpg" for bird in [*BIRDS, BIRDS[3]]),
            f"images.txt lists .*{BIRDS[3]}.jpg twice",
        ),
        ("images", "../escape.txt", b"", "leads out of the archive"),
        ("pickles", "birds/test/filenames.pickle", None, "--filenames-test"),
        ("pickles", "birds/test/filenames.pickle", python2_pickle([BIRDS[0]], 2), "is in both splits"),
        ("pickles", "birds/test/filenames.pickle", python2_pickle(["Dodo"], 2), "lists 'Dodo'"),
        ("pickles", "birds/test/filenames.pickle", pickle.dumps(Path("x")), "only lists, dicts, strings"),
    ],
)
def test_mistakes_in_cub_are_named(tmp_path, cub, part, name, data, message):
    if data is None:
        del cub[part][name]
    else:
        cub[part][name] = data
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        prepare_cub(tmp_path, cub)


@pytest.mark.parametrize(
    ("sides", "message"),
    [([1] * 12, "image 13 is missing in train_test_split.txt"), ([1, 2] * 8, "image 2 the side '2'")],
)
def test_mistakes_in_the_official_split_are_named(tmp_path, cub, sides, message):
    cub["images"]["CUB_200_2011/train_test_split.txt"] = numbered(sides[:15])
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        prepare_cub(tmp_path, cub, "--split", "official")


def test_class_names_of_several_words_and_pictures_of_other_suffixes(tmp_path, cub):
    """Flowers in the layout of CUB; two files are called otherwise than images.txt says."""
    names = ["tiger lily", "fire lily", "rose"]
    files = {name.replace("_Albatross", " lily"): data for name, data in cub["images"].items()}
    files["CUB_200_2011/classes.txt"] = numbered(names)
    files["CUB_200_2011/images.txt"] = files["CUB_200_2011/images.txt"].replace(b"_Albatross", b" lily")
    flowers = [bird.replace("_Albatross", " lily") for bird in BIRDS]
    for number, suffix in ((0, ".JPG"), (1, ".png")):
        files[f"CUB_200_2011/images/{flowers[number]}{suffix}"] = files.pop(
            f"CUB_200_2011/images/{flowers[number]}.jpg"
        )
    texts = {name.replace("_Albatross", " lily"): data for name, data in cub["texts"].items()}
    out = prepare_cub(tmp_path, {**cub, "images": files, "texts": texts}, "--split", "official")
    rows = load_rows(str(out), "train")
    assert rows.features["label"].names == names and set(rows["image_id"]) == set(flowers[:7])


@pytest.mark.parametrize(
    ("part", "name", "data", "message"),
    [
        ("images", "CUB_200_2011/classes.txt", numbered(["a", "b", "a"]), "2 labels are called 'a'"),
        ("images", "CUB_200_2011/classes.txt", b"1 caf\xe9\n", "classes.txt: it is not in UTF-8"),
        ("images", "more/images.txt", b"", "it holds both .*images.txt and more/images.txt"),
        ("texts", f"more/{BIRDS[2]}.txt", b"another caption\n", f"{BIRDS[2]}.txt of .* differ between "),
        ("pickles", "more/train/filenames.pickle", b"(lp0\n.", "it holds both birds/train/filenames.pickle and more/"),
    ],
)
def test_what_stands_twice_in_cub_is_named(tmp_path, cub, part, name, data, message):
    cub[part][name] = data
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        prepare_cub(tmp_path, cub)


@pytest.mark.parametrize("option", ["--images", "--captions", "--output"])
def test_pipes_and_links_to_themselves_are_one_line(tmp_path, cub, option):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "loop"):
        with pytest.raises(SystemExit, match=f"^error: .*{name}"):
            prepare_cub(tmp_path, cub, option, str(tmp_path / name))


def test_images_in_no_list_are_left_out_and_counted(tmp_path, cub, caplog):
    cub["images"]["CUB_200_2011/images/003.Sooty_Albatross/Extra.jpg"] = jpeg(99)
    cub["pickles"]["birds/train/filenames.pickle"] = python2_pickle(
        [bird for bird in BIRDS if not bird.startswith("003")][:-2], 2
    )
    out = prepare_cub(tmp_path, cub)
    assert len(load_rows(str(out), "train")) == 8 and len(load_rows(str(out), "test")) == 5
    assert "3 of 16 images" in caplog.text and "are left out" in caplog.text
