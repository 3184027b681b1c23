"""Mean cosine of each picture with its own caption."""

import datasets
import evaluate

from t2i_supcon.metrics import clip_score
from t2i_supcon.metrics.sources import rows_of


class Clip(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Mean cosine of each picture with its own caption.",
            citation="Hessel et al., CLIPScore, arXiv 2104.08718",
            inputs_description="See the metric card beside this file.",
            features=datasets.Features(
                {name: datasets.Sequence(datasets.Value("float64")) for name in ("predictions", "references")}
            ),
        )

    def _compute(self, predictions, references):
        return {"clip_score": clip_score(rows_of(predictions), rows_of(references))}
