"""How often a caption finds its own picture among a pool of others."""

import datasets
import evaluate

from t2i_supcon.metrics import retrieval_recall
from t2i_supcon.metrics.sources import rows_of


class Retrieval(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="How often a caption finds its own picture among a pool of others.",
            citation="the usual recall at k of image retrieval",
            inputs_description="See the metric card beside this file.",
            features=datasets.Features(
                {name: datasets.Sequence(datasets.Value("float64")) for name in ("predictions", "references")}
            ),
        )

    def _compute(self, predictions, references, pool=100):
        return retrieval_recall(rows_of(references), rows_of(predictions), pool)
