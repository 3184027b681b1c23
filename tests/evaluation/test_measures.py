"""The table of measures, on points for which each number is known."""

import numpy as np
import pytest
from evaluation.test_judge import clusters

from t2i_supcon.evaluation.judge import fit_label_classifier
from t2i_supcon.evaluation.measures import MEASURES, Compared, FeatureSet, References, check_measures, numbers_of

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
POINTS = RNG.normal(size=(60, 4)) + LABELS[:, None]
SHIFT = np.array([1.0, -2.0, 0.0, 2.0])


def compute(name, judged, **sides):
    return MEASURES[name].compute(Compared(FeatureSet(POINTS, LABELS), judged, **sides))


def test_a_shift_moves_distances_by_its_square():
    """Both sides have one covariance, of all points and of those of each class."""
    shifted = FeatureSet(POINTS + SHIFT, LABELS)
    assert compute("frechet", shifted) == {"frechet": pytest.approx(9)}
    assert compute("class_frechet", shifted) == {"class_frechet": pytest.approx(9), "class_frechet.classes": 3}
    unlabelled = FeatureSet(POINTS + SHIFT, np.where(LABELS == 1, -1, LABELS))
    assert compute("class_frechet", unlabelled)["class_frechet.classes"] == 2
    both = Compared(unlabelled, unlabelled)  # those without label are no class
    assert MEASURES["class_frechet"].compute(both)["class_frechet.classes"] == 2


def test_the_same_points_are_as_good_as_real_and_far_ones_are_not():
    same, far = FeatureSet(POINTS, LABELS), FeatureSet(POINTS + 100, LABELS)
    assert compute("precision_recall", same) == {"precision": 1, "recall": 1}
    assert compute("precision_recall", far) == {"precision": 0, "recall": 0}
    assert compute("density_coverage", same)["coverage"] == 1
    assert compute("density_coverage", far) == {"density": 0, "coverage": 0}
    # unbiased: the same points are nearer than chance
    assert compute("kid", same)["kid"] < 0 < compute("kid", far)["kid"]


def test_the_inception_score_counts_classes_that_are_told_apart():
    sure, unsure = 50 * np.eye(4)[np.arange(80) % 4], np.zeros((80, 4))
    for logits, expected in ((sure, 4), (unsure, 1)):
        found = compute("is", FeatureSet(POINTS, LABELS, logits))
        assert found == {"is": pytest.approx(expected), "is.std": pytest.approx(0, abs=1e-9)}


def test_pictures_without_label_are_not_judged_by_it():
    classifier = fit_label_classifier(*clusters(0))
    points, labels = clusters(1)
    wrong = np.where(labels == 3, 5, -1)  # all that have a label have a wrong one
    found = compute("label_accuracy", FeatureSet(points, wrong), classifier=classifier)
    assert found["label_accuracy"] < 0.05 and found.keys() == {"label_accuracy"}
    groups = {3: "few", 5: "few", 8: "many"}
    found = compute("label_accuracy", FeatureSet(points, wrong), classifier=classifier, groups=groups)
    assert found["group_accuracy"] > 0.95
    some = np.where(labels == 3, 4, labels)  # a label that no training picture had
    found = compute("label_accuracy", FeatureSet(points, some), classifier=classifier)
    assert found["label_accuracy"] > 0.95


def test_pictures_are_nearest_to_sentences_of_their_own_or_not():
    images = np.random.default_rng(1).normal(size=(60, 16))
    for sign, hits in ((2, 1), (-1, 0)):
        judged = FeatureSet(images, LABELS, sentences=sign * images)
        assert compute("r_precision", judged) == {"r_precision": hits}
        assert compute("clip_score", judged) == {"clip_score": pytest.approx(np.sign(sign))}
    corners = np.eye(3, 16)[LABELS]  # one sentence a class: those of one's own class do not compete
    assert compute("r_precision", FeatureSet(corners, LABELS, sentences=corners)) == {"r_precision": 1}
    nobody = np.full(60, -1)  # of no class: every other sentence competes, the same one of another picture does not
    assert compute("r_precision", FeatureSet(corners, nobody, sentences=corners)) == {"r_precision": 1}
    tied = corners * (1 + np.arange(60)[:, None] // 3 % 2)  # six sentences, of which two are alike: ties are misses
    assert compute("r_precision", FeatureSet(corners, nobody, sentences=tied)) == {"r_precision": 0}
    some = np.where(np.arange(60)[:, None] % 2, np.nan, images)
    assert compute("clip_score", FeatureSet(images, LABELS, sentences=some)) == {"clip_score": pytest.approx(1)}
    one = np.where(np.arange(60)[:, None], np.nan, images)
    with pytest.raises(ValueError, match="1 of 60 pictures have a caption that the feature network reads; at least 2"):
        compute("r_precision", FeatureSet(images, LABELS, sentences=one))


def test_as_many_real_pictures_as_judged_ones_are_the_yardstick_unless_the_judge_knows_them():
    held_out = FeatureSet(POINTS, LABELS, sentences=POINTS)
    training = FeatureSet(np.arange(60.0)[:, None] + np.zeros((1, 4)), LABELS)
    references = References(held_out, training)
    found = references.yardstick(["frechet", "clip_score"], 3)
    assert found["frechet"] == pytest.approx(compute("frechet", training.take([0, 30, 59]))["frechet"])
    assert found["clip_score"] == pytest.approx(1)
    judged = FeatureSet(POINTS + SHIFT, LABELS, sentences=-POINTS - SHIFT)
    measured = references.measure(["frechet", "clip_score"], judged)
    assert measured == {"frechet": pytest.approx(9), "clip_score": pytest.approx(-1)}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_gives_the_numbers_that_it_names(name):
    classifier = fit_label_classifier(POINTS, LABELS, epochs=1)
    judged = FeatureSet(POINTS + SHIFT, LABELS, logits=POINTS, sentences=POINTS)
    found = compute(name, judged, classifier=classifier, groups={0: "a", 1: "a", 2: "b"})
    assert {key for key in found if "." not in key} == set(numbers_of([name]))  # those with a dot describe one


def test_distances_are_better_the_lower_and_all_else_the_higher():
    assert [name for name, higher in numbers_of(MEASURES).items() if not higher] == ["frechet", "kid", "class_frechet"]


def test_what_cannot_be_measured_is_refused_by_name():
    check_measures(MEASURES, has_labels=True, has_logits=True, has_sentences=True)
    check_measures(["frechet"], has_labels=False, has_logits=False)
    with pytest.raises(ValueError, match="there is no metric 'fid'; known are frechet, kid"):
        check_measures(["frechet", "fid"], has_labels=True, has_logits=True)
    with pytest.raises(ValueError, match="class_frechet needs labels of the pictures, and these have none"):
        check_measures(["class_frechet"], has_labels=False, has_logits=True)
    with pytest.raises(ValueError, match="is needs a feature network with classes of its own"):
        check_measures(["is"], has_labels=True, has_logits=False)
    with pytest.raises(ValueError, match="r_precision needs a feature network that reads captions, such as encoder"):
        check_measures(["r_precision"], has_labels=True, has_logits=True)
