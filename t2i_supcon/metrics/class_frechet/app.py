"""The web page of this metric: `python app.py`."""

from pathlib import Path

from t2i_supcon.metrics.space import metric_space

demo = metric_space(
    Path(__file__).parent,
    columns=("predictions", "labels"),
    files=("reference", "reference_labels"),
    numbers={"at_least": 10},
)

if __name__ == "__main__":
    demo.launch()
