"""What an evaluation can measure, by name: `MEASURES` is the one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..metrics import (
    class_frechet_distance,
    density_coverage,
    feature_statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from .judge import LabelClassifier, label_accuracy

PER_CLASS = 5  # images of a class, at least, on both sides of a class's Frechet distance


@dataclass(frozen=True)
class FeatureSet:
    """Pictures as a feature network sees them.

    Attributes:
        features: (N, D).
        labels: (N,), negative = unlabelled.
        logits: (N, C) of the network's own classes, or None.
    """

    features: np.ndarray
    labels: np.ndarray
    logits: np.ndarray | None = None


class Compared(NamedTuple):
    """What a measure may look at.

    Attributes:
        real: held-out pictures.
        judged: the pictures in question.
        classifier: of labels, fitted on real training pictures; None where no measure needs it.
        groups: the coarser group of each label, if there are any.
    """

    real: FeatureSet
    judged: FeatureSet
    classifier: LabelClassifier | None = None
    groups: Mapping[int, str] | None = None


class Measure(NamedTuple):
    """One row of `MEASURES`.

    Attributes:
        compute: gives numbers by name.
        higher_is_better: of its first number.
        needs: "labels", "logits" or "classifier", beyond features.
        settings: what the protocol says of it.
    """

    compute: Callable[[Compared], Mapping[str, float]]
    higher_is_better: bool
    needs: tuple[str, ...] = ()
    settings: Mapping[str, object] = {}


def _frechet(sets: Compared) -> dict[str, float]:
    real, judged = (feature_statistics(one.features) for one in (sets.real, sets.judged))
    return {"frechet": frechet_distance(real, judged)}


def _kernel(sets: Compared) -> dict[str, float]:
    return {"kid": kernel_distance(sets.real.features, sets.judged.features)[0]}


def _inception_score(sets: Compared) -> dict[str, float]:
    mean, std = inception_score(sets.judged.logits, splits=10)
    return {"is": mean, "is.std": std}


def _precision_recall(sets: Compared) -> dict[str, float]:
    return dict(zip(("precision", "recall"), precision_recall(sets.real.features, sets.judged.features)))


def _density_coverage(sets: Compared) -> dict[str, float]:
    return dict(zip(("density", "coverage"), density_coverage(sets.real.features, sets.judged.features)))


def _class_frechet(sets: Compared) -> dict[str, float]:
    real, judged = sets.real, sets.judged
    result = class_frechet_distance(real.features, real.labels, judged.features, judged.labels, at_least=PER_CLASS)
    return {"class_frechet": result.mean, "class_frechet.classes": float(result.classes)}


def _label_accuracy(sets: Compared) -> dict[str, float]:
    labelled = sets.judged.labels >= 0
    features, labels = sets.judged.features[labelled], sets.judged.labels[labelled]
    found = label_accuracy(sets.classifier, features, labels, sets.groups)
    values = {"label_accuracy": found.labels}
    return values if found.groups is None else values | {"group_accuracy": found.groups}


MEASURES = {
    "frechet": Measure(_frechet, higher_is_better=False),
    "kid": Measure(_kernel, higher_is_better=False, settings={"subsets": None}),
    "is": Measure(_inception_score, higher_is_better=True, needs=("logits",), settings={"splits": 10}),
    "precision_recall": Measure(_precision_recall, higher_is_better=True, settings={"neighbours": 3}),
    "density_coverage": Measure(_density_coverage, higher_is_better=True, settings={"neighbours": 5}),
    "class_frechet": Measure(
        _class_frechet, higher_is_better=False, needs=("labels",), settings={"at_least": PER_CLASS}
    ),
    "label_accuracy": Measure(_label_accuracy, higher_is_better=True, needs=("labels", "classifier")),
}


def check_measures(names: Sequence[str], has_labels: bool, has_logits: bool) -> None:
    """Refuses what cannot be measured, before anything is drawn.

    Raises:
        ValueError: an unknown name, or one that needs labels or logits that are not there.
    """
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"there is no metric {name!r}; known are {', '.join(MEASURES)}")
        if "labels" in MEASURES[name].needs and not has_labels:
            raise ValueError(f"{name} needs labels of the pictures, and these have none")
        if "logits" in MEASURES[name].needs and not has_logits:
            raise ValueError(f"{name} needs a feature network with classes of its own, such as inception-fid")
