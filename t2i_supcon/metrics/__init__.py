"""What measures: functions of arrays, numpy or torch, computed in float64; `features` holds the
networks that make such arrays of images."""

from .kernel import kernel_distance
from .manifold import density_coverage, precision_recall
from .representation import alignment, positives_per_anchor, uniformity
from .retrieval import label_precision, r_precision, retrieval_recall, wrong_sentences
from .scores import clip_score, inception_score
from .statistics import (
    ClassFrechetDistance,
    FeatureStatistics,
    StatisticsAccumulator,
    check_same_protocol,
    class_frechet_distance,
    feature_statistics,
    frechet_bias,
    frechet_distance,
)

__all__ = [
    "ClassFrechetDistance",
    "FeatureStatistics",
    "StatisticsAccumulator",
    "alignment",
    "check_same_protocol",
    "class_frechet_distance",
    "clip_score",
    "density_coverage",
    "feature_statistics",
    "frechet_bias",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "label_precision",
    "positives_per_anchor",
    "precision_recall",
    "r_precision",
    "retrieval_recall",
    "uniformity",
    "wrong_sentences",
]
