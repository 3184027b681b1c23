"""How densely generated rows lie among the real ones, and how many real rows have one near."""

import datasets
import evaluate

from t2i_supcon.metrics import density_coverage
from t2i_supcon.metrics.sources import rows_of


class Density(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="How densely generated rows lie among the real ones, and how many real rows have one near.",
            citation="Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797",
            inputs_description="See the metric card beside this file.",
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))}),
            ],
        )

    def _compute(self, predictions, reference, neighbours=5):
        density, coverage = density_coverage(rows_of(reference), rows_of(predictions), neighbours)
        return {"density": density, "coverage": coverage}
