"""Shares of generated rows among the real ones, and of real rows among the generated ones."""

import datasets
import evaluate

from t2i_supcon.metrics import precision_recall
from t2i_supcon.metrics.sources import rows_of


class Precision(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Shares of generated rows among the real ones, and of real rows among the generated ones.",
            citation="Kynkaanniemi et al., Improved Precision and Recall Metric, arXiv 1904.06991",
            inputs_description="See the metric card beside this file.",
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))}),
            ],
        )

    def _compute(self, predictions, reference, neighbours=3):
        precision, recall = precision_recall(rows_of(reference), rows_of(predictions), neighbours)
        return {"precision": precision, "recall": recall}
