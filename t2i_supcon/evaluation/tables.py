"""Evaluations as tables and plots for people: one, or a comparison of many."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from ..models import GANS
from .measures import MEASURES, numbers_of
from .protocol import Evaluation, check_comparable
from .significance import sign_flip_test

VARIANTS = {"supcon": "+SCL", "unicl": "+UniCL", "label_ce": "+CE", "nt_xent": "+NT-Xent"}  # by their guidance term
BASELINE = "baseline"
ALL = "all"  # GANs together
# fields of a recipe that leave no trace in a trained model
UNSEEN = ("log_every", "sample_every", "eval_every", "eval_rows", "best_metric", "checkpoint_every", "keep_checkpoints")
FREE = (*UNSEEN, "seed", "evaluation", "compile", "channels_last", "data.workers")  # in which seeds of a row may differ
MADE_BEFORE = ("encoders", "init_from")  # by other runs, which have seeds of their own
STATED = ("loss_weights", "model_config")  # hold what was asked for alone: a key that is not there says something
P_MEANS = "two-sided, of the gains of the seeds, by flipping their signs; of three it is at least 0.25"
# by how much COCO's FID is better than the baseline's, as the abstract of arXiv 2412.03957 reports
REPORTED = {"attngan": 0.301, "dmgan": 0.273, "ssagan": 0.162, "galip": 0.171}


def values_table(evaluation: Evaluation) -> str:
    """One evaluation as Markdown: each number beside that of real pictures, and the protocol."""
    protocol, name = evaluation.protocol, evaluation.protocol.features["network"]
    lines = [f"| metric ({name} features) | judged | real pictures |", "|---|---|---|"]
    for key, value in evaluation.values.items():
        real = evaluation.yardstick.get(key)
        error = "" if key not in evaluation.errors else f" ± {_number(evaluation.errors[key])}"
        lines.append(f"| {key} | {_number(value)}{error} | {'' if real is None else _number(real)} |")
    lines += [
        "",
        f"{protocol.generated:,} pictures of {protocol.image_size} px ({protocol.captions} captions of {protocol.data} "
        f"{protocol.split}, seed {protocol.seed}, truncation {protocol.truncation}) against {protocol.real:,} held-out "
        "real ones. Real pictures: as many training images, or all of fewer; for label_accuracy, r_precision and "
        "clip_score the held-out ones.",
        f"Network: {', '.join(f'{key} {value}' for key, value in protocol.features.items())}.",
    ]
    if protocol.encoders is not None:
        named = ", ".join(f"{key} {value}" for key, value in protocol.encoders.items())
        lines.append(f"Captions (r_precision, clip_score) are read by another one: {named}.")
    if evaluation.errors:
        lines.append("±: standard error over pictures drawn with replacement; 1.96 of it is a 95 % interval.")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def variant_of(evaluation: Evaluation) -> tuple[str, str]:
    """Which GAN an evaluation is of, and by which guidance it was trained.

    Raises:
        ValueError: it does not say by which recipe the model was trained.
    """
    recipe = recipe_of(evaluation)
    weights = recipe.get("loss_weights") or {}
    added = [label for term, label in VARIANTS.items() if weights.get(term)]
    if added and recipe.get("positives", "label") != "label":
        added.append(f"({recipe['positives']})")  # of several labels a row
    return recipe["model"], " ".join(added) or BASELINE


def recipe_of(evaluation: Evaluation) -> dict[str, object]:
    """The recipe of the model that was judged, with its `model` and `seed`.

    Raises:
        ValueError: the evaluation does not say by which recipe the model was trained.
    """
    try:
        recipe = yaml.safe_load(str(evaluation.subject.get("recipe", "")))
    except yaml.YAMLError:
        recipe = None
    if not isinstance(recipe, dict) or not {"model", "seed"} <= recipe.keys():
        raise ValueError(
            f"the evaluation of {evaluation.subject.get('name')} does not say how the model was trained: evaluate the "
            "model in the folder that the run left, beside its recipe.yaml"
        )
    return recipe


def _training(recipe: Mapping[str, object]) -> dict[str, object]:
    """What of a recipe all seeds of a row have in common, by dotted names such as "data.name"."""
    found = {}
    for name, value in _flat(recipe).items():
        field = name.split(".")[0]
        if field in FREE or name in FREE or (field == "loss_weights" and value == 0):
            continue
        if name in MADE_BEFORE:
            value = None if value is None else "given"
        elif name == "data.name":
            value = Path(str(value)).name  # wherever the folder lies
        found[name] = value
    return found


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _check_same_training(name: str, training: Mapping[str, object], others: Mapping[str, Mapping[str, object]]) -> None:
    """Refuses a run as one more seed of others that were trained in another way. A field that one
    recipe lacks, as older ones do, is no difference.

    Raises:
        ValueError: names the first field that differs, with both values.
    """
    for other, theirs in others.items():
        for field in theirs | training:
            both = field in theirs and field in training
            ours, there = (values.get(field, "not set") for values in (training, theirs))
            if ours != there and (both or field.startswith(STATED)):
                raise ValueError(
                    f"{other} and {name} are not seeds of one training: {field} is {there} in the first and {ours} in "
                    "the second; compare runs of one recipe at a time"
                )


@dataclass(frozen=True)
class ComparisonRow:
    """One GAN and one way of training it against its baseline.

    Attributes:
        gan, variant: names; "all" is all GANs together, whose numbers have no common mean.
        mean, std: of the metric over seeds; std is None of a single one.
        seeds: how many.
        improvement, improvement_std: by how much each seed is better than the baseline of the same
            seed, as a share of the mean of these baselines, mean and spread; None without any.
        p: of the gains, see `sign_flip_test`.
        error: standard error of one seed's value over pictures, root mean square over seeds; None
            where they were not evaluated with one.
    """

    gan: str
    variant: str
    mean: float | None
    std: float | None
    seeds: int
    improvement: float | None = None
    improvement_std: float | None = None
    p: float | None = None
    error: float | None = None


def compare(
    evaluations: Mapping[str, Evaluation], metric: str, varied: Mapping[str, str] | None = None
) -> list[ComparisonRow]:
    """The paper's kind of table: each GAN without and with the method, and what it gained; then
    what all GANs together gained, where there are several.

    Args:
        evaluations: by the name to complain with.
        metric: a number of theirs, such as "frechet".
        varied: by the same names, what else those were trained with that have rows of their own.

    Raises:
        ValueError: evaluations of different protocols, or without that number; runs that would be
            seeds of one row and were trained by different recipes.
    """
    check_comparable(evaluations)
    found: dict[tuple[str, str], dict[int, float]] = {}
    errors: dict[tuple[str, str], list[float]] = {}
    trainings: dict[tuple[str, str], dict[str, dict[str, object]]] = {}
    for name, evaluation in evaluations.items():
        if metric not in evaluation.values:
            raise ValueError(f"{name} has no {metric}; it has {', '.join(evaluation.values)}")
        (gan, variant), recipe = variant_of(evaluation), recipe_of(evaluation)
        if varied and varied.get(name):
            variant = f"{variant}, {varied[name]}"
        trained = gan, variant
        cell, seed = found.setdefault(trained, {}), recipe["seed"]
        if seed in cell:
            raise ValueError(f"{name} is a second evaluation of the same GAN, guidance and seed {seed}")
        cell[seed] = evaluation.values[metric]
        training, others = _training(recipe), trainings.setdefault(trained, {})
        _check_same_training(name, training, others)
        others[name] = training
        if metric in evaluation.errors:
            errors.setdefault(trained, []).append(evaluation.errors[metric])
    sign = 1 if higher_is_better(metric) else -1
    rows, gained = [], {}
    for gan, variant in sorted(found, key=lambda pair: (pair[0], pair[1] != BASELINE, pair[1])):
        values, baseline = found[gan, variant], found.get((gan, BASELINE), {})
        shared = sorted(values.keys() & baseline.keys()) if variant != BASELINE else []
        scale = np.mean([abs(baseline[seed]) for seed in shared]) if shared else 0
        gains = [sign * (values[seed] - baseline[seed]) / scale for seed in shared] if scale else []
        numbers = list(values.values())
        error = float(np.sqrt(np.mean(np.square(errors[gan, variant])))) if (gan, variant) in errors else None
        mean, spread = float(np.mean(numbers)), _spread(numbers)
        rows.append(ComparisonRow(gan, variant, mean, spread, len(numbers), *_gain(gains), error))
        if gains:
            gained.setdefault(variant, []).append(gains)
    for variant, of_gans in gained.items():
        if len(of_gans) > 1:
            gains = [gain for one in of_gans for gain in one]
            rows.append(ComparisonRow(ALL, variant, None, None, len(gains), *_gain(gains)))
    return rows


def _gain(gains: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean, spread and p."""
    return (float(np.mean(gains)), _spread(gains), sign_flip_test(gains)) if gains else (None, None, None)


def _spread(numbers: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None of fewer than two."""
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def higher_is_better(metric: str) -> bool:
    """Of a number by its name in an evaluation; what no measure judges by counts as higher."""
    return numbers_of(MEASURES).get(metric, True)


def gan_name(model: str) -> str:
    """A GAN's name as its authors write it; of what is not in the table `GANS`, as it is given."""
    return GANS[model].name if model in GANS else model


def comparison_markdown(rows: Sequence[ComparisonRow], metric: str, reported: bool = False) -> str:
    """A comparison as a Markdown table; `reported` adds what the paper reports, named as such."""
    with_errors = any(row.error is not None for row in rows)
    header = ["GAN", "training", metric, "seeds", "better than its baseline by", "p"]
    if with_errors:
        header.append("error over pictures")
    if reported:
        header.append("reported by the paper (FID, COCO; not measured here)")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [
            gan_name(row.gan),
            row.variant,
            "" if row.mean is None else _with_spread(row.mean, row.std, "{:.4g}"),
            str(row.seeds),
            "" if row.improvement is None else _with_spread(row.improvement, row.improvement_std, "{:+.1%}"),
            "" if row.p is None else f"{row.p:.2g}",
        ]
        if with_errors:
            cells.append("" if row.error is None else f"{row.error:.2g}")
        if reported:
            known = row.variant.split(" (")[0] == VARIANTS["supcon"] and row.gan in REPORTED
            cells.append(f"{REPORTED[row.gan]:.1%}" if known else "")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"±: standard deviation over seeds. p: {P_MEANS}."]
    if with_errors:
        lines.append("Error over pictures: standard error of one seed's value, pictures drawn with replacement.")
    return "\n".join(lines)


def _with_spread(mean: float, std: float | None, form: str) -> str:
    return form.format(mean) + ("" if std is None else " ± " + form.format(std).removeprefix("+"))


def comparison_csv(rows: Sequence[ComparisonRow]) -> str:
    """A comparison as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(ComparisonRow.__dataclass_fields__)
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return file.getvalue()


def plot_comparison(rows: Sequence[ComparisonRow], metric: str, path: Path) -> None:
    """A comparison as bars, a group per GAN, the spread over seeds as whiskers."""
    from matplotlib.figure import Figure  # slow to import

    rows = [row for row in rows if row.mean is not None]
    gans = list(dict.fromkeys(row.gan for row in rows))
    variants = list(dict.fromkeys(row.variant for row in rows))
    groups = [[row for row in rows if row.gan == gan] for gan in gans]
    width = 0.8 / max(map(len, groups))
    figure = Figure(figsize=(1.5 + 1.6 * len(gans), 3.6), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(groups):
        for i, row in enumerate(group):
            at, colour = place + (i - (len(group) - 1) / 2) * width, f"C{variants.index(row.variant)}"
            axes.bar(at, row.mean, width, yerr=row.std or 0, capsize=3, color=colour, label=row.variant)
    axes.set_xticks(range(len(gans)), [gan_name(gan) for gan in gans])
    axes.set_ylabel(f"{metric} ({'higher' if higher_is_better(metric) else 'lower'} is better)")
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles))  # each once
    figure.legend(named.values(), named, frameon=False, loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=150)


def compare_files(
    paths: Sequence[Path],
    metric: str,
    output: Path,
    reported: bool = False,
    varied: Mapping[str, str] | None = None,
) -> str:
    """Compares evaluations and writes the table and the plot into `output`; returns the table.
    `varied` is that of `compare`, by path.

    Raises:
        ValueError, OSError: see `compare` and `Evaluation.load`.
    """
    rows = compare({str(path): Evaluation.load(path) for path in paths}, metric, varied)
    table = comparison_markdown(rows, metric, reported)
    output.mkdir(parents=True, exist_ok=True)
    (output / "comparison.md").write_text(table + "\n", encoding="utf-8")
    (output / "comparison.csv").write_text(comparison_csv(rows), encoding="utf-8")
    plot_comparison(rows, metric, output / "comparison.png")
    return table
