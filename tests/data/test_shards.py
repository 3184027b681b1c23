"""Preparations that are killed, repeated or pointed at other files: shards are whole or go on."""

import shutil
import signal
import sys

import forked
import pytest
from data.conftest import cub_command, prepare_cub
from loopback_hub import Repository
from prepare_data import main

from t2i_supcon.data import load_rows, shards

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

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
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
    with pytest.raises(
        SystemExit, match="error: .*refuses access to 'other/birds' .*; the data is whole in .*same command"
    ):
        prepare_cub(tmp_path, cub, "--push-to-hub", "other/birds")
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
    (tmp_path / "dies.py").write_text(DIES_AT_ROW_SIX)
    done = forked.run([sys.executable, tmp_path / "dies.py", *command])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {path.name for path in out.iterdir()} == {
        "train-00000-of-00003.parquet",
        "train-00001-of-00003.parquet.partial",
        ".work",
    }
    main(command)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


def test_what_a_killed_run_left_is_removed_and_an_upload_replaces_the_shards_there(tmp_path, cub, hub):
    out = prepare_cub(tmp_path, cub)
    (out / ".work" / "unpacked").mkdir(parents=True)
    prepare_cub(tmp_path, cub)
    assert not (out / ".work").exists()

    there = {
        "README.md": b"---\n---\n",
        ".gitattributes": b"",
        "train-00000-of-00009.parquet": b"9",
        "test-00008-of-00009.parquet": b"9",
        "train-00000-of-00003.parquet": b"old",
        "more/train.parquet": b"more",
    }
    repo = hub.repos["dataset", "me/birds"] = Repository("me")
    repo.commit(there, "an earlier upload")
    (out / ".work").mkdir()
    (out / ".work" / "options.json").write_text("{}")
    (out / "train-00000-of-00003.parquet.partial").write_bytes(b"")
    shards.push_shards(out, "me/birds")
    published = {name: (out / name).read_bytes() for name in ("README.md", "manifest.json")}
    published["README.md"] = published["README.md"].replace(b"user/name", b"me/birds")
    published |= {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    assert repo.files() == published | {".gitattributes": b"", "more/train.parquet": b"more"}
    assert len(repo.commits) == 2


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
