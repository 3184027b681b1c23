"""The classifier that judges generated pictures, on points whose labels are known."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from t2i_supcon.evaluation.judge import LabelClassifier, fit_label_classifier, label_accuracy


def clusters(seed, rows=90, labels=(3, 5, 8), distance=6.0):
    """Points around one corner per label."""
    rng = np.random.default_rng(seed)
    own = np.array(labels)[np.arange(rows) % len(labels)]
    corners = distance * np.eye(len(labels), 4)
    return corners[np.arange(rows) % len(labels)] + rng.normal(size=(rows, 4)), own


def test_separate_clusters_are_told_apart():
    classifier = fit_label_classifier(*clusters(0))
    assert classifier.labels.tolist() == [3, 5, 8]
    assert label_accuracy(classifier, *clusters(1)).labels > 0.95
    assert label_accuracy(classifier, torch.tensor(clusters(1)[0]), torch.tensor(clusters(1)[1])).labels > 0.95


def test_labels_without_meaning_are_named_at_chance():
    x, labels = clusters(0, rows=3000, distance=0)
    accuracy = label_accuracy(fit_label_classifier(x, labels, epochs=5), *clusters(1, rows=3000, distance=0))
    assert accuracy.labels == pytest.approx(1 / 3, abs=0.03)


def test_fitting_is_that_of_a_linear_layer_from_zero():
    x, labels = clusters(2)
    x, labels = x[labels != 8], labels[labels != 8]
    x, labels = x[20:], np.where(np.arange(40) < 5, 8, labels[20:])  # classes of different size
    classifier = fit_label_classifier(x, labels, epochs=3, batch_size=len(x), label_smoothing=0.1)
    layer = nn.Linear(4, 3)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=1.0)
    targets = torch.from_numpy(np.searchsorted([3, 5, 8], labels))
    standard = torch.tensor((x - x.mean(0)) / x.std(0)).float()
    for _ in range(3):
        optimizer.zero_grad()
        nn.CrossEntropyLoss(label_smoothing=0.1)(layer(standard), targets).backward()
        optimizer.step()
    assert_close(torch.from_numpy(classifier.weight).float(), layer.weight.detach(), rtol=1e-4, atol=1e-7)
    assert_close(torch.from_numpy(classifier.bias).float(), layer.bias.detach(), rtol=1e-4, atol=1e-7)


def test_the_seed_decides_and_other_random_states_stay():
    x, labels = clusters(3)
    before = torch.get_rng_state()
    first, second = (fit_label_classifier(x, labels, epochs=2, batch_size=7) for _ in range(2))
    other = fit_label_classifier(x, labels, epochs=2, batch_size=7, seed=1)
    assert (first.weight == second.weight).all() and (first.weight != other.weight).any()
    assert torch.equal(before, torch.get_rng_state())
    with torch.no_grad():  # as evaluations run
        assert (fit_label_classifier(x, labels, epochs=2, batch_size=7).weight == first.weight).all()


def test_groups_count_labels_of_the_right_group():
    """Names the axis of the largest value: 0, 1, 1, 2."""
    classifier = LabelClassifier(np.arange(3), np.zeros(3), np.ones(3), np.eye(3), np.zeros(3))
    x = np.eye(3)[[0, 1, 1, 2]]
    found = label_accuracy(classifier, x, [0, 0, 2, 1], groups={0: "animal", 1: "animal", 2: "plant"})
    assert found == (1 / 4, 2 / 4)
    assert label_accuracy(classifier, x, [0, 1, 1, 2]) == (1, None)


def test_what_the_classifier_never_saw_is_refused():
    classifier = fit_label_classifier(*clusters(0), epochs=1)
    x, labels = clusters(1)
    with pytest.raises(ValueError, match="2 labels are not among the 3 .*, 0 for instance"):
        label_accuracy(classifier, x, np.where(labels == 3, 0, np.where(labels == 5, 9, 8)))
    with pytest.raises(ValueError, match="features are 2 wide; the classifier was fitted on 4"):
        label_accuracy(classifier, x[:, :2], labels)
    with pytest.raises(ValueError, match="1 labels have no group, 8 for instance"):
        label_accuracy(classifier, x, labels, groups={3: 0, 5: 0})


def test_what_cannot_be_fitted_is_refused():
    x, labels = clusters(0)
    with pytest.raises(ValueError, match="30 of 90 rows have no label"):
        fit_label_classifier(x, np.where(labels == 3, -1, labels))
    with pytest.raises(ValueError, match="all 90 rows have the label 4"):
        fit_label_classifier(x, np.full(90, 4))
    with pytest.raises(ValueError, match=r"labels have shape \(89,\); expected \(90,\)"):
        fit_label_classifier(x, labels[1:])
