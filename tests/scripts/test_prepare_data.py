"""The official archives, drawn small, to batches a training step reads; resumed, repeated and
broken runs."""

import gzip
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import picture
from huggingface_hub import CommitOperationDelete, HfApi

from t2i_supcon.data import (
    Batches,
    BatchSampler,
    Collator,
    StreamedRows,
    TrainingRows,
    build_tokenizer,
    decode_image,
    load_rows,
    shards,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from prepare_data import main

CLASSES = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
BIRDS = [f"{CLASSES[i % 3]}/Bird_{i:04d}_{i}" for i in range(15)]


DIES_AT_ROW_SIX = """
import os, signal, sys
from t2i_supcon.data import shards
from prepare_data import main

rows = []

def die(row, data, resize, original=shards._with_image):
    rows.append(row)
    if len(rows) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(row, data, resize)

shards._with_image = die
main(sys.argv[1:])
"""


def jpeg(seed, size=24):
    file = io.BytesIO()
    picture(seed, size).save(file, "JPEG")
    return file.getvalue()


def write_tgz(path, files):
    """The same bytes for the same files, whenever it is written."""
    with gzip.GzipFile(path, "wb", mtime=0) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


def python2_pickle(names, protocol):
    """What Python 2 wrote for a list of byte strings."""
    if protocol == 0:
        return ("(lp0\n" + "".join(f"S'{name}'\np{i}\na" for i, name in enumerate(names, 1)) + ".").encode()
    return b"\x80\x02]q\x00(" + b"".join(b"U" + bytes([len(name)]) + name.encode() for name in names) + b"e."


def numbered(values):
    return "".join(f"{i} {value}\n" for i, value in enumerate(values, 1)).encode()


@pytest.fixture
def cub(tmp_path):
    """Files of CUB_200_2011.tgz and birds.zip by name; tests change them before `prepare_cub`
    writes the archives."""
    resource_fork = b"\0\5\26\7"  # what a Mac packs beside a file
    beside = {
        "attributes.txt": b"1 has_bill_shape::curved\n",
        "._attributes.txt": resource_fork,
        "CUB_200_2011/README": b"CUB",
    }
    beside |= {
        "CUB_200_2011/parts/parts.txt": b"1 back\n",
        f"CUB_200_2011/images/{CLASSES[0]}/._Bird_0000_0.jpg": resource_fork,
    }
    images = {
        "images.txt": numbered(f"{bird}.jpg" for bird in BIRDS),
        "classes.txt": numbered(CLASSES),
        "image_class_labels.txt": numbered(i % 3 + 1 for i in range(15)),
        "train_test_split.txt": numbered(int(i < 7) for i in range(15)),
        "bounding_boxes.txt": numbered(f"{i}.0 2.0 10.5 12.0" for i in range(15)),
        **{f"images/{bird}.jpg": jpeg(i) for i, bird in enumerate(BIRDS)},
    }
    texts = {
        f"text/{bird}.txt": "\n".join(f"a bird number {i} with word {k}" for k in range(10)).encode()
        for i, bird in enumerate(BIRDS)
    }
    train, test = [b for b in BIRDS if not b.startswith("003")], [b for b in BIRDS if b.startswith("003")]
    texts |= {
        f"__MACOSX/text/{CLASSES[0]}/._Bird_0000_0.txt": resource_fork,
        f"text/{CLASSES[0]}/._Bird_0000_0.txt": resource_fork,
    }
    pickles = {
        "birds/train/filenames.pickle": python2_pickle(train, 0),
        "birds/test/filenames.pickle": python2_pickle(test, 2),
    }
    pickles |= {
        f"birds/{split}/{name}.pickle": b"(no list"
        for split in ("train", "test")
        for name in ("class_info", "char-CNN-RNN-embeddings")
    }
    pickles |= {
        f"__MACOSX/birds/{name}": resource_fork
        for name in ("._text.zip", "train/._filenames.pickle", "test/._filenames.pickle")
    }
    pickles["birds/.DS_Store"] = resource_fork
    return {
        "images": beside | {f"CUB_200_2011/{name}": data for name, data in images.items()},
        "texts": texts,
        "pickles": pickles,
    }


def cub_command(folder, cub, *more):
    """Writes the archives; gives the arguments that prepare them."""
    inner = write_zip(folder / "text.zip", cub["texts"]).read_bytes()
    write_tgz(folder / "CUB_200_2011.tgz", cub["images"])
    write_zip(folder / "birds.zip", {"birds/text.zip": inner, **cub["pickles"]})
    archives = ["--images", f"{folder}/CUB_200_2011.tgz", "--captions", f"{folder}/birds.zip"]
    return ["cub", *archives, "--output", f"{folder}/cub", "--shard-rows", "4", *more]


def prepare_cub(folder, cub, *more):
    main(cub_command(folder, cub, *more))
    return folder / "cub"


def training_batch(folder, num_classes=None):
    """The first label pairs of a stream of the shards."""
    rows = load_rows(str(folder), "train", streaming=True)
    tokenizer = build_tokenizer((caption for captions in rows["captions"] for caption in captions), 18)
    samples = TrainingRows(None, tokenizer, (8, 16), 0, random_crop=True, flip=True)
    column = "label" if num_classes is None else "labels"
    return next(
        iter(Batches(samples, BatchSampler(StreamedRows(rows, column, 0), 4, 0, pairs=True), Collator(2, num_classes)))
    )


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


def test_a_killed_run_goes_on_and_a_finished_one_is_left_alone(tmp_path, cub, monkeypatch):
    whole = prepare_cub(tmp_path, cub)
    expected = {path.name: path.read_bytes() for path in whole.iterdir()}
    whole.rename(tmp_path / "whole")
    reads = []

    def die(row, data, resize, original=shards._with_image):
        reads.append(row["image_id"])
        if len(reads) == 6:
            raise KeyboardInterrupt
        return original(row, data, resize)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "_with_image", die)
        prepare_cub(tmp_path, cub)
    out = tmp_path / "cub"
    assert [path.name for path in out.glob("*.parquet")] == ["train-00000-of-00003.parquet"] and not (
        out / "manifest.json"
    ).exists()
    written = (out / "train-00000-of-00003.parquet").stat().st_mtime_ns
    with pytest.raises(SystemExit, match="other options \\(seed\\)"):
        prepare_cub(tmp_path, cub, "--seed", "1")
    prepare_cub(tmp_path, cub)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected
    assert (out / "train-00000-of-00003.parquet").stat().st_mtime_ns == written
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_shard", None)
        prepare_cub(tmp_path, cub)
    with pytest.raises(SystemExit, match="error: .* other options"):
        prepare_cub(tmp_path, cub, "--resize", "8")
    with pytest.raises(SystemExit, match="the data is whole in .* could not be uploaded to 'me/birds'"):
        prepare_cub(tmp_path, cub, "--push-to-hub", "me/birds")
    boxes = cub["images"]["CUB_200_2011/bounding_boxes.txt"]
    cub["images"]["CUB_200_2011/bounding_boxes.txt"] = boxes.replace(b" 2", b" 3")  # another file of the same size
    with pytest.raises(SystemExit, match="other options \\(images\\)"):
        prepare_cub(tmp_path, cub)


def test_an_archive_mended_after_a_failed_run_is_read_anew(tmp_path, cub):
    boxes = cub["images"]["CUB_200_2011/bounding_boxes.txt"]
    cub["images"]["CUB_200_2011/bounding_boxes.txt"] = b"1 0 0 5 5\n"
    with pytest.raises(SystemExit, match="image 2 is missing in bounding_boxes.txt"):
        prepare_cub(tmp_path, cub)
    cub["images"]["CUB_200_2011/bounding_boxes.txt"] = boxes
    assert len(load_rows(str(prepare_cub(tmp_path, cub)), "train")) == 10


def test_a_run_ended_by_sigkill_goes_on_to_the_same_bytes(tmp_path, cub):
    whole = prepare_cub(tmp_path, cub)
    expected = {path.name: path.read_bytes() for path in whole.iterdir()}
    whole.rename(tmp_path / "whole")
    command, out = cub_command(tmp_path, cub), tmp_path / "cub"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", DIES_AT_ROW_SIX, *command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {path.name for path in out.iterdir()} == {
        "train-00000-of-00003.parquet",
        "train-00001-of-00003.parquet.partial",
        ".work",
    }
    main(command)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


def test_what_a_killed_run_left_is_removed_and_an_upload_replaces_the_shards_there(tmp_path, cub, monkeypatch):
    out = prepare_cub(tmp_path, cub)
    (out / ".work" / "unpacked").mkdir(parents=True)
    prepare_cub(tmp_path, cub)
    assert not (out / ".work").exists()

    shard = "train-00000-of-00003.parquet"
    there = [
        "README.md",
        ".gitattributes",
        "train-00000-of-00009.parquet",
        "test-00008-of-00009.parquet",
        shard,
        "more/train.parquet",
    ]
    sent = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, *args, **options: None)
    monkeypatch.setattr(HfApi, "_validate_yaml", lambda self, **options: None)
    monkeypatch.setattr(HfApi, "list_repo_files", lambda self, **options: there)
    monkeypatch.setattr(HfApi, "create_commit", lambda self, operations, **options: sent.extend(operations))
    monkeypatch.setattr("huggingface_hub.hf_api.is_xet_available", lambda: False)
    (out / ".work").mkdir()
    (out / ".work" / "options.json").write_text("{}")
    (out / "train-00000-of-00003.parquet.partial").write_bytes(b"")
    shards.push_shards(out, "me/birds")
    removed = {operation.path_in_repo for operation in sent if isinstance(operation, CommitOperationDelete)}
    added = {operation.path_in_repo for operation in sent if not isinstance(operation, CommitOperationDelete)}
    assert removed == {"train-00000-of-00009.parquet", "test-00008-of-00009.parquet"}
    assert added == {"README.md", "manifest.json", *(path.name for path in out.glob("*.parquet"))} and shard in added


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


def test_foreign_files_in_the_output_are_neither_kept_nor_lost(tmp_path, cub):
    whole = prepare_cub(tmp_path, cub)
    shard = (whole / "train-00001-of-00003.parquet").read_bytes()
    whole.rename(tmp_path / "whole")
    out = tmp_path / "cub"
    for name, data in (("train-00001-of-00003.parquet", b"PAR1"), ("README.md", b"# mine")):
        out.mkdir()
        (out / name).write_bytes(data)
        with pytest.raises(SystemExit, match=f"^error: .*{name} was not made by this preparation; give another"):
            prepare_cub(tmp_path, cub)
        assert [path.name for path in out.iterdir()] == [name] and (out / name).read_bytes() == data
        shutil.rmtree(out)
    prepare_cub(tmp_path, cub, "--seed", "5")
    (out / "train-00001-of-00003.parquet").write_bytes(shard)  # of the same count, made with another seed
    with pytest.raises(SystemExit, match="train-00001-of-00003.parquet was not made by this preparation"):
        prepare_cub(tmp_path, cub, "--seed", "5")
    (out / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(SystemExit, match="manifest.json: no preparation wrote this file"):
        prepare_cub(tmp_path, cub, "--seed", "5")


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


@pytest.fixture
def coco():
    """The two JSON files of each part of COCO 2014, five images each: the last one without
    objects."""
    files, categories = {}, [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    for part in ("train2014", "val2014"):
        images = [{"id": 10 + i, "file_name": f"COCO_{part}_{10 + i:012d}.jpg"} for i in range(5)]
        captions = [
            {"image_id": 10 + i, "id": 5 * i + k, "caption": f"a person and dog {i} seen {k} times"}
            for i in range(5)
            for k in range(5)
        ]
        boxes = [(10 + i, c, a) for i in range(4) for c, a in ((1, 30.0), (18, 20.0), (18, 5.0))] + [(10, 90, 1.5)]
        instances = [
            {"id": k, "image_id": i, "category_id": c, "area": a, "bbox": [0, 0, 5, 5], "segmentation": [[0, 0, 5, 5]]}
            for k, (i, c, a) in enumerate(boxes)
        ]
        files[f"annotations/captions_{part}.json"] = {"images": images, "annotations": captions}
        files[f"annotations/instances_{part}.json"] = {
            "images": images,
            "annotations": instances,
            "categories": categories,
        }
    return files


def prepare_coco(folder, coco, *more, missing=()):
    for part in ("train2014", "val2014"):
        names = [image["file_name"] for image in coco[f"annotations/captions_{part}.json"]["images"]]
        files = {f"{part}/{name}": jpeg(i) for i, name in enumerate(names) if name not in missing}
        write_zip(folder / f"{part}.zip", {**files, **{f"__MACOSX/{part}/._{name}": b"\0\5\26\7" for name in names}})
    annotations = write_zip(
        folder / "annotations_trainval2014.zip", {name: json.dumps(value) for name, value in coco.items()}
    )
    images = [str(folder / "train2014.zip"), str(folder / "val2014.zip")]
    main(["coco", "--images", *images, "--annotations", str(annotations), "--output", str(folder / "coco"), *more])
    return folder / "coco"


def test_coco_to_a_training_batch(tmp_path, coco):
    out = prepare_coco(tmp_path, coco)
    rows = load_rows(str(out), "train")
    assert len(rows) == len(load_rows(str(out), "test")) == 5 and rows.features["label"].names == [
        "person",
        "dog",
        "toothbrush",
    ]
    by_id = {row["image_id"]: row for row in rows}
    assert (
        by_id["COCO_train2014_000000000010"]["labels"] == [0, 1, 2]
        and len(by_id["COCO_train2014_000000000011"]["captions"]) == 5
    )
    assert by_id["COCO_train2014_000000000014"]["label"] == -1 and by_id["COCO_train2014_000000000014"]["labels"] == []
    assert all(row["bbox"] is None for row in rows)
    batch = training_batch(out, num_classes=3)
    assert batch.images[0].shape == (4, 3, 8, 8) and batch.labels.shape == (4, 3) and batch.labels.sum() > 0
    assert (
        "1 rows without a label" in (out / "README.md").read_text() and "`largest`" in (out / "README.md").read_text()
    )


@pytest.mark.parametrize(("rule", "expected"), [("largest", [0, 0]), ("most_frequent", [1, 1]), ("rarest", [2, 0])])
def test_label_rules(tmp_path, coco, rule, expected):
    by_id = {
        row["image_id"]: row["label"]
        for row in load_rows(str(prepare_coco(tmp_path, coco, "--label-rule", rule)), "train")
    }
    assert [by_id["COCO_train2014_000000000010"], by_id["COCO_train2014_000000000011"]] == expected


def test_the_areas_of_a_category_add_up(tmp_path, coco):
    """The person of 30 is the largest object; both dogs together are larger."""
    for entry in coco["annotations/instances_train2014.json"]["annotations"]:
        entry["area"] += 6.0 * (entry["category_id"] == 18)
    assert {row["label"] for row in load_rows(str(prepare_coco(tmp_path, coco)), "train") if row["labels"]} == {1}


def test_mistakes_in_coco_are_named(tmp_path, coco):
    with pytest.raises(
        SystemExit, match="error: .*the image COCO_val2014_000000000012.jpg of captions_val2014.json is missing"
    ):
        prepare_coco(tmp_path, coco, missing=["COCO_val2014_000000000012.jpg"])
    coco["annotations/instances_val2014.json"]["annotations"][3]["category_id"] = 91
    with pytest.raises(SystemExit, match="instances_val2014.json: annotation 3 has the unknown category 91"):
        prepare_coco(tmp_path, coco)
    coco["annotations/instances_val2014.json"]["annotations"][3]["category_id"] = 1
    del coco["annotations/captions_train2014.json"]["annotations"][:5]
    with pytest.raises(SystemExit, match="COCO_train2014_000000000010.jpg: it has no caption"):
        prepare_coco(tmp_path, coco)
    del coco["annotations/instances_val2014.json"]
    with pytest.raises(SystemExit, match="instances_val2014.json is missing"):
        prepare_coco(tmp_path, coco)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda captions, instances: instances.pop("categories"),
            "instances_train2014.json: the list 'categories' is missing",
        ),
        (
            lambda captions, instances: instances.pop("annotations"),
            "instances_train2014.json: the list 'annotations' is missing",
        ),
        (
            lambda captions, instances: captions.update(images={}),
            "captions_train2014.json: the list 'images' is missing",
        ),
        (
            lambda captions, instances: instances["annotations"][2].pop("area"),
            "instances_train2014.json: entry 3 of 'annotations' has no 'area'",
        ),
        (
            lambda captions, instances: captions["annotations"].append(7),
            "captions_train2014.json: entry 26 of 'annotations' has no 'id'",
        ),
        (
            lambda captions, instances: instances["annotations"][4].update(image_id=999),
            "instances_train2014.json: annotation 4 is of the unknown image 999",
        ),
        (
            lambda captions, instances: captions["annotations"][4].update(image_id=999),
            "captions_train2014.json: annotation 4 is of the unknown image 999",
        ),
        (
            lambda captions, instances: captions["images"].append({"id": 10, "file_name": "x.jpg"}),
            "the images with the id 10 are 2",
        ),
        (
            lambda captions, instances: captions["images"].append({**captions["images"][0], "id": 99}),
            "file_name 'COCO_.*10.jpg' are 2",
        ),
    ],
)
def test_lists_of_coco_that_do_not_fit_are_named(tmp_path, coco, change, message):
    change(coco["annotations/captions_train2014.json"], coco["annotations/instances_train2014.json"])
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        prepare_coco(tmp_path, coco)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, i: i["annotations"][2].update(area=float("nan")), "annotation 2 has the area nan; it must be"),
        (lambda c, i: i["annotations"][2].update(area=-1.0), "annotation 2 has the area -1.0; it must be"),
        (lambda c, i: i["annotations"][2].update(area=float("inf")), "annotation 2 has the area inf; it must be"),
        (lambda c, i: i["annotations"][2].update(area=10**400), "annotation 2 has the area 1000"),
        (lambda c, i: i["annotations"][2].update(id=1), "the annotations with the id 1 are 2; give each once"),
        (lambda c, i: i["annotations"][2].update(id=True), "entry 3 of 'annotations' has no 'id'"),
        (lambda c, i: c["annotations"][2].update(id=1), "the annotations with the id 1 are 2; give each once"),
        (lambda c, i: i["categories"][0].update(id=1), "the categories with the id 1 are 2; give each once"),
        (lambda c, i: i["categories"][0].update(name="dog"), "the categories with the name 'dog' are 2"),
        (
            lambda c, i: i.update(categories=[{"id": 18, "name": "cat"}]),
            "category 18 is 'dog', in the other file 'cat'",
        ),
    ],
)
def test_values_of_coco_that_decide_wrongly_are_named(tmp_path, coco, change, message):
    change(coco["annotations/captions_train2014.json"], coco["annotations/instances_train2014.json"])
    with pytest.raises(SystemExit, match=f"^error: .*_(train|val)2014.json: .*{message}"):
        prepare_coco(tmp_path, coco)


def test_pictures_of_one_name_in_both_parts_of_coco_are_told_apart(tmp_path, coco, caplog):
    for part in ("train2014", "val2014"):
        for number, image in enumerate(coco[f"annotations/captions_{part}.json"]["images"]):
            image["file_name"] = f"{number}.jpg"
        write_zip(tmp_path / f"{part}.zip", {f"{part}/{i}.JPG": jpeg(i + 10 * (part == "val2014")) for i in range(6)})
    annotations = write_zip(tmp_path / "a.zip", {name: json.dumps(value) for name, value in coco.items()})
    command = ["coco", "--annotations", str(annotations), "--output", str(tmp_path / "out"), "--images"]
    main([*command, str(tmp_path / "val2014.zip"), str(tmp_path / "train2014.zip")])
    for split, first in (("train", 0), ("test", 10)):
        rows = load_rows(str(tmp_path / "out"), split)
        assert {row["image_id"]: row["image"]["bytes"] for row in rows} == {str(i): jpeg(i + first) for i in range(5)}
    assert "1 of 6 images are left out" in caplog.text and "train2014/5.JPG" in caplog.text
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(SystemExit, match="the image 0.jpg of captions_val2014.json is missing"):
        main([*command, str(tmp_path / "train2014.zip")])
    for number, part in enumerate(("train2014", "val2014")):
        (tmp_path / part / part).mkdir(parents=True)
        (tmp_path / f"{part}.zip").rename(tmp_path / f"{number}.zip")
        write_zip(tmp_path / f"{number}.zip", {f"{i}.jpg": jpeg(i) for i in range(5)})
    with pytest.raises(SystemExit, match="0.jpg of captions_train2014.json may be .*0.zip/0.jpg or .*1.zip/0.jpg"):
        main([*command, str(tmp_path / "0.zip"), str(tmp_path / "1.zip")])


def prepare_folder(folder, rows, *more, table="metadata.jsonl"):
    (folder / "photos").mkdir(exist_ok=True)
    for i in range(10):
        picture(i).save(folder / "photos" / f"{i}.png")
    path = folder / "photos" / table
    path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    main(["folder", "--images", str(folder / "photos"), "--table", str(path), "--output", str(folder / "own"), *more])
    return load_rows(str(folder / "own"), "train"), load_rows(str(folder / "own"), "test")


def photo_rows(**changed):
    rows = [
        {"file_name": f"{i}.png", "captions": [f"photo {i}", "a photo"], "label": ["b", "a"] if i % 2 else "a"}
        for i in range(10)
    ]
    return [*rows[:3], {**rows[3], **changed}, *rows[4:]]


def test_a_folder_with_jsonl(tmp_path):
    train, test = prepare_folder(tmp_path, photo_rows(label=""), "--test-share", "0.3")
    assert (len(train), len(test)) == (7, 3) and train.features["label"].names == ["a", "b"]
    rows = {row["image_id"]: row for row in [*train, *test]}
    assert (
        rows["1.png"]["label"] == 1
        and rows["1.png"]["labels"] == [1, 0]
        and rows["3.png"]["label"] == -1
        and rows["3.png"]["labels"] == []
    )


def test_folders_are_compared_by_what_is_in_them(tmp_path):
    prepare_folder(tmp_path, photo_rows())
    photos, out = tmp_path / "photos", tmp_path / "photos" / "out"  # which lies among the photos itself
    command = ["folder", "--images", str(photos), "--table", str(photos / "metadata.jsonl"), "--output", str(out)]
    main(command)
    manifest = (out / "manifest.json").stat().st_mtime_ns
    main(command)
    assert (out / "manifest.json").stat().st_mtime_ns == manifest
    picture(0, size=30).save(photos / "0.png")
    with pytest.raises(SystemExit, match="other options \\(images\\)"):
        main(command)
    with pytest.raises(SystemExit, match="photos: it is read and cannot be written to"):
        main([*command[:-1], str(photos)])


def test_a_folder_with_csv(tmp_path):
    table = "file_name,caption,label,split\n" + "".join(
        f'{i}.png,"one, {i}|two",x,{"test" if i < 4 else "train"}\n' for i in range(10)
    )
    train, test = prepare_folder(tmp_path, table, "--caption-separator", "|", table="t.csv")
    assert sorted(test["image_id"]) == ["0.png", "1.png", "2.png", "3.png"] and len(train) == 6
    assert ["one, 2", "two"] in list(test["captions"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"captions": "text"}, "row 4: 'captions' must be a list"),
        ({"captions": []}, "row 4: 3.png: it has no caption"),
        ({"label": 3}, "row 4: 'label' must be a name"),
        ({"file_name": "../x.png"}, "row 4: the image ../x.png is missing"),
        ({"split": "test"}, "row 1 has no 'split'"),
        ({"captions": ["...", "一只鸟"]}, "row 4: 3.png: it has no caption with a word of ASCII"),
        ({"label": ["", "a"]}, "row 4: 'label' must be a name or a list of names, none of them empty"),
        ({"file_name": ["3.png"]}, "row 4: 'file_name' must be a name"),
        ({"file_name": "2.png"}, "row 4 gives 2.png another 'label' than row 3"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, changed, message):
    with pytest.raises(SystemExit, match=message):
        prepare_folder(tmp_path, photo_rows(**changed))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file_name,caption,label\n0.png,one, two,a\n", "row 1 has more fields than the header; quote"),
        (b"file_name,caption,label\n0.png," + b"x" * 200_000 + b",a\n", "row 1 is not CSV .*field larger"),
        (b'file_name,caption,label\n0.png,"one,a\n1.png,two,a\n', "row 1 is not CSV .*unexpected end"),
        (b"file_name,caption,label\n0.png,caf\xe9,a\n", "it is not in UTF-8"),
        (
            b"file_name,caption,label,split\n0.png,one,a,train\n1.png,two,a,\n",
            "row 2 has no 'split' though others have one",
        ),
        (
            b"file_name,caption,label,split\n0.png,one,a,train\n0.png,two,a,test\n",
            "row 2 gives 0.png another 'split' than row 1",
        ),
    ],
)
def test_mistakes_in_a_csv_are_named(tmp_path, table, message):
    (tmp_path / "t.csv").write_bytes(table)
    for i in range(2):
        picture(i).save(tmp_path / f"{i}.png")
    with pytest.raises(SystemExit, match=f"^error: .*t.csv: {message}"):
        main(
            ["folder", "--images", str(tmp_path), "--table", str(tmp_path / "t.csv"), "--output", str(tmp_path / "own")]
        )


def test_rows_of_one_file_become_one_with_all_captions(tmp_path):
    table = "file_name,caption,label\n" + "".join(
        f"{i}.png,caption {k} of {i},{'ab'[i % 2]}\n" for k in range(3) for i in range(10)
    )
    train, test = prepare_folder(tmp_path, table, "--test-share", "0.3", table="t.csv")
    assert (len(train), len(test)) == (7, 3)
    assert {row["image_id"]: row["captions"] for split in (train, test) for row in split} == {
        f"{i}.png": [f"caption {k} of {i}" for k in range(3)] for i in range(10)
    }


def test_a_column_of_empty_splits_is_none(tmp_path):
    prepare_folder(
        tmp_path, "file_name,caption,label,split\n" + "".join(f"{i}.png,one,a,\n" for i in range(10)), table="t.csv"
    )
    assert "0.1 of the rows drawn at random" in (tmp_path / "own" / "README.md").read_text()


def labels_of(*splits):
    """The label names of each row, by its id."""
    return {
        row["image_id"]: [rows.features["label"].names[label] for label in row["labels"]]
        for rows in splits
        for row in rows
    }


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_of_any_name_with_several_labels_in_a_field(tmp_path, kind):
    table = tmp_path / f"t.{kind}"
    rows = [
        {"Picture file": f"{i}.png", "What is seen": f"photo {i} | a photo", "Kind of thing": "10; 9" if i % 2 else "9"}
        for i in range(10)
    ]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif kind == "jsonl":
        table.write_text("\n".join(map(json.dumps, rows)))
    else:
        between = "," if kind == "csv" else "\t"
        table.write_text("\n".join(between.join(values) for values in [rows[0], *(row.values() for row in rows)]))
    columns = ["--image-column", "Picture file", "--caption-column", "What is seen", "--label-column", "Kind of thing"]
    separators = ["--caption-separator", "|", "--label-separator", ";"]
    (tmp_path / "photos").mkdir()
    for i in range(11):
        picture(i).save(tmp_path / "photos" / f"{i}.png")
    command = ["folder", "--images", str(tmp_path / "photos"), "--table", str(table), "--output", str(tmp_path / "own")]
    main([*command, *columns, *separators])
    train, test = (load_rows(str(tmp_path / "own"), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2) and train.features["label"].names == ["9", "10"]
    assert labels_of(train, test) == {f"{i}.png": ["10", "9"] if i % 2 else ["9"] for i in range(10)}
    captions = {row["image_id"]: row["captions"] for rows in (train, test) for row in rows}
    assert captions == {f"{i}.png": [f"photo {i}", "a photo"] for i in range(10)}
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(SystemExit, match="the column 'file_name' is missing; found 'Picture file', .* --image-column"):
        main(command)
    with pytest.raises(SystemExit, match="the column 'kind' is missing; found .* --label-column"):
        main([*command, *columns[:4], "--label-column", "kind"])


def test_a_table_without_labels_prepares_unlabelled_rows(tmp_path, caplog):
    table = "file_name,text\n" + "".join(f"{i}.png,photo {i}\n" for i in range(9))
    train, test = prepare_folder(tmp_path, table, table="t.csv")
    assert (len(train), len(test)) == (7, 2) and train.features["label"].num_classes == 0
    assert set(train["label"]) == {-1} and "sampling: independent" in caplog.text
    assert "1 of 10 images are left out" in caplog.text and "9.png" in caplog.text


def test_whole_numbers_are_labels_however_they_are_written(tmp_path):
    rows = photo_rows()
    for number, row in enumerate(rows):
        row["label"] = [10, 2, None, 2.0, [10, 2]][number % 5]
    train, test = prepare_folder(tmp_path, rows)
    assert train.features["label"].names == ["2", "10"]
    expected = [["10"], ["2"], [], ["2"], ["10", "2"]]
    assert {key: sorted(names) for key, names in labels_of(train, test).items()} == {
        f"{i}.png": expected[i % 5] for i in range(10)
    }
    shutil.rmtree(tmp_path / "own")
    table = "file_name,text,label\n" + "".join(f"{i}.png,photo,{['007', chr(178)][i % 2]}\n" for i in range(10))
    assert prepare_folder(tmp_path, table, table="t.csv")[0].features["label"].names == [
        "007",
        chr(178),
    ]  # a digit that is no number


def test_pictures_of_a_zip_made_on_windows_and_under_other_spellings(tmp_path):
    names = ["photos\\train\\my train 1.JPG", "photos\\a 10:30:05.png", "photos\\c.jpg"]
    write_zip(tmp_path / "photos.zip", {name: jpeg(i) for i, name in enumerate(names)})
    listed = ["train/my train 1.jpg", ".\\a 10:30:05.png", "photos/c.jpg", "c.jpg"]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"file_name": n, "caption": f"of {n}"}) for n in listed))
    out = tmp_path / "a [1]::b"
    main(
        ["folder", "--images", str(tmp_path / "photos.zip"), "--table", str(tmp_path / "t.jsonl"), "--output", str(out)]
    )
    rows = [row for split in ("train", "test") for row in load_rows(str(out), split)]
    found = {row["image_id"]: (row["image"]["bytes"], len(row["captions"])) for row in rows}
    expected = zip(names, map(jpeg, range(3)), (1, 1, 2))  # two spellings of one picture are one row
    assert found == {name.replace("\\", "/"): (data, captions) for name, data, captions in expected}


@pytest.mark.parametrize("share", ["-0.1", "0", "1", "nan"])
def test_shares_that_leave_a_split_empty_are_refused(tmp_path, share):
    with pytest.raises(SystemExit, match="error: a test share of .*: it must lie between 0 and 1"):
        prepare_folder(tmp_path, photo_rows(), "--test-share", share)


def test_captions_without_words_are_counted(tmp_path, caplog):
    train, test = prepare_folder(tmp_path, photo_rows(captions=["一只鸟", "...", " ", "a bird"]))
    assert "2 captions are left out" in caplog.text
    assert {row["image_id"]: row["captions"] for split in (train, test) for row in split}["3.png"] == ["a bird"]
