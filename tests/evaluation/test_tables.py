"""Tables of evaluations, against numbers worked out by hand."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from PIL import Image

from t2i_supcon.evaluation import Evaluation, Protocol, compare, compare_files, values_table
from t2i_supcon.evaluation.tables import comparison_csv, comparison_markdown

RESULTS = Path(__file__).parents[2] / "scripts" / "recipes" / "results" / "emoji"
PROTOCOL = Protocol(
    features={"network": "imagenet-lite0", "sha256": "5793", "input_size": 128, "resize": "torch"},
    data="emoji",
    data_hash="abc",
    split="test",
    real=1021,
    generated=1000,
    image_size=64,
    captions="first",
    seed=0,
    truncation=None,
    settings={"frechet": {}},
)


def evaluation(gan, weights, seed, frechet, **changes):
    recipe = {"phase": "gan", "model": gan, "loss_weights": {"d_adv": 1, **weights}, "seed": seed}
    protocol = dataclasses.replace(PROTOCOL, seed=seed, **changes)
    subject = {"name": f"{gan}-{seed}", "model_type": gan, "recipe": yaml.safe_dump(recipe)}
    return Evaluation({"frechet": frechet, "label_accuracy": 0.1 * (seed + 1)}, {"frechet": 117.0}, protocol, subject)


def several():
    return {
        "a": evaluation("ssagan", {}, 0, 200.0),
        "b": evaluation("ssagan", {}, 1, 100.0),
        "c": evaluation("ssagan", {"supcon": 0.1}, 0, 150.0),
        "d": evaluation("ssagan", {"supcon": 0.1}, 1, 90.0),
        "e": evaluation("galip", {"supcon": 0.1, "unicl": 0.0}, 0, 50.0),
    }


def test_gains_are_of_each_seed_against_the_baseline_of_the_same():
    galip, baseline, scl = compare(several(), "frechet")
    assert (galip.gan, galip.variant, galip.mean, galip.std, galip.improvement) == ("galip", "+SCL", 50.0, None, None)
    assert (baseline.variant, baseline.mean, baseline.seeds) == ("baseline", 150.0, 2)
    assert baseline.std == pytest.approx(50 * 2**0.5) and baseline.improvement is None
    # 50 and 10 of a mean baseline of 150
    assert scl.improvement == pytest.approx((50 + 10) / 2 / 150)
    assert scl.improvement_std == pytest.approx(40 / 150 / 2**0.5)
    accuracy = compare(several(), "label_accuracy")[-1]
    assert accuracy.improvement == pytest.approx(0)  # higher is better, and both are equal


def test_tables_name_what_is_measured_and_what_is_only_reported():
    rows = compare(several(), "frechet")
    table = comparison_markdown(rows, "frechet", reported=True)
    assert "| SSA-GAN | +SCL | 120 ± 42.43 | 2 | +20.0% ± 18.9% | 0.5 | 16.2% |" in table
    assert "reported by the paper (FID, COCO; not measured here)" in table and "| SSA-GAN | baseline | 150" in table
    assert "reported" not in comparison_markdown(rows, "frechet")
    assert comparison_csv(rows).splitlines()[1] == "galip,+SCL,50.0,,1,,,,"


def test_a_baseline_of_nothing_counts():
    numbers = {"baseline": (0.0, 0.0, 0.1), "+SCL": (0.05, 0.06, 0.09)}
    found = {}
    for variant, values in numbers.items():
        for seed, value in enumerate(values):
            one = evaluation("galip", {"supcon": 0.1} if variant == "+SCL" else {}, seed, 1.0)
            found[f"{variant}-{seed}"] = dataclasses.replace(one, values={"recall": value})
    baseline, scl = compare(found, "recall")
    assert scl.improvement == pytest.approx(1) and scl.p == 0.5  # twice the mean
    none = {name: dataclasses.replace(one, values={"recall": 0.0}) for name, one in found.items()}
    assert [row.improvement for row in compare(none, "recall")] == [None, None]


def test_gains_of_all_gans_are_tested_together():
    rows = compare(several() | {"f": evaluation("galip", {}, 0, 100.0)}, "frechet")
    alone, together = rows[-2:]
    assert (alone.gan, alone.p) == ("ssagan", 0.5)
    assert (together.gan, together.variant, together.mean, together.seeds) == ("all", "+SCL", None, 3)
    assert together.improvement == pytest.approx((50 / 150 + 10 / 150 + 0.5) / 3) and together.p == 0.25
    assert "| all | +SCL |  | 3 | +30.0%" in comparison_markdown(rows, "frechet")


def test_errors_over_pictures_stand_beside_their_numbers():
    found = several()
    for name, error in (("c", 3.0), ("d", 4.0)):
        found[name] = dataclasses.replace(found[name], errors={"frechet": error})
    scl = compare(found, "frechet")[-1]
    assert scl.error == pytest.approx((12.5) ** 0.5)
    table = comparison_markdown(compare(found, "frechet"), "frechet")
    assert "| 0.5 | 3.5 |" in table and "pictures drawn with replacement" in table
    assert "| frechet | 150 ± 3 | 117 |" in values_table(found["c"])
    assert "error over pictures" not in comparison_markdown(compare(several(), "frechet"), "frechet")


def test_positives_of_several_labels_are_a_variant_of_their_own():
    one = evaluation("ssagan", {"supcon": 0.1}, 0, 120.0)
    recipe = yaml.safe_load(one.subject["recipe"]) | {"positives": "jaccard"}
    one = dataclasses.replace(one, subject=one.subject | {"recipe": yaml.safe_dump(recipe)})
    assert [row.variant for row in compare(several() | {"x": one}, "frechet") if row.gan == "ssagan"] == [
        "baseline",
        "+SCL",
        "+SCL (jaccard)",
    ]
    of_any = {}
    for name, one in several().items():  # as the recipes of COCO, the baseline's, too
        recipe = yaml.safe_load(one.subject["recipe"]) | {"positives": "any"}
        of_any[name] = dataclasses.replace(one, subject=one.subject | {"recipe": yaml.safe_dump(recipe)})
    rows = compare(of_any, "frechet")
    assert [row.variant for row in rows if row.gan == "ssagan"] == ["baseline", "+SCL (any)"]
    table = comparison_markdown(rows, "frechet", reported=True)
    assert "| SSA-GAN | +SCL (any) | 120 ± 42.43 | 2 | +20.0% ± 18.9% | 0.5 | 16.2% |" in table


def test_what_cannot_be_compared_is_named():
    with pytest.raises(ValueError, match="x is a second evaluation of the same GAN, guidance and seed 0"):
        compare(several() | {"x": evaluation("galip", {"supcon": 2.0}, 0, 1.0)}, "frechet")
    with pytest.raises(ValueError, match="a has no kid; it has frechet, label_accuracy"):
        compare(several(), "kid")
    unknown = dataclasses.replace(evaluation("galip", {}, 0, 1.0), subject={"name": "mine"})
    with pytest.raises(ValueError, match="mine does not say how the model was trained"):
        compare({"x": unknown}, "frechet")
    for recipe in ("model: [", "model: galip"):  # no YAML, and no seed
        unknown = dataclasses.replace(unknown, subject={"name": "mine", "recipe": recipe})
        with pytest.raises(ValueError, match="mine does not say how the model was trained"):
            compare({"x": unknown}, "frechet")


def trained_with(one, **changes):
    recipe = yaml.safe_load(one.subject["recipe"]) | changes
    return dataclasses.replace(one, subject=one.subject | {"recipe": yaml.safe_dump(recipe)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1500}, "b are not seeds of one training: steps is 8000 in the first and 1500 in the second"),
        ({"loss_weights": {"d_adv": 1, "words": 0.5}}, "loss_weights.words is not set in the first and 0.5 in the"),
        ({"loss_weights": {}}, "loss_weights.d_adv is 1 in the first and not set in the second"),
        ({"model_config": {"text_config": {"hidden_size": 8}}}, "model_config.text_config.hidden_size is not set in"),
        ({"data": {"name": "data/coco", "max_words": 12}}, "data.max_words is 18 in the first and 12 in the second"),
        ({"data": {"name": "emoji", "max_words": 18}}, "data.name is coco in the first and emoji in the second"),
        ({"init_from": "me/model"}, "init_from is None in the first and given in the second"),
    ],
)
def test_runs_of_different_recipes_are_no_seeds_of_one_row(changes, message):
    whole = {"steps": 8000, "data": {"name": "data/coco", "max_words": 18}, "init_from": None, "text_gain": 1.0}
    found = {name: trained_with(one, **whole) for name, one in several().items()}
    compare(found, "frechet")
    older = trained_with(evaluation("ssagan", {}, 2, 1.0), steps=8000)  # its version had no other field
    changed = {"a": found["a"], "older": older, "b": trained_with(found["b"], **changes)}
    with pytest.raises(ValueError, match=message) as error:
        compare(changed, "frechet")
    assert str(error.value).startswith("a and b ") and "\n" not in str(error.value)
    rows = compare(changed, "frechet", varied={"b": "in another way"})
    assert [(row.variant, row.seeds) for row in rows] == [("baseline", 2), ("baseline, in another way", 1)]


def test_seeds_may_differ_in_what_trains_nothing():
    one, two = (trained_with(evaluation("ssagan", {}, seed, 1.0), steps=10) for seed in (0, 1))
    one = trained_with(
        one, encoders="runs/e-seed0/model", init_from="me/a@seed-0", data={"name": "data/a"}, log_every=1
    )
    two = trained_with(two, encoders="runs/e-seed1/model", init_from="me/a@seed-1", data={"name": "/b/a", "workers": 4})
    two = trained_with(
        two, log_every=50, evaluation={"images": 99}, compile=True, loss_weights={"d_adv": 1, "words": 0}
    )
    assert [row.seeds for row in compare({"one": one, "two": two}, "frechet")] == [2]


def test_seeds_of_this_project_that_versions_apart_trained_are_one_row():
    found = {path.parent.name: Evaluation.load(path) for path in RESULTS.glob("attngan-emoji-seed*/evaluation.json")}
    with_warmup = [name for name, one in found.items() if "supcon_warmup" in one.subject["recipe"]]
    (row,) = compare(found, "frechet")
    assert (row.variant, row.seeds) == ("+SCL", 3) and len(with_warmup) == 2


def test_files_are_read_and_a_plot_is_made(tmp_path):
    for name, one in several().items():
        one.save(tmp_path / f"{name}.json")
    table = compare_files(sorted(tmp_path.glob("*.json")), "frechet", tmp_path / "out")
    assert (tmp_path / "out" / "comparison.md").read_text() == table + "\n"
    assert Image.open(tmp_path / "out" / "comparison.png").size > (300, 300)


def test_a_table_of_one_shows_real_pictures_beside_it():
    table = values_table(several()["a"])
    assert "| frechet | 200 | 117 |" in table and "| label_accuracy | 0.1 |  |" in table
    assert "1,000 pictures of 64 px (first captions of emoji test, seed 0, truncation None)" in table
