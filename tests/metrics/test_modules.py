"""The `evaluate` modules: each loads from its folder and gives what the function gives."""

from pathlib import Path

import evaluate
import numpy as np
import pytest

from t2i_supcon import metrics
from t2i_supcon.evaluation.judge import fit_label_classifier, label_accuracy

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


def test_batches_add_up():
    module = load("frechet")
    module.add_batch(predictions=GENERATED[:10])
    module.add_batch(predictions=GENERATED[10:])
    assert module.compute(reference=REAL) == {"frechet": metrics.frechet_distance(GENERATED, REAL)}
