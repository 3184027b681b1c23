"""Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3."""

import datasets
import evaluate

from t2i_supcon.metrics import kernel_distance
from t2i_supcon.metrics.sources import rows_of


class Kid(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3.",
            citation="Binkowski et al., Demystifying MMD GANs, arXiv 1801.01401",
            inputs_description="See the metric card beside this file.",
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))}),
            ],
        )

    def _compute(self, predictions, reference, subsets=None, subset_size=None, seed=0):
        mean, std = kernel_distance(rows_of(reference), rows_of(predictions), subsets, subset_size, seed)
        return {"kid": mean, "kid_std": std}
