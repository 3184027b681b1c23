"""A number is kept with its protocol, and compared with none of another."""

import json

import pytest
from evaluation.test_tables import evaluation, several

from t2i_supcon.evaluation import Evaluation, compare


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real": 999}, "real is 1021 in the first and 999 in the second"),
        ({"data_hash": "other"}, "data_hash is abc in the first and other"),
        ({"features": {"network": "inception-fid"}}, "features is .*imagenet-lite0.* in the first"),
        ({"truncation": 0.5}, "truncation is None in the first and 0.5"),
        ({"settings": {"frechet": {"rows": 9}}}, "settings is {'frechet': {}} in the first and .*'rows': 9"),
    ],
)
def test_other_protocols_are_refused_by_name(change, message):
    found = several() | {"x": evaluation("dmgan", {}, 0, 1.0, **change)}
    with pytest.raises(ValueError, match=f"a and x cannot be compared: {message}"):
        compare(found, "frechet")


def test_what_one_alone_measured_may_be_measured_in_any_way():
    settings = {"frechet": {}, "r_precision": {"candidates": 99}}
    more = {"settings": settings, "encoders": {"network": "encoder", "sha256": "1"}}
    found = {"a": evaluation("galip", {}, 0, 3.0), "b": evaluation("galip", {}, 1, 1.0, **more)}
    assert compare(found, "frechet")[0].mean == 2
    other = {"settings": settings, "encoders": {"network": "encoder", "sha256": "2"}}
    with pytest.raises(ValueError, match="b and c cannot be compared: encoders is .*'sha256': '1'.* and .*'2'"):
        compare({"b": found["b"], "c": evaluation("galip", {}, 2, 1.0, **other)}, "frechet")


def test_a_classifier_of_other_training_rows_is_refused_where_both_say_of_which():
    known, other = ({"settings": {"frechet": {}, "label_accuracy": {"training": name}}} for name in ("1", "2"))
    unknown = {"settings": {"frechet": {}, "label_accuracy": {}}}
    with pytest.raises(ValueError, match="a and b cannot be compared: settings is .*'training': '1'.* and .*'2'"):
        compare(
            {"a": evaluation("galip", {}, 0, 3.0, **known), "b": evaluation("galip", {}, 1, 1.0, **other)}, "frechet"
        )
    for second in (known, unknown):
        found = {"a": evaluation("galip", {}, 0, 3.0, **known), "b": evaluation("galip", {}, 1, 1.0, **second)}
        assert compare(found, "frechet")[0].mean == 2


def test_what_is_saved_is_read_again(tmp_path):
    for name, one in several().items():
        one.save(tmp_path / f"{name}.json")
        assert Evaluation.load(tmp_path / f"{name}.json") == one
    several()["b"].save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path) == several()["b"]


def test_a_file_of_another_kind_is_named(tmp_path):
    several()["a"].save(tmp_path / "whole.json")
    whole = (tmp_path / "whole.json").read_text()
    lists = json.dumps({**json.loads(whole), "values": [["frechet", 1.0]]})
    for content in ('{"values": {}}', "[]", "null", whole[:-20], lists):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(ValueError, match="a.json holds no evaluation of this package"):
            Evaluation.load(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        Evaluation.load(tmp_path / "b.json")
