"""Label accuracy: does a classifier that saw real training images alone recognise what a generated
picture was asked to show?

The accuracy of the same classifier on real held-out images is the yardstick to show beside it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ..metrics.arrays import Array, as_labels, as_rows


class LabelClassifier(NamedTuple):
    """A linear classifier of features.

    Attributes:
        labels: (C,) those it knows, ascending.
        mean, scale: (D,) that standardise features.
        weight, bias: (C, D) and (C,).
    """

    labels: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def predict(self, features: Array) -> np.ndarray:
        """(N,) labels of (N, D) features.

        Raises:
            ValueError: features of another width.
        """
        features = as_rows(features, "features", at_least=1)
        if features.shape[1] != len(self.mean):
            raise ValueError(f"features are {features.shape[1]} wide; the classifier was fitted on {len(self.mean)}")
        logits = (features - self.mean) / self.scale @ self.weight.T + self.bias
        return self.labels[logits.argmax(axis=1)]


def fit_label_classifier(
    features: Array,
    labels: Array,
    epochs: int = 60,
    learning_rate: float = 1e-3,
    weight_decay: float = 1.0,
    label_smoothing: float = 0.05,
    batch_size: int = 256,
    seed: int = 0,
) -> LabelClassifier:
    """Fits a linear classifier of standardised features, with AdamW on smoothed cross-entropy.

    It starts from zero and draws the order of rows from the seed alone; other random states stay
    untouched.

    Args:
        features, labels: (N, D) and (N,) integers of real training images.

    Raises:
        ValueError: fewer than two classes, or negative labels, which mean none.
    """
    features = as_rows(features, "features")
    labels = as_labels(labels, len(features), "labels")
    known, targets = np.unique(labels, return_inverse=True)
    if known[0] < 0:
        raise ValueError(f"{(labels < 0).sum()} of {len(labels)} rows have no label; leave them out")
    if len(known) < 2:
        raise ValueError(f"all {len(labels)} rows have the label {known[0]}; a classifier needs two classes")
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    x, y = torch.from_numpy((features - mean) / scale).float(), torch.from_numpy(targets)
    weight, bias = (torch.zeros(*shape, requires_grad=True) for shape in ((len(known), x.shape[1]), (len(known),)))
    optimizer = torch.optim.AdamW([weight, bias], lr=learning_rate, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=generator).split(batch_size):
                optimizer.zero_grad()
                logits = F.linear(x[rows], weight, bias)
                F.cross_entropy(logits, y[rows], label_smoothing=label_smoothing).backward()
                optimizer.step()
    weight, bias = (value.detach().double().numpy() for value in (weight, bias))
    return LabelClassifier(known, mean, scale, weight, bias)


class LabelAccuracy(NamedTuple):
    """Shares in [0, 1] of rows whose label, and whose group of labels, is named rightly.

    Attributes:
        labels: of all labels the classifier knows.
        groups: None where the data has no groups.
    """

    labels: float
    groups: float | None


def label_accuracy(
    classifier: LabelClassifier, features: Array, labels: Array, groups: Mapping[int, object] | None = None
) -> LabelAccuracy:
    """How often the classifier names the label that a picture was made for.

    Args:
        features, labels: (N, D) and (N,) of generated or of held-out pictures.
        groups: the coarser group of each label the classifier knows; a label of the right group
            counts there.

    Raises:
        ValueError: labels that the classifier never saw, or labels without a group.
    """
    features = as_rows(features, "features", at_least=1)
    labels = as_labels(labels, len(features), "labels")
    unseen = np.setdiff1d(labels, classifier.labels)
    if len(unseen):
        raise ValueError(
            f"{len(unseen)} labels are not among the {len(classifier.labels)} that the classifier was fitted on, "
            f"{unseen[0]} for instance; judge pictures of the training images' labels alone"
        )
    predicted = classifier.predict(features)
    exact = float((predicted == labels).mean())
    if groups is None:
        return LabelAccuracy(exact, None)
    lacking = [label for label in classifier.labels.tolist() if label not in groups]
    if lacking:
        raise ValueError(f"{len(lacking)} labels have no group, {lacking[0]} for instance")
    right = [groups[a] == groups[b] for a, b in zip(predicted.tolist(), labels.tolist())]
    return LabelAccuracy(exact, float(np.mean(right)))
