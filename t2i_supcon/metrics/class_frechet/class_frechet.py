"""Mean of the Frechet distances within each class that has enough rows on both sides."""

import datasets
import evaluate

from t2i_supcon.metrics import class_frechet_distance
from t2i_supcon.metrics.sources import rows_of


class Within(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Mean of the Frechet distances within each class that has enough rows on both sides.",
            citation="Miyato and Koyama, cGANs with Projection Discriminator, arXiv 1802.05637",
            inputs_description="See the metric card beside this file.",
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float64")), "labels": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, labels, reference, reference_labels, at_least):
        found = class_frechet_distance(
            rows_of(reference), rows_of(reference_labels), rows_of(predictions), rows_of(labels), at_least
        )
        return {"class_frechet": found.mean, "per_class": found.per_class, "classes": found.classes}
