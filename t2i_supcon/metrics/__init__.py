"""What measures: functions of arrays, without networks or files."""

from .representation import alignment, positives_per_anchor, uniformity
from .retrieval import retrieval_recall
from .statistics import FeatureStatistics, feature_statistics, frechet_distance

__all__ = [
    "FeatureStatistics",
    "alignment",
    "feature_statistics",
    "frechet_distance",
    "positives_per_anchor",
    "retrieval_recall",
    "uniformity",
]
