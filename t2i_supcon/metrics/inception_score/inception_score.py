"""exp of the mean KL divergence between the classes of each picture and those of all."""

import datasets
import evaluate

from t2i_supcon.metrics import inception_score
from t2i_supcon.metrics.sources import rows_of


class Inception(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="exp of the mean KL divergence between the classes of each picture and those of all.",
            citation="Salimans et al., Improved Techniques for Training GANs, arXiv 1606.03498",
            inputs_description="See the metric card beside this file.",
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))}),
            ],
        )

    def _compute(self, predictions, splits=10):
        mean, std = inception_score(rows_of(predictions), splits)
        return {"inception_score": mean, "inception_score_std": std}
