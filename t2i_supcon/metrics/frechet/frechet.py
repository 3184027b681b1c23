"""Squared Frechet distance of two sets of features, taken as Gaussians."""

import datasets
import evaluate

from t2i_supcon.metrics import frechet_distance
from t2i_supcon.metrics.sources import statistics_of


class Frechet(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Squared Frechet distance of two sets of features, taken as Gaussians.",
            citation="Heusel et al., GANs Trained by a Two Time-Scale Update Rule, arXiv 1706.08500",
            inputs_description="See the metric card beside this file.",
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))}),
            ],
        )

    def _compute(self, predictions, reference):
        return {"frechet": frechet_distance(statistics_of(predictions), statistics_of(reference))}
