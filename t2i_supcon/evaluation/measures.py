"""What an evaluation can measure, by name: `MEASURES` is the one table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..data import evenly_spaced
from ..metrics import (
    class_frechet_distance,
    clip_score,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    r_precision,
    wrong_sentences,
)
from .judge import LabelClassifier, label_accuracy

PER_CLASS = 5  # images of a class, at least, on both sides of a class's Frechet distance
CANDIDATES = 99  # wrong sentences that a picture's own competes with in R-precision
OTHER_METRICS = "name metrics without it, as in --metrics frechet kid or a recipe's evaluation.metrics=[frechet]"


@dataclass(frozen=True)
class FeatureSet:
    """Pictures as a feature network sees them.

    Attributes:
        features: (N, D).
        labels: (N,), negative = unlabelled.
        logits: (N, C) of the network's own classes, or None.
        sentences: (N, E), the pictures' captions, NaN where a picture has none that is read; None
            where no measure needs them.
        image_emb: (N, E), the pictures in the space of the captions; None where that is the space
            of the features.
        numbers: (N,), which of all pictures they are, where some may have been left out.
    """

    features: np.ndarray
    labels: np.ndarray
    logits: np.ndarray | None = None
    sentences: np.ndarray | None = None
    image_emb: np.ndarray | None = None
    numbers: np.ndarray | None = None

    def take(self, chosen: Sequence[int] | np.ndarray) -> "FeatureSet":
        """Some of the pictures."""
        chosen = np.asarray(chosen)
        return FeatureSet(*(None if rows is None else rows[chosen] for rows in vars(self).values()))

    def captioned(self) -> "FeatureSet":
        """Those with a caption that is read; `image_emb` is there.

        Raises:
            ValueError: fewer than two.
        """
        chosen = np.flatnonzero(np.isfinite(self.sentences).all(axis=1))
        if len(chosen) < 2:
            raise ValueError(
                f"{len(chosen)} of {len(self.features)} pictures have a caption that the feature network reads; at "
                "least 2 are needed"
            )
        image_emb = self.features if self.image_emb is None else self.image_emb
        return replace(self, image_emb=image_emb).take(chosen)


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
        numbers: the names of those that judge, and whether higher is better; others, such as
            "is.std", only describe one. `group_accuracy` is given where there are groups.
        needs: "labels", "logits", "classifier" or "sentences", beyond features.
        settings: what the protocol says of it.
    """

    compute: Callable[[Compared], Mapping[str, float]]
    numbers: Mapping[str, bool]
    needs: tuple[str, ...] = ()
    settings: Mapping[str, object] = {}

    @property
    def judged_by_training(self) -> bool:
        """Whether training pictures, which its judge may know by heart, are no yardstick of it."""
        return bool({"classifier", "sentences"} & set(self.needs))


def _frechet(sets: Compared) -> dict[str, float]:
    return {"frechet": frechet_distance(sets.real.features, sets.judged.features)}


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
    real, judged = (one.take(np.flatnonzero(one.labels >= 0)) for one in (sets.real, sets.judged))
    result = class_frechet_distance(real.features, real.labels, judged.features, judged.labels, at_least=PER_CLASS)
    return {"class_frechet": result.mean, "class_frechet.classes": float(result.classes)}


def _label_accuracy(sets: Compared) -> dict[str, float]:
    labelled = np.isin(sets.judged.labels, sets.classifier.labels)
    features, labels = sets.judged.features[labelled], sets.judged.labels[labelled]
    found = label_accuracy(sets.classifier, features, labels, sets.groups)
    values = {"label_accuracy": found.labels}
    return values if found.groups is None else values | {"group_accuracy": found.groups}


def _r_precision(sets: Compared) -> dict[str, float]:
    judged = sets.judged.captioned()
    same = np.unique(judged.sentences, axis=0, return_inverse=True)[1].ravel()
    classes = np.where(judged.labels < 0, -1 - same, judged.labels)  # without labels: one for each caption
    return {"r_precision": r_precision(judged.image_emb, judged.sentences, wrong_sentences(classes, CANDIDATES))}


def _clip_score(sets: Compared) -> dict[str, float]:
    judged = sets.judged.captioned()
    return {"clip_score": clip_score(judged.image_emb, judged.sentences)}


MEASURES = {
    "frechet": Measure(_frechet, {"frechet": False}),
    "kid": Measure(_kernel, {"kid": False}, settings={"subsets": None}),
    "is": Measure(_inception_score, {"is": True}, needs=("logits",), settings={"splits": 10}),
    "precision_recall": Measure(_precision_recall, {"precision": True, "recall": True}, settings={"neighbours": 3}),
    "density_coverage": Measure(_density_coverage, {"density": True, "coverage": True}, settings={"neighbours": 5}),
    "class_frechet": Measure(
        _class_frechet, {"class_frechet": False}, needs=("labels",), settings={"at_least": PER_CLASS}
    ),
    "label_accuracy": Measure(
        _label_accuracy, {"label_accuracy": True, "group_accuracy": True}, needs=("labels", "classifier")
    ),
    "r_precision": Measure(
        _r_precision, {"r_precision": True}, needs=("sentences",), settings={"candidates": CANDIDATES, "seed": 0}
    ),
    "clip_score": Measure(_clip_score, {"clip_score": True}, needs=("sentences",)),
}


DEFAULT_MEASURES = ("frechet", "kid", "label_accuracy")


def numbers_of(names: Iterable[str]) -> dict[str, bool]:
    """The numbers that these measures judge by, and whether higher is better."""
    return {number: higher for name in names for number, higher in MEASURES[name].numbers.items()}


@dataclass(frozen=True)
class References:
    """What pictures are judged by.

    Attributes:
        held_out, training: real pictures.
        classifier, groups: see `Compared`.
    """

    held_out: FeatureSet
    training: FeatureSet
    classifier: LabelClassifier | None = None
    groups: Mapping[int, str] | None = None

    def measure(self, names: Sequence[str], judged: FeatureSet) -> dict[str, float]:
        """Numbers of pictures beside the held-out ones."""
        return self._numbers(names, lambda measure: judged)

    def yardstick(self, names: Sequence[str], count: int) -> dict[str, float]:
        """The same numbers of real pictures in place of `count` judged ones: as many training
        pictures, evenly spaced, or, where the judge knows those, all held-out ones."""
        training = self.training.take(evenly_spaced(len(self.training.features), count))
        return self._numbers(names, lambda measure: self.held_out if measure.judged_by_training else training)

    def _numbers(self, names: Sequence[str], judged_by: Callable[[Measure], FeatureSet]) -> dict[str, float]:
        numbers = {}
        for measure in (MEASURES[name] for name in names):
            numbers |= measure.compute(Compared(self.held_out, judged_by(measure), self.classifier, self.groups))
        return numbers


def check_encoders(names: Sequence[str]) -> None:
    """Raises ValueError for encoders that none of these measures reads captions by."""
    reading = [name for name, measure in MEASURES.items() if "sentences" in measure.needs]
    if not set(reading) & set(names):
        raise ValueError(f"encoders are named, but no metric that reads captions: {', '.join(reading)}")


def check_measures(names: Sequence[str], has_labels: bool, has_logits: bool, has_sentences: bool = False) -> None:
    """Refuses what cannot be measured, before anything is drawn.

    Raises:
        ValueError: an unknown name, or one that needs labels, logits or sentences that are not
            there.
    """
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"there is no metric {name!r}; known are {', '.join(MEASURES)}")
        if "labels" in MEASURES[name].needs and not has_labels:
            raise ValueError(f"{name} needs labels of the pictures, and these have none: {OTHER_METRICS}")
        if "logits" in MEASURES[name].needs and not has_logits:
            raise ValueError(f"{name} needs a feature network with classes of its own, such as inception-fid")
        if "sentences" in MEASURES[name].needs and not has_sentences:
            raise ValueError(
                f"{name} needs a feature network that reads captions, such as encoder:FOLDER or clip:NAME, or encoders "
                "beside the features"
            )
