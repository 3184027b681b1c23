"""The card and the page of every `evaluate` module."""

import importlib.util

import gradio as gr
import numpy as np
import pytest
import yaml
from metrics.test_modules import FOLDER, GENERATED, MODULES, OTHER_LABELS, PAIRED, REAL, cases

from t2i_supcon import metrics


@pytest.mark.parametrize("name", MODULES)
def test_cards_and_pages(name, tmp_path):
    """The card is that of a Space; the page computes what the module does from files."""
    _, head, card = (FOLDER / name / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["sdk"] == "gradio" and head["app_file"] == "app.py" and str(head["python_version"]) == "3.11"
    assert {"evaluate", "metric"} <= set(head["tags"]) and f'evaluate.load("t2i_supcon/metrics/{name}")' in card
    spec = importlib.util.spec_from_file_location(f"app_{name}", FOLDER / name / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    [compute] = [event.fn for event in app.demo.fns.values() if event.api_name == "compute"]
    arguments, expected = cases()[name]
    values = []
    for component in app.demo.blocks.values():
        if isinstance(component, gr.File):
            argument = component.label.split()[0]
            np.save(tmp_path / f"{argument}.npy", arguments[argument])
            values.append(str(tmp_path / f"{argument}.npy"))
        elif isinstance(component, gr.Number):
            values.append(arguments.get(component.label, component.value))
    found = compute(*values)
    settled = {"kid": {"kid": metrics.kernel_distance(REAL, GENERATED)[0], "kid_std": 0.0}}
    if name == "r_precision":
        wrong = metrics.wrong_sentences(OTHER_LABELS, 9)
        settled[name] = {"r_precision": metrics.r_precision(GENERATED, PAIRED, wrong)}
    assert found == settled.get(name, expected)
    with pytest.raises(gr.Error, match="choose a file for predictions"):
        compute(None, *values[1:])
    (tmp_path / "broken.npy").write_text("no array")
    with pytest.raises(gr.Error, match="broken.npy holds no vectors"):
        compute(str(tmp_path / "broken.npy"), *values[1:])
