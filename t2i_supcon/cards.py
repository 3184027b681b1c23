"""Model cards, made from the files of a folder: what a run and an evaluation left there."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCardData

CARD, CONFIG, RECIPE, FACTS = "README.md", "config.json", "recipe.yaml", "training.json"
EVALUATION, EVALUATION_TABLE, EVALUATION_GRID = "evaluation.json", "evaluation.md", "evaluation.png"
DISCRIMINATOR = "discriminator/config.json"
ENCODERS = ("DAMSMModel", "CLIPPairModel", "CLIPModel")
MARK = (
    "<!-- Made by t2i_supcon from the files beside it, and made anew at each upload: "
    "remove this line to keep changes of your own. -->"
)
PAPER = "[arXiv 2412.03957](https://arxiv.org/abs/2412.03957)"
CITATION = """@article{liu2024supcon,
  title   = {A Framework For Image Synthesis Using Supervised Contrastive Learning},
  author  = {Liu, Yibin and Zhang, Jianyu and Zhang, Li and Li, Shijian and Pan, Gang},
  journal = {arXiv preprint arXiv:2412.03957},
  year    = {2024}
}"""


class Architecture(NamedTuple):
    """What a card says of a kind of model."""

    name: str
    arxiv: str


ARCHITECTURES = {  # by `model_type` and by the names that recipes have for it
    "attngan": Architecture("AttnGAN", "1711.10485"),
    "dmgan": Architecture("DM-GAN", "1904.01310"),
    "dfgan": Architecture("DF-GAN", "2008.05865"),
    "ssagan": Architecture("SSA-GAN", "2104.00567"),
    "galip": Architecture("GALIP", "2301.12959"),
    "damsm": Architecture("DAMSM encoders", "1711.10485"),
    "clip_pair": Architecture("CLIP encoders", "2103.00020"),
    "clip": Architecture("CLIP encoders", "2103.00020"),
}
GUIDANCES = {
    "supcon": "with supervised contrast (SCL)",
    "unicl": "with UniCL in place of supervised contrast",
    "label_ce": "with cross-entropy on labels in place of supervised contrast",
    "nt_xent": "with NT-Xent in place of supervised contrast",
}


class Link(NamedTuple):
    """Another repository that a card points to: its name and what it is to this one."""

    repository: str
    what: str


def is_made(text: str) -> bool:
    """Whether a card was made here and not changed by hand since its mark was removed."""
    return MARK in text


def model_card(
    files: Mapping[str, Path], repository: str, encoders: str | None = None, links: Sequence[Link] = ()
) -> str:
    """The card of a text-to-image model, or of encoders, as the text of its README.md.

    Args:
        files: of the repository, by their paths in it. Of these it reads `config.json` and, where
            they are there, `recipe.yaml`, `training.json`, `evaluation.json` and `evaluation.md`.
        repository: "user/name", for the code of the card.
        encoders: the repository of the encoders that a text-to-image model was trained around.
        links: other repositories to point to.
    """
    config = _json(files, CONFIG)
    facts, evaluation = _json(files, FACTS), _json(files, EVALUATION)
    recipe = yaml.safe_load(files[RECIPE].read_text(encoding="utf-8")) if RECIPE in files else {}
    name = config.get("model_type", "model")
    architecture = ARCHITECTURES.get(name, Architecture(name, ""))
    kind = str((config.get("architectures") or [""])[0])
    draws, embeds = kind.endswith("ForTextToImage"), kind in ENCODERS
    data = facts.get("data", {})
    samples = [sample for sample in facts.get("samples", ()) if sample["file"] in files]
    title = f"{architecture.name}{_trained_on(data)}, {guidance_of(recipe)}" if recipe else architecture.name
    widget = [{"text": sample["text"], "output": {"url": sample["file"]}} for sample in samples if draws]
    metadata = ModelCardData(
        library_name="t2i_supcon",
        pipeline_tag="text-to-image" if draws else "feature-extraction" if embeds else None,
        license="apache-2.0" if data.get("name") == "emoji" else "other",
        license_name=None if data.get("name") == "emoji" else "see-the-card",
        tags=[
            "t2i_supcon",
            name,
            *(["gan", "text-to-image"] if draws else ["encoders"] if embeds else ["gan"]),
            "arxiv:2412.03957",
        ],
        datasets=[data["name"]] if data.get("on_hub") else None,
        base_model=encoders,
        metrics=sorted(evaluation["values"]) if evaluation else None,
        model_name=repository.split("/")[-1],
        eval_results=_eval_results(evaluation) or None,
        widget=widget or None,
    )
    prompt = samples[0]["text"] if samples and draws else "a red heart"
    if draws:
        use = _use_gan(repository, kind.removesuffix("ForTextToImage"), prompt, encoders, DISCRIMINATOR in files)
    else:
        use = _use_encoders(repository, kind) if embeds else _use_part(repository, kind)
    sections = [
        f"# {repository.split('/')[-1]}",
        MARK,
        f"{title}. It is a model of the package `t2i_supcon`, which puts text-to-image GANs and the method of "
        'Liu et al., "A Framework For Image Synthesis Using Supervised Contrastive Learning" '
        f"({PAPER}), into the Hugging Face ecosystem.",
        "<Gallery />" if draws and samples else _pictures(samples),
        "## Use\n" + use,
        "## Training\n" + _training(recipe, facts, encoders),
        "## Evaluation\n" + _evaluation(files, evaluation, repository),
        "## From the papers, and chosen here\n" + _origins(architecture, recipe),
        "## Limits\n" + _limits(config, draws),
        _links(links),
        "## Licences\n" + _licences(data),
        f"## Citation\n```bibtex\n{CITATION}\n```",
    ]
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{metadata.to_yaml()}\n---\n\n{body}\n"


def _json(files: Mapping[str, Path], name: str) -> dict:
    return json.loads(files[name].read_text(encoding="utf-8")) if name in files else {}


def _trained_on(data: Mapping) -> str:
    return f" trained on {data['title']}" if data.get("title") else f" trained on `{data['name']}`" if data else ""


def guidance_of(recipe: Mapping) -> str:
    """By what a model was trained beside its own losses, in words."""
    added = [text for term, text in GUIDANCES.items() if recipe.get("loss_weights", {}).get(term)]
    return " and ".join(added) or "the baseline without supervised contrast"


def _eval_results(evaluation: Mapping) -> list[EvalResult]:
    """One result a number, each with the whole protocol."""
    if not evaluation:
        return []
    protocol = evaluation["protocol"]
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type=protocol["data"],
            dataset_name=protocol["data"],
            dataset_split=protocol["split"],
            metric_type=name,
            metric_name=f"{name} ({protocol['features']['network']} features)",
            metric_value=value,
            metric_args=protocol,
        )
        for name, value in evaluation["values"].items()
    ]


def _pictures(samples: Sequence[Mapping]) -> str:
    """Pictures in the text, where the Hub shows no gallery."""
    return "\n".join(f"![{sample['text']}]({sample['file']})\n*{sample['text']}*\n" for sample in samples[:4])


def _use_gan(repository: str, gan: str, prompt: str, encoders: str | None, has_discriminator: bool) -> str:
    around = f"`encoders: {encoders}`" if encoders else "its `encoders`"
    parts = [f"{gan}ForTextToImage", f"{gan}Generator"]
    more = further = ""
    if has_discriminator:
        parts.insert(0, f"{gan}Discriminator")
        more = f"""
discriminator = {gan}Discriminator.from_pretrained("{repository}", subfolder="discriminator")"""
        further = f"\n\nA recipe goes on from here with `init_from: {repository}` and {around}."
    return f"""```python
import t2i_supcon
from transformers import pipeline

draw = pipeline("text-to-image", model="{repository}")
draw({json.dumps(prompt, ensure_ascii=False)}, num_images_per_prompt=4, seed=0)[0].save("picture.png")
```

The parts load on their own{", the discriminator for training further" if has_discriminator else ""}:

```python
from t2i_supcon import {", ".join(parts)}

model = {gan}ForTextToImage.from_pretrained("{repository}")  # text encoder and generator
generator = {gan}Generator.from_pretrained("{repository}"){more}
```{further}"""


def _use_part(repository: str, model: str) -> str:
    return f"""```python
from t2i_supcon import {model}

part = {model}.from_pretrained("{repository}")
```"""


def _use_encoders(repository: str, model: str) -> str:
    return f"""```python
from t2i_supcon import {model}
from transformers import AutoTokenizer

encoders = {model}.from_pretrained("{repository}")
tokenizer = AutoTokenizer.from_pretrained("{repository}")
tokens = tokenizer(["a red heart"], return_tensors="pt")
text = encoders.text_encoder(tokens["input_ids"], tokens["attention_mask"])  # text.sent_emb: (1, D)
```

`encoders.image_encoder` embeds images (B, 3, H, W) in [-1, 1] in the same space. A GAN is trained around
both by `encoders: {repository}` in its recipe."""


def _training(recipe: Mapping, facts: Mapping, encoders: str | None) -> str:
    if not recipe:
        return "How it was trained is not recorded beside it."
    lines = [
        "`recipe.yaml` of this repository is the whole recipe:",
        "",
        "```bash\naccelerate launch --quiet scripts/train.py --recipe recipe.yaml --output-dir runs/again\n```",
        "",
        "| | |\n|---|---|",
        f"| data | {facts.get('data', {}).get('title') or recipe['data']['name']} |",
    ]
    if recipe["phase"] == "gan":
        lines.append(f"| encoders | `{encoders or recipe['encoders']}`, frozen |")
    weights = ", ".join(f"`{name}` {weight:g}" for name, weight in recipe["loss_weights"].items())
    lines.append(f"| loss weights | {weights} |")
    if facts:
        lines += [
            f"| steps | {facts['step']:,} |",
            f"| images seen | {facts['images_seen']:,} |",
            f"| time | {facts['seconds'] / 3600:.2f} h of training steps |",
            f"| hardware | {facts['hardware']}, {facts['processes']} process(es), precision {facts['precision']} |",
            f"| versions | {', '.join(f'{key} {value}' for key, value in facts['versions'].items())} |",
        ]
    return "\n".join(lines)


def _evaluation(files: Mapping[str, Path], evaluation: Mapping, repository: str) -> str:
    if not evaluation:
        return "It was not evaluated by a network that took no part in its training."
    table = files[EVALUATION_TABLE].read_text(encoding="utf-8").strip() if EVALUATION_TABLE in files else ""
    grid = f"\n\n![pictures that were judged]({EVALUATION_GRID})" if EVALUATION_GRID in files else ""
    return (
        f"{table}{grid}\n\n`{EVALUATION}` holds each number with its whole protocol; numbers of different protocols do "
        f"not compare. The same again: `python scripts/evaluate.py --model {repository} --output evaluation`."
    ).strip()


def _origins(architecture: Architecture, recipe: Mapping) -> str:
    arxiv = architecture.arxiv
    source = f" ([arXiv {arxiv}](https://arxiv.org/abs/{arxiv}))" if arxiv else ""
    lines = [f"- Architecture and losses: {architecture.name}{source}, written anew."]
    if recipe.get("loss_weights", {}).get("supcon"):
        weight, temperature = recipe["loss_weights"]["supcon"], recipe.get("supcon_temperature")
        lines += [
            f"- Label pairs in two views and the supervised contrastive term in both phases: Liu et al. ({PAPER}).",
            f"- The weight {weight:g} and the temperature {temperature} of that term, and the rule for several labels "
            f"(`positives: {recipe.get('positives')}`), are this project's choices: the paper's abstract and figures "
            "do not give them.",
        ]
    if recipe.get("loss_weights", {}).get("pixels"):
        lines.append(
            "- `pixels`, the mean absolute difference to the real picture, is this project's addition: no paper on "
            "these GANs has it. Recipes with and without the method have it alike."
        )
    return "\n".join([*lines, "- No number here was taken from a paper."])


def _limits(config: Mapping, draws: bool) -> str:
    words = (config.get("text_config") or {}).get("vocab_size")
    lines = [] if words is None else [f"- It reads {words:,} tokens of text; words beyond these are left out."]
    if draws and config.get("image_size"):
        size = config["image_size"]
        lines.append(f"- Pictures have {size} x {size} px, and show what its data shows.")
    lines.append("- What it learnt comes from its data, with the data's gaps and biases; it is meant for research.")
    return "\n".join(lines)


def _links(links: Sequence[Link]) -> str:
    lines = [f"- [{link.repository}](https://huggingface.co/{link.repository}): {link.what}" for link in links]
    return "\n".join(["## See also", *lines]) if lines else ""


def _licences(data: Mapping) -> str:
    return "\n".join(
        [
            "- Code: Apache-2.0.",
            "- Weights: Apache-2.0, like the code."
            if data.get("name") == "emoji"
            else "- Weights: as the publisher of this repository says, within the terms of the data.",
            f"- Data: {data.get('licence') or 'see where it comes from'}.",
        ]
    )
