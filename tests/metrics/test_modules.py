"""The `evaluate` modules: each loads from its folder, gives what the function gives, and has a card
and a page."""

import importlib.util
from pathlib import Path

import evaluate
import gradio as gr
import numpy as np
import pytest
import yaml

from t2i_supcon import metrics
from t2i_supcon.evaluation.judge import fit_label_classifier, label_accuracy
from t2i_supcon.metrics import feature_statistics
from t2i_supcon.metrics.sources import rows_of, statistics_of

FOLDER = Path(metrics.__file__).parent
MODULES = sorted(path.parent.name for path in FOLDER.glob("*/app.py"))
RNG = np.random.default_rng(0)
REAL, GENERATED = RNG.normal(size=(40, 3)), RNG.normal(size=(30, 3)) + 0.5
LABELS, OTHER_LABELS = np.arange(40) % 3, np.arange(30) % 3
PAIRED = REAL[:30]


def load(name):
    return evaluate.load(str(FOLDER / name), keep_in_memory=True)


def cases():
    """Arguments of each module's `compute`, and the values expected."""
    kid = metrics.kernel_distance(REAL, GENERATED, subsets=3, subset_size=10, seed=1)
    score = metrics.inception_score(GENERATED, splits=3)
    within = metrics.class_frechet_distance(REAL, LABELS, GENERATED, OTHER_LABELS, 5)
    wrong = metrics.wrong_sentences(OTHER_LABELS, 9, seed=2)
    judge = fit_label_classifier(REAL, LABELS)
    sets = {"predictions": GENERATED, "reference": REAL}
    pairs = {"predictions": GENERATED, "references": PAIRED}
    return {
        "frechet": (sets, {"frechet": metrics.frechet_distance(GENERATED, REAL)}),
        "kid": ({**sets, "subsets": 3, "subset_size": 10, "seed": 1}, dict(zip(("kid", "kid_std"), kid))),
        "inception_score": (
            {"predictions": GENERATED, "splits": 3},
            dict(zip(("inception_score", "inception_score_std"), score)),
        ),
        "precision_recall": (sets, dict(zip(("precision", "recall"), metrics.precision_recall(REAL, GENERATED)))),
        "density_coverage": (sets, dict(zip(("density", "coverage"), metrics.density_coverage(REAL, GENERATED)))),
        "class_frechet": (
            {**sets, "labels": OTHER_LABELS, "reference_labels": LABELS, "at_least": 5},
            {"class_frechet": within.mean, "per_class": within.per_class, "classes": 3},
        ),
        "clip_score": (pairs, {"clip_score": metrics.clip_score(GENERATED, PAIRED)}),
        "r_precision": (
            {**pairs, "labels": OTHER_LABELS, "candidates": 9, "seed": 2},
            {"r_precision": metrics.r_precision(GENERATED, PAIRED, wrong)},
        ),
        "retrieval_recall": ({**pairs, "pool": 10}, metrics.retrieval_recall(PAIRED, GENERATED, pool=10)),
        "label_accuracy": (
            {"predictions": GENERATED, "references": OTHER_LABELS, "training": REAL, "training_labels": LABELS},
            {"label_accuracy": label_accuracy(judge, GENERATED, OTHER_LABELS).labels},
        ),
    }


def test_every_module_is_tried():
    assert set(MODULES) == set(cases())


@pytest.mark.parametrize("name", MODULES)
def test_modules_compute_what_the_functions_do(name):
    arguments, expected = cases()[name]
    assert load(name).compute(**arguments) == expected


def test_files_count_as_what_they_hold(tmp_path):
    np.save(tmp_path / "generated.npy", GENERATED)
    np.savez(tmp_path / "real.npz", features=REAL)
    feature_statistics(REAL).save(tmp_path / "statistics.npz")
    expected = metrics.frechet_distance(GENERATED, REAL)
    for reference in ("real.npz", "statistics.npz"):
        found = load("frechet").compute(
            predictions=[str(tmp_path / "generated.npy")], reference=str(tmp_path / reference)
        )
        assert found == {"frechet": pytest.approx(expected)}
    found = load("kid").compute(predictions=[str(tmp_path / "generated.npy")], reference=str(tmp_path / "real.npz"))
    assert found["kid"] == metrics.kernel_distance(REAL, GENERATED)[0]


def test_batches_add_up():
    module = load("frechet")
    module.add_batch(predictions=GENERATED[:10])
    module.add_batch(predictions=GENERATED[10:])
    assert module.compute(reference=REAL) == {"frechet": metrics.frechet_distance(GENERATED, REAL)}


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        rows_of(str(tmp_path / "missing.npy"))
    with pytest.raises(FileNotFoundError):
        statistics_of(str(tmp_path / "missing.npz"))
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "other.npz", x=REAL)
    for name in ("text.npy", "other.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no vectors"):
            rows_of([str(tmp_path / name)])


@pytest.mark.parametrize("name", MODULES)
def test_cards_and_pages(name, tmp_path):
    """The card is that of a Space; the page computes what the module does from files."""
    _, head, card = (FOLDER / name / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["sdk"] == "gradio" and head["app_file"] == "app.py" and str(head["python_version"]) == "3.11"
    assert {"evaluate", "metric"} <= set(head["tags"]) and f'evaluate.load("t2i_supcon/metrics/{name}")' in card
    spec = importlib.util.spec_from_file_location(f"app_{name}", FOLDER / name / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    [compute] = [event.fn for event in app.demo.fns.values() if event.api_name == "compute"]
    arguments, expected = cases()[name]
    values = []
    for component in app.demo.blocks.values():
        if isinstance(component, gr.File):
            argument = component.label.split()[0]
            np.save(tmp_path / f"{argument}.npy", arguments[argument])
            values.append(str(tmp_path / f"{argument}.npy"))
        elif isinstance(component, gr.Number):
            values.append(arguments.get(component.label, component.value))
    found = compute(*values)
    settled = {"kid": {"kid": metrics.kernel_distance(REAL, GENERATED)[0], "kid_std": 0.0}}
    if name == "r_precision":
        wrong = metrics.wrong_sentences(OTHER_LABELS, 9)
        settled[name] = {"r_precision": metrics.r_precision(GENERATED, PAIRED, wrong)}
    assert found == settled.get(name, expected)
    with pytest.raises(gr.Error, match="choose a file for predictions"):
        compute(None, *values[1:])
    (tmp_path / "broken.npy").write_text("no array")
    with pytest.raises(gr.Error, match="broken.npy holds no vectors"):
        compute(str(tmp_path / "broken.npy"), *values[1:])
