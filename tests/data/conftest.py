"""The official archives of CUB, drawn small, and rows sorted by their label."""

import gzip
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import picture, write_dataset

from t2i_supcon.data import (
    Batches,
    BatchSampler,
    Collator,
    StreamedRows,
    TrainingRows,
    build_tokenizer,
    load_rows,
    shard_files,
)

sys.path.append(str(Path(__file__).parents[2] / "scripts"))  # behind `evaluate`, the library
from prepare_data import main

CLASSES = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
BIRDS = [f"{CLASSES[i % 3]}/Bird_{i:04d}_{i}" for i in range(15)]


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


N = 60


@pytest.fixture
def folder(tmp_path):
    """Rows of four labels."""
    # sorted by label, nine row groups
    return write_dataset(tmp_path / "d", [i * 4 // N for i in range(N)], row_group=7)


def streamed(folder, process=0, processes=1, seed=0):
    files = shard_files(str(folder), "train")
    return StreamedRows(load_rows(str(folder), "train", streaming=True), "labels", seed, process, processes, files)
