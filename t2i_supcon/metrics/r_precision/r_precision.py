"""Share of pictures that are closer to their own sentence than to those of other classes."""

import datasets
import evaluate

from t2i_supcon.metrics import r_precision, wrong_sentences
from t2i_supcon.metrics.sources import rows_of


class Rprecision(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Share of pictures that are closer to their own sentence than to those of other classes.",
            citation="Xu et al., AttnGAN, arXiv 1711.10485",
            inputs_description="See the metric card beside this file.",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Sequence(datasets.Value("float64")),
                    "labels": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, labels, candidates=99, seed=0):
        wrong = wrong_sentences(rows_of(labels), candidates, seed)
        return {"r_precision": r_precision(rows_of(predictions), rows_of(references), wrong)}
