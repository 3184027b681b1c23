"""Own pictures and a table of any columns, to rows; and what is wrong with broken ones."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import picture
from data.conftest import jpeg, write_zip
from prepare_data import main

from t2i_supcon.data import load_rows


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
    assert set(train["label"]) == {-1} and "--label-column, or train without: sampling=independent" in caplog.text
    assert "1 of 10 images are left out" in caplog.text and "9.png" in caplog.text


def test_pictures_without_a_label_among_others_are_counted(tmp_path, caplog):
    prepare_folder(tmp_path, photo_rows(label=""))
    assert "1 of 10 pictures have no label: they pair with each other" in caplog.text


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
    # a digit that is no number
    assert prepare_folder(tmp_path, table, table="t.csv")[0].features["label"].names == ["007", chr(178)]


@pytest.mark.parametrize("none", ["-1", " -1.0", ""])
def test_negative_numbers_in_a_csv_are_no_labels(tmp_path, none):
    table = "file_name,text,label\n" + "".join(f"{i}.png,photo,{[none, 0, 1][i % 3]}\n" for i in range(10))
    train, test = prepare_folder(tmp_path, table, table="t.csv")
    assert train.features["label"].names == ["0", "1"]
    found = labels_of(train, test)
    assert [found[f"{i}.png"] for i in range(10)] == [[[], ["0"], ["1"]][i % 3] for i in range(10)]


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


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="error: the seed is -1; it must be at least 0"):
        prepare_folder(tmp_path, photo_rows(), "--seed", "-1")


def test_captions_without_words_are_counted(tmp_path, caplog):
    train, test = prepare_folder(tmp_path, photo_rows(captions=["一只鸟", "...", " ", "a bird"]))
    assert "2 captions are left out" in caplog.text
    assert {row["image_id"]: row["captions"] for split in (train, test) for row in split}["3.png"] == ["a bird"]
