"""The web page of an `evaluate` module: files in, values out. Needs gradio."""

from collections.abc import Mapping
from pathlib import Path

import evaluate
import gradio as gr

from .sources import rows_of


def metric_space(
    folder: Path, columns: tuple[str, ...], files: tuple[str, ...] = (), numbers: Mapping[str, int] | None = None
) -> gr.Blocks:
    """Builds the page of one module.

    Args:
        folder: of the module, with its metric card.
        columns: arguments that are columns of the module; of one column alone the file goes on as
            it is, so that statistics are accepted where the module takes them.
        files: arguments that take the path of a file.
        numbers: arguments that take a number, and its value at the start.
    """
    module = evaluate.load(str(folder))
    numbers = numbers or {}
    card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]

    def compute(*values):
        given = dict(zip((*columns, *files, *numbers), values))
        missing = [name for name in (*columns, *files) if given[name] is None]
        if missing:
            raise gr.Error(f"choose a file for {', '.join(missing)}")
        try:
            for name in columns:
                given[name] = [given[name]] if len(columns) == 1 else rows_of(given[name])
            for name in numbers:
                given[name] = int(given[name])
            return module.compute(**given)
        except (ValueError, OSError) as error:
            raise gr.Error(str(error)) from error

    with gr.Blocks(title=folder.name, analytics_enabled=False) as page:
        inputs = [gr.File(label=f"{name} (.npy or .npz)", file_types=[".npy", ".npz"]) for name in (*columns, *files)]
        inputs += [gr.Number(value, label=name, precision=0) for name, value in numbers.items()]
        button = gr.Button("Compute", variant="primary")
        button.click(compute, inputs, gr.JSON(label="values"), api_name="compute")
        gr.Markdown(card)
    return page
