"""Tables of pictures in all their formats."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2i_supcon.data.tables import read_table

ROWS = [{"file name": "a.jpg", "text": "one, two"}, {"file name": "b.jpg", "text": 'a "b"'}]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV"])
def test_all_formats_give_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == ".jsonl":
        path.write_text("\n\n".join(map(json.dumps, ROWS)))
    elif suffix == ".tsv":
        path.write_text('file name\ttext\na.jpg\tone, two\nb.jpg\t"a ""b"""\n')
    else:
        path.write_text('\ufefffile name,text\r\na.jpg,"one, two"\r\n\r\nb.jpg,"a ""b"""\r\n', encoding="utf-8")
    assert read_table(path) == (["file name", "text"], ROWS)


def test_a_column_that_some_rows_lack_is_null_there(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"b": [2]}\n')
    assert read_table(tmp_path / "t.jsonl") == (["a", "b"], [{"a": 1, "b": None}, {"a": None, "b": [2]}])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", "t.xlsx: a table must be one of .csv, .tsv, .jsonl, .parquet"),
        ("t.csv", b"a,b\n1\n", "row 1 has fewer fields than the header"),
        ("t.tsv", b"a\tb\n1\t2\t3\n", "row 1 has more fields than the header"),
        ("t.csv", b"a,b,a\n1,2,3\n", "two columns are called 'a'"),
        ("t.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n', "line 2: two columns are called 'a'"),
        ("t.jsonl", b"[" * 10**6, "line 1 is not JSON .* nested too deeply"),
        ("t.jsonl", b"[1]\n", "line 1 is not an object with columns"),
        ("t.jsonl", b'{"a": "caf\xe9"}', "it is not in UTF-8"),
        ("t.parquet", b"PAR1", "it is no whole Parquet file"),
    ],
)
def test_mistakes_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name)
