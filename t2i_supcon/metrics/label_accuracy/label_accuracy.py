"""How often a linear classifier of real training images names the label a picture was made for."""

import datasets
import evaluate

from t2i_supcon.evaluation.judge import fit_label_classifier, label_accuracy
from t2i_supcon.metrics.sources import rows_of


class Accuracy(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="How often a linear classifier of real training images names the label a picture was made for.",
            citation="the classification accuracy score of Ravuri and Vinyals, arXiv 1905.10887, the other way round",
            inputs_description="See the metric card beside this file.",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, training, training_labels, seed=0):
        classifier = fit_label_classifier(rows_of(training), rows_of(training_labels), seed=seed)
        return {"label_accuracy": label_accuracy(classifier, rows_of(predictions), rows_of(references)).labels}
