"""How a saved model came about, written beside it: recipe, facts of the run, samples, card."""

import json
import platform
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator

from ..cards import CARD, FACTS, RECIPE, model_card
from ..evaluation.protocol import made_now
from ..hub import folder_files
from .phase import Phase
from .recipe import Recipe, recipe_values

SAMPLES = "samples"
EMOJI = {
    "title": "the emoji drawings of t2i_supcon",
    "licence": "by drawing, Apache-2.0 or MIT; names and keywords: Unicode CLDR, MIT",
}


def write_provenance(
    folder: Path, phase: Phase, recipe: Recipe, accelerator: Accelerator, images_seen: int, seconds: float, run: str
) -> None:
    """Writes `recipe.yaml`, `training.json`, `samples/` and the card beside a model just saved.

    Args:
        folder: of the model.
        images_seen: rows of all steps and processes.
        seconds: that the steps took.
        run: name of the run's folder.
    """
    (folder / RECIPE).write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False), encoding="utf-8")
    samples = []
    (folder / SAMPLES).mkdir()
    for number, (image, text) in enumerate(zip(*phase.samples(), strict=True), start=1):
        samples.append({"file": f"{SAMPLES}/{number:02d}.png", "text": text})
        image.save(folder / samples[-1]["file"])
    facts = {
        "step": phase.step,
        "images_seen": images_seen,
        "seconds": round(seconds, 1),
        "hardware": hardware(accelerator.device),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "data": describe_data(recipe.data.name),
        "samples": samples,
        "versions": made_now()["versions"],
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    name = f"user/{run or recipe.model}"  # until it is published under its own
    (folder / CARD).write_text(model_card(folder_files(folder), name), encoding="utf-8")


def hardware(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()} ({platform.machine()}), {torch.get_num_threads()} thread(s)"


def describe_data(name: str) -> dict[str, object]:
    """Name, title and licence of the data, as its own card says, and whether it is of the Hub."""
    if name == "emoji":
        return {"name": name, **EMOJI, "on_hub": False}
    card = Path(name) / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    found = {"title": None, "licence": None}
    for key, mark in (("title", "# "), ("licence", "- Licence: ")):
        found[key] = next((line.removeprefix(mark) for line in lines if line.startswith(mark)), None)
    return {"name": name, **found, "on_hub": not Path(name).exists()}
