"""Rows from disk, and the embedded data."""

import os
import re
import shutil
import zipfile

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import CAPTIONS, encoded, picture, write_dataset
from huggingface_hub.errors import HTTPError
from tokenizers import processors

from t2i_supcon.data import (
    BrokenRowError,
    Columns,
    EvaluationRows,
    Source,
    StreamedRows,
    TrainingRows,
    build_tokenizer,
    check_captions,
    decode_image,
    evenly_spaced,
    image_pyramid,
    load_rows,
    loading,
    make_row,
    prepare,
    scale_pixels,
    shard_files,
)


def test_the_embedded_data_is_whole():
    train, test = load_rows("emoji", "train"), load_rows("emoji", "test")
    assert (len(train), len(test)) == (5607, 1021)
    assert train.features["label"].num_classes == 128 and train.features == test.features
    check_captions(train)
    known = {caption for captions in train["captions"] for caption in captions}
    assert not known & {caption for captions in test["captions"] for caption in captions}
    assert not set(train["image_id"]) & set(test["image_id"])


def test_every_embedded_image_decodes_to_64_pixels():
    rows = (row for split in ("train", "test") for row in load_rows("emoji", split))
    assert {decode_image(row["image"], row["image_id"]).size for row in rows} == {(64, 64)}


def test_a_draw_is_the_same_whoever_asks(tiny_data, tokenizer):
    rows = load_rows(str(tiny_data), "train")
    first, second = (TrainingRows(rows, tokenizer, (8, 16), seed=5, random_crop=True, flip=True) for _ in range(2))
    a, b = first[3, 100], second[3, 100]
    assert a["caption"] == b["caption"] and all(torch.equal(x, y) for x, y in zip(a["images"], b["images"]))
    assert len({first[3, draw]["caption"] for draw in range(20)}) == 2


@pytest.mark.parametrize("rule", ["first", "random_subset"])
def test_long_captions_are_cut_by_the_stated_rule(tmp_path, rule):
    words = [chr(ord("a") + i) for i in range(12)]
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0], captions=[[" ".join(words)]] * 2)), "train")
    tokenizer = build_tokenizer([" ".join(words)], 5)
    drawn = {
        tuple(TrainingRows(rows, tokenizer, (8,), 0, long_captions=rule)[0, draw]["input_ids"]) for draw in range(10)
    }
    whole = tokenizer(" ".join(words))["input_ids"]
    assert all(len(ids) == 5 and list(ids) == sorted(ids, key=whole.index) for ids in drawn)
    assert (len(drawn) == 1 and drawn == {tuple(whole[:5])}) if rule == "first" else len(drawn) > 3


def test_marks_of_a_long_caption_stay(tmp_path):
    words = [chr(ord("a") + i) for i in range(12)]
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0], captions=[[" ".join(words)]] * 2)), "train")
    tokenizer = build_tokenizer([" ".join(words), "start", "end"], 5)
    tokenizer.add_special_tokens({"bos_token": "start", "eos_token": "end"})
    marks = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("start", "end")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("start $A end", special_tokens=marks)
    samples = TrainingRows(rows, tokenizer, (8,), 0, long_captions="random_subset")
    drawn = [list(samples[0, draw]["input_ids"]) for draw in range(20)]
    assert all(len(ids) == 5 and [ids[0], ids[-1]] == [number for _, number in marks] for ids in drawn)
    assert len({tuple(ids) for ids in drawn}) > 10


def test_words_are_left_out_at_the_stated_rate_in_order_and_never_all(tmp_path):
    words = [chr(ord("a") + i) for i in range(4)]
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0], captions=[[" ".join(words)]] * 2)), "train")
    tokenizer = build_tokenizer([" ".join(words)], 5)
    whole = tokenizer(" ".join(words))["input_ids"]
    drawn = [TrainingRows(rows, tokenizer, (8,), 0, word_dropout=0.5)[0, draw]["input_ids"] for draw in range(1000)]
    assert all(ids and ids == [i for i in whole if i in ids] for ids in drawn)
    # four words stay with 1/2 each; none of them with 1/16, and then one is kept
    assert np.mean([len(ids) for ids in drawn]) == pytest.approx(2 + 1 / 16, abs=4 * np.sqrt(1 / 1000))
    assert {tuple(ids) for ids in drawn if len(ids) == 1} == {(i,) for i in whole}


def test_marks_of_a_caption_are_not_left_out(tmp_path):
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0], captions=[["red blue"], ["unseen"]])), "train")
    tokenizer = build_tokenizer(["red blue", "start", "end"], 5)
    tokenizer.add_special_tokens({"bos_token": "start", "eos_token": "end"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "start $A end", special_tokens=[(word, tokenizer.convert_tokens_to_ids(word)) for word in ("start", "end")]
    )
    start, *words, end = tokenizer("red blue")["input_ids"]
    for draw in range(20):
        ids = TrainingRows(rows, tokenizer, (8,), 0, word_dropout=0.9)[0, draw]["input_ids"]
        assert ids[0] == start and ids[-1] == end and set(ids[1:-1]) <= set(words) and len(ids) > 2
    assert TrainingRows(rows, tokenizer, (8,), 0, word_dropout=0.9)[1, 0]["input_ids"] == [start, end]


def test_evaluation_reads_the_next_caption_with_a_known_word(tmp_path):
    rows = load_rows(
        str(write_dataset(tmp_path / "d", [0, 0], captions=[["unseen", "red", "blue"], ["red", "zzz", "blue"]])),
        "train",
    )
    assert EvaluationRows(rows, build_tokenizer(["red blue"], 5), 8).captions == ["red", "blue"]
    with pytest.raises(BrokenRowError, match=r"row 0 \(train-0\): no word of its 3 captions"):
        EvaluationRows(rows, build_tokenizer(["green"], 5), 8)


@pytest.fixture
def damaged(tmp_path):
    """Twenty rows; the image of row 3 is broken, row 8 has no known word, row 12 no caption and the
    box of row 15 no pixel."""
    images, captions, boxes = (
        [encoded(picture(i)) for i in range(20)],
        [[CAPTIONS[i % 4]] for i in range(20)],
        [None] * 20,
    )
    images[3], captions[8], captions[12], boxes[15] = images[3][:60], ["zebra", "zebu"], [], [90.0, 0.0, 5.0, 5.0]
    return str(write_dataset(tmp_path / "damaged", [0] * 20, captions=captions, images=images, boxes=boxes))


@pytest.mark.parametrize("streaming", [False, True])
def test_an_allowed_share_is_left_out_of_evaluations(damaged, tokenizer, streaming, caplog):
    rows, files = load_rows(damaged, "train", streaming=streaming), shard_files(damaged, "train")
    evaluation = EvaluationRows(rows, tokenizer, 8, files=files, max_broken_share=0.2)
    before = list(evaluation.captions)
    batches = list(evaluation.batches(7))
    images, captions = torch.cat([batch.images for batch in batches]), sum((batch.captions for batch in batches), [])
    whole = [i for i in range(20) if i not in (3, 8, 12, 15)]
    assert captions == [CAPTIONS[i % 4] for i in whole] and len(captions) == len(images) == 16
    assert [len(batch.images) for batch in batches] == [7, 7, 2]
    indices = sum((batch.indices for batch in batches), [])
    assert [evaluation.captions[index] for index in indices] == captions
    assert all(torch.equal(evaluation[index], image) for index, image in zip(indices, images))
    assert evaluation.captions == before and len(evaluation) == 18  # reading changes nothing
    for image, number in zip(images, whole):
        assert torch.equal(image, scale_pixels(image_pyramid(picture(number), (8,))[0]))
    assert [re.search(r"train-00000-of-00001.parquet, row (\d+)", message)[1] for message in caplog.messages] == [
        "8",
        "12",
        "3",
        "15",
    ]
    (again,) = evaluation.batches(100)
    assert torch.equal(again.images, images) and len(caplog.messages) == 4  # each is told once


def test_more_broken_rows_than_allowed_end_an_evaluation(damaged, tokenizer):
    rows, files = load_rows(damaged, "train"), shard_files(damaged, "train")
    assert EvaluationRows(rows, tokenizer, 8, files=files).unknown == 2  # which is no damage
    with pytest.raises(BrokenRowError, match=r"^none of the 1 rows .*; split 'train', row 0 \(train-8\): no word of"):
        EvaluationRows(rows.select([8]), tokenizer, 8, split="train")
    with pytest.raises(
        BrokenRowError, match=r"^train-00000-of-00001.parquet, row 3: train-3: the image cannot be decoded"
    ):
        list(EvaluationRows(rows.select(range(8)), tokenizer, 8, files=files).batches(4))
    with pytest.raises(
        BrokenRowError,
        match="^2 broken rows among the 18 of evaluations, more than the max_broken_share of 0.05 allows.*row 15",
    ):
        list(EvaluationRows(rows, tokenizer, 8, files=files, max_broken_share=0.05).batches(4))


def test_rows_for_evaluation_are_spread_and_of_a_stream_the_first(tmp_path, tokenizer, monkeypatch):
    images = [encoded(picture(i)) for i in range(9)]
    images[4] = b"broken"
    folder = str(write_dataset(tmp_path / "d", [0] * 9, images=images, row_group=2))
    files = shard_files(folder, "train")
    # counted in the file, not among the rows chosen
    with pytest.raises(BrokenRowError, match="row 4: train-4: the image"):
        list(EvaluationRows(load_rows(folder, "train"), tokenizer, 8, 3, files).batches(3))
    monkeypatch.setattr(loading, "ROWS_OF_A_STREAM", 3)
    stream = load_rows(folder, "train", streaming=True)
    for count, expected in ((None, 3), (4, 4), (30, 9)):
        evaluation = EvaluationRows(stream, tokenizer, 8, count, files)
        assert len(evaluation) == expected and torch.equal(
            evaluation[1], scale_pixels(image_pyramid(picture(1), (8,))[0])
        )


def test_a_broken_image_names_its_row(tmp_path, tokenizer):
    good = encoded(picture(0))
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0, 0], images=[good, good[:60], good])), "train")
    with pytest.raises(
        BrokenRowError, match=r"train-00000-of-00001.parquet, row 1: train-1: the image cannot be decoded"
    ):
        TrainingRows(rows, tokenizer, (8,), 0, files=shard_files(str(tmp_path / "d"), "train"))[1, 0]


def test_a_box_outside_its_image_names_its_row(tmp_path, tokenizer):
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0], boxes=[[2, 2, 9, 9], [70, 2, 9, 9]])), "train")
    samples = TrainingRows(rows, tokenizer, (8,), 0, files=shard_files(str(tmp_path / "d"), "train"))
    assert samples[0, 0]["images"][0].shape == (8, 8, 3)
    with pytest.raises(
        BrokenRowError,
        match=r"train-00000-of-00001.parquet, row 1: the bounding box \[70.0, 2.0, 9.0, 9.0\] holds nothing",
    ):
        samples[1, 0]


@pytest.mark.parametrize(
    ("captions", "message"),
    [([], "it has no caption"), (["fine", "..."], "'...' holds no word"), ([""], "'' holds no word")],
)
def test_empty_captions_are_refused(tmp_path, captions, message):
    rows = load_rows(str(write_dataset(tmp_path / "d", [0, 0], captions=[CAPTIONS, captions])), "train")
    with pytest.raises(BrokenRowError, match=rf"train-00000-of-00001.parquet, row 1: train-1: .*{message}"):
        check_captions(rows, shard_files(str(tmp_path / "d"), "train"))


def test_missing_files_splits_and_columns_are_named(tmp_path, tiny_data):
    with pytest.raises(FileNotFoundError, match="no file valid-"):
        load_rows(str(tiny_data), "valid")
    with pytest.raises(FileNotFoundError, match="'nobody/nothing'.*dataset of the Hub"):
        load_rows("nobody/nothing", "train")
    datasets.Dataset.from_dict({"image": [None], "text": ["x"]}).to_parquet(tmp_path / "train-0.parquet")
    for streaming in (False, True):
        with pytest.raises(ValueError, match="no column 'captions' for captions; found image, text"):
            load_rows(str(tmp_path), "train", streaming=streaming)


def test_an_unfinished_preparation_and_missing_shards_are_refused(tmp_path):
    files = {f"{i}.png": encoded(picture(i)) for i in range(5)}
    rows = [make_row(name, [CAPTIONS[0]], [0], 0, name, "drawn") for name in files]

    def prepare_rows(read):
        prepare(
            lambda _: Source("Drawn", "free", "none", ["a"], {"train": rows, "test": rows[:2]}, read),
            tmp_path / "d",
            {},
            shard_rows=2,
        )

    reads = []

    def killed(name):
        reads.append(name)
        if len(reads) == 4:
            raise KeyboardInterrupt
        return files[name]

    with pytest.raises(KeyboardInterrupt):
        prepare_rows(killed)
    assert [path.name for path in (tmp_path / "d").glob("*.parquet")] == ["train-00000-of-00003.parquet"]
    for split in ("train", "test"):
        with pytest.raises(FileNotFoundError, match="^the preparation of .*/d is unfinished: give its command again"):
            load_rows(str(tmp_path / "d"), split)
    prepare_rows(files.get)
    assert len(load_rows(str(tmp_path / "d"), "train")) == 5
    (tmp_path / "d" / "train-00001-of-00003.parquet").unlink()
    for streaming in (False, True):
        with pytest.raises(
            FileNotFoundError, match="1 of the 3 shards of 'train' are missing, the first: train-00001-of-00003.parquet"
        ):
            load_rows(str(tmp_path / "d"), "train", streaming=streaming)
    assert len(load_rows(str(tmp_path / "d"), "test")) == 2
    prepare_rows(files.get)
    assert len(load_rows(str(tmp_path / "d"), "train")) == 5
    write_dataset(tmp_path / "d", [0, 0])
    with pytest.raises(
        FileNotFoundError, match="shards of several preparations .train-of-00001, train-of-00003.; keep those of one"
    ):
        load_rows(str(tmp_path / "d"), "train")


def test_parts_of_splits_and_folders_of_other_parquet_names(tmp_path):
    prepared = write_dataset(tmp_path / "prepared", [0, 1] * 5)
    write_dataset(tmp_path / "prepared", [0], "test")
    (tmp_path / "named").mkdir()
    for split in ("train", "test"):
        shutil.copy(prepared / f"{split}-00000-of-00001.parquet", tmp_path / "named" / f"{split}.parquet")
    for folder in ("prepared", "named"):
        name = str(tmp_path / folder)
        assert load_rows(name, "train[20%:50%]")["image_id"] == ["train-2", "train-3", "train-4"]
        assert (
            len(load_rows(name, "train")) == len(list(load_rows(name, "train", streaming=True))) == 10
            and len(load_rows(name, "test")) == 1
        )
        with pytest.raises(FileNotFoundError, match=f"no file valid-.*{folder}; it holds train, test"):
            load_rows(name, "valid[:50%]")
        with pytest.raises(ValueError, match=r"a stream has no parts such as 'train\[:5\]'; name a whole split"):
            load_rows(name, "train[:5]", streaming=True)
    assert len(load_rows("emoji", "test[:100]")) == 100
    with pytest.raises(FileNotFoundError, match="'emoji': no file valid-"):
        load_rows("emoji", "valid")
    (tmp_path / "named" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="named/train.parquet: it is no whole Parquet file"):
        load_rows(str(tmp_path / "named"), "train")


def test_a_broken_row_of_a_part_is_told_by_its_id(tmp_path, tokenizer):
    images = [encoded(picture(i)) for i in range(4)]
    images[3] = b"broken"
    name = str(write_dataset(tmp_path / "d", [0] * 4, images=images))
    samples = TrainingRows(load_rows(name, "train[2:]"), tokenizer, (8,), 0, files=shard_files(name, "train[2:]"))
    with pytest.raises(BrokenRowError, match="^row 1: train-3: the image"):  # 1 in the part; in the file it is row 3
        samples[1, 0]


def damage_rows_20_to_29(path):
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=10)
    at = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[at : at + 40] = b"\xff" * 40
    path.write_bytes(data)
    return data


def test_a_shard_that_an_evaluation_of_a_stream_cannot_read_is_named(tmp_path, tokenizer):
    folder = write_dataset(tmp_path / "d", [0, 1] * 20)
    damage_rows_20_to_29(folder / "train-00000-of-00001.parquet")
    rows, files = load_rows(str(folder), "train", streaming=True), shard_files(str(folder), "train")
    assert len(EvaluationRows(rows, tokenizer, 8, 10, files)) == 10
    with pytest.raises(ValueError, match="train-00000-of-00001.parquet: rows 20 and following cannot be read"):
        EvaluationRows(rows, tokenizer, 8, 30, files)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_shard_that_cannot_be_read_is_named_with_its_rows(tmp_path, streaming):
    path = write_dataset(tmp_path / "d", [0, 1] * 20) / "train-00000-of-00001.parquet"
    data = damage_rows_20_to_29(path)
    with pytest.raises(
        ValueError, match=r"train-00000-of-00001.parquet: rows 20 and following cannot be read .*prepare the data again"
    ):
        rows = load_rows(str(tmp_path / "d"), "train", streaming=streaming)
        list(StreamedRows(rows, "label", 0, files=shard_files(str(tmp_path / "d"), "train")).epoch(0))
    path.write_bytes(data[:300])
    with pytest.raises(ValueError, match="train-00000-of-00001.parquet: it is no whole Parquet file"):
        load_rows(str(tmp_path / "d"), "train", streaming=streaming)


def test_a_split_takes_in_no_shards_of_one_whose_name_begins_alike(tmp_path):
    write_dataset(tmp_path / "d", [0] * 4)
    write_dataset(tmp_path / "d", [0] * 3, "train-val")
    write_dataset(tmp_path / "d", [0] * 2, "train-0-val")
    counts = {split: len(load_rows(str(tmp_path / "d"), split)) for split in ("train", "train-val", "train-0-val")}
    assert counts == {"train": 4, "train-val": 3, "train-0-val": 2}


def photos(folder, names, table="metadata.csv"):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name, "PNG")
    lines = [f'"{name}",picture {number}\n' for number, name in enumerate(names)]
    (folder / table).write_text("file_name,text\n" + "".join(lines))
    return folder


def loaded_pictures(folder, streaming, split="train"):
    rows = load_rows(str(folder), split, columns=Columns(captions="text", label=None), streaming=streaming)
    return {row["captions"][0]: np.asarray(decode_image(row["image"], "row")).tolist() for row in rows}


@pytest.mark.parametrize("streaming", [False, True])
def test_folders_of_images_under_any_name_and_in_a_zip(tmp_path, monkeypatch, streaming):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names = ["train_1.png", "my test 2.png", "a:b.png", "x[1].png", "deep [er]/10:30.png"]
    expected = {f"picture {i}": np.asarray(picture(i)).tolist() for i in range(5)}
    for folder in ("plain", "with [brackets]", "with::colons", "with*{stars}?"):
        assert loaded_pictures(photos(tmp_path / folder, names), streaming) == expected, folder
    chained = loaded_pictures(photos(tmp_path / "called", ["a::b.png", "c.png"]), streaming)
    assert chained == {key: expected[key] for key in ("picture 0", "picture 1")}
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "images.zip", "w") as archive:
        for path in photos(tmp_path / "plain", ["a.png", "b.png"]).glob("[abm]*"):
            archive.write(path, path.name)
    assert loaded_pictures(tmp_path / "zipped", streaming) == {key: expected[key] for key in ("picture 0", "picture 1")}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("folder", ["a[1]", "a::b"])
def test_shards_in_a_folder_of_any_name(tmp_path, monkeypatch, folder, streaming):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_dataset(tmp_path / "d", [0, 1, 0])
    write_dataset(tmp_path / "d", [0, 1], "test")
    (tmp_path / "d").rename(tmp_path / folder)
    rows = [load_rows(str(tmp_path / folder), split, streaming=streaming) for split in ("train", "test")]
    assert [[row["image_id"] for row in split] for split in rows] == [
        [f"train-{i}" for i in range(3)],
        [f"test-{i}" for i in range(2)],
    ]
    (tmp_path / folder / "train-00000-of-00001.parquet").rename(tmp_path / folder / "train.parquet")
    assert len(list(load_rows(str(tmp_path / folder), "train", streaming=streaming))) == 3
    with pytest.raises(FileNotFoundError, match="no file valid-"):
        load_rows(str(tmp_path / folder), "valid", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_save_to_disk_wrote_is_read(tmp_path, streaming):
    folder = str(write_dataset(tmp_path / "d", [i % 2 for i in range(250)]))
    rows = datasets.load_dataset("parquet", data_files=f"{folder}/*.parquet", split="train")
    datasets.DatasetDict({"train": rows, "held_out": rows.select([3, 1])}).save_to_disk(tmp_path / "dict")
    rows.save_to_disk(tmp_path / "one")
    for saved, split, ids in (
        ("dict", "train", range(250)),
        ("dict", "held_out", (3, 1)),
        ("one", "train", range(250)),
    ):
        found = load_rows(str(tmp_path / saved), split, streaming=streaming)
        assert [row["image_id"] for row in found] == [f"train-{i}" for i in ids]
        assert found.features["label"].names == ["class 0", "class 1"]
    if not streaming:
        assert load_rows(str(tmp_path / "one"), "train[-2:]")["image_id"] == ["train-248", "train-249"]
        assert len(load_rows(str(tmp_path / "dict"), "train[:1]+held_out")) == 3
    with pytest.raises(ValueError, match='Unknown split "valid"'):
        load_rows(str(tmp_path / "one"), "valid", streaming=streaming)
    for kind in ("torch", "numpy"):
        rows.with_format(kind).save_to_disk(tmp_path / kind)
        found = load_rows(str(tmp_path / kind), "train", streaming=streaming)
        assert [row["label"] for row in found] == [i % 2 for i in range(250)]


def test_data_that_cannot_be_loaded_says_why_in_a_line(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "table.csv").write_text("a")
    for name, message in (
        ("pipe", "but a pipe"),
        ("loop", "leads nowhere"),
        ("table.csv", "is a file; name the folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_rows(str(tmp_path / name), "train")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "train-0.parquet")
    with pytest.raises(ValueError, match="train-0.parquet: neither a file nor a folder"):
        load_rows(str(tmp_path / "d"), "train")
    for name, content, message in (
        ("train.csv", b"image,text\na.png,caf\xe9\n", "train.csv: it is not in UTF-8"),
        ("train.jsonl", b'{"a": ' + b"[" * 10**5, "data .*, split 'train': "),
    ):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            load_rows(str(folder), "train")
        assert "\n" not in str(caught.value)
    scripted = tmp_path / "scripted"
    scripted.mkdir()
    (scripted / "scripted.py").write_text("import datasets\n")
    with pytest.raises(ValueError, match=r"scripts are no longer supported.*; take a version in Parquet"):
        load_rows(str(scripted), "train")
    declared = tmp_path / "declared"
    declared.mkdir()
    (declared / "rows.csv").write_text("image,text,label\na.png,a dog,1\n")
    (declared / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - {name: image, dtype: string}\n  - {name: text, dtype: string}\n"
        "  - {name: label, dtype: int64}\n  splits:\n  - {name: train, num_bytes: 9, num_examples: 2}\n---\n"
    )
    with pytest.raises(ValueError, match="the splits or rows that the dataset_info of its README.md declares"):
        load_rows(str(declared), "train")
    command = "`python scripts/prepare_data.py cub --output data/cub ...` prepares it"
    with pytest.raises(
        FileNotFoundError, match=f"'data/cub': there is no such folder; {re.escape(command)}"
    ) as missing:
        load_rows("data/cub", "train")
    assert "Hub" not in str(missing.value)


def test_a_download_that_breaks_off_is_a_line(tmp_path, tokenizer, monkeypatch):
    def break_off(*args, **options):
        raise HTTPError("peer closed connection")

    folder = str(write_dataset(tmp_path / "d", [0, 1] * 20))
    stream = load_rows(folder, "train", streaming=True)
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", break_off)
        with pytest.raises(ConnectionError, match="the download broke off .peer closed connection.; give the same"):
            load_rows("someone/birds", "train")
    with monkeypatch.context() as patch:
        patch.setattr(datasets.IterableDataset, "__iter__", break_off)
        with pytest.raises(ConnectionError, match="the rows of evaluations: the download broke off"):
            EvaluationRows(stream, tokenizer, 8, 3)
        with pytest.raises(ConnectionError, match="the stream of training rows: the download broke off"):
            list(StreamedRows(stream, "label", 0).epoch(0))


def test_evenly_spaced_numbers_are_inside():
    assert evenly_spaced(10, 4) == [0, 3, 6, 9] and evenly_spaced(3, 8) == [0, 1, 2]
