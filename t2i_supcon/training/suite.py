"""Suites: many runs of both phases and their evaluation, one after another, resumable."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..evaluation import compare_files
from ..evaluation.protocol import FILE
from .recipe import GANRecipe, load_recipe
from .recipe_files import find_recipe, read_with_bases, shortened

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run of a phase, and of phase 2 its evaluation.

    Attributes:
        folder: where it goes; its log is `suite.log` there.
        recipe: its name.
        overrides: "field=value" strings, the seed among them.
        minutes: how long it takes where the suite was tried; None if unknown.
        evaluation: options of `scripts/evaluate.py` behind the training; None for phase 1.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]
    minutes: float | None = None
    evaluation: tuple[str, ...] | None = None

    @property
    def result(self) -> Path:
        """What is there once it is done."""
        return self.folder / "model" if self.evaluation is None else self.folder / "evaluation" / FILE

    def commands(self, scripts: Path) -> list[list[str]]:
        """What runs, one after another; each goes on where it was stopped."""
        train = [sys.executable, str(scripts / "train.py"), "--recipe", self.recipe, "--output-dir", str(self.folder)]
        commands = [[*train, "--resume", "--tracker", "none", *self.overrides]]
        if self.evaluation is not None:
            evaluate = [sys.executable, str(scripts / "evaluate.py"), "--model", str(self.folder / "model")]
            commands.append([*evaluate, "--output", str(self.folder / "evaluation"), *self.evaluation])
        return commands


@dataclass(frozen=True)
class Suite:
    """The cells of a comparison.

    Args:
        cells: phase-2 recipes, each with fields `recipe` and, where they differ from the suite's,
            `overrides` and `seeds`.
        seeds: of every cell; phase 1 takes the same.
        overrides: of every phase-2 recipe.
        encoder_overrides: of every phase-1 recipe.
        evaluation: options of `scripts/evaluate.py`.
        minutes: how long runs take where the suite was tried, by the name of the recipe.
        metric: that the table shows.
    """

    cells: list[dict]
    seeds: list[int]
    overrides: list[str] = field(default_factory=list)
    encoder_overrides: list[str] = field(default_factory=list)
    evaluation: list[str] = field(default_factory=list)
    minutes: dict[str, float] = field(default_factory=dict)
    metric: str = "frechet"


def load_suite(name: str, folder: Path) -> Suite:
    """Reads a suite: a YAML file by path, or one of `folder` by name.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is no suite.
    """
    path = find_recipe(name, (folder,))
    values = read_with_bases(path, folder)
    known = Suite.__dataclass_fields__
    for key in values:
        if key not in known:
            raise ValueError(f"{path}: a suite has no {shortened(key)!r}; it has {', '.join(known)}")
    for key in ("cells", "seeds"):
        if not isinstance(values.get(key), list) or not values[key]:
            raise ValueError(f"{path}: {key} must be a list of at least one")
    for cell in values["cells"]:
        if not isinstance(cell, dict) or "recipe" not in cell or cell.keys() - {"recipe", "overrides", "seeds"}:
            raise ValueError(f"{path}: a cell is {shortened(cell)}; it has recipe and may have overrides and seeds")
    return Suite(**values)


def plan(suite: Suite, output: Path, recipes: Path) -> tuple[list[Job], list[Job]]:
    """The runs of a suite: phase 1, each once for all cells that build on it, then phase 2.

    Raises:
        FileNotFoundError, ValueError: a recipe that is not there or of another phase, or a cell
            that stands twice.
    """
    encoders: dict[Path, Job] = {}
    gans: dict[Path, Job] = {}
    for cell in suite.cells:
        overrides = [*suite.overrides, *cell.get("overrides", ())]
        recipe = load_recipe(cell["recipe"], recipes, overrides)
        if not isinstance(recipe, GANRecipe):
            raise ValueError(f"the recipe {cell['recipe']!r} of a cell is of phase 1; name the phase-2 recipe")
        phase1 = Path(recipe.encoders).parent.name  # runs/NAME/model
        for seed in cell.get("seeds", suite.seeds):
            chosen = recipe.encoders
            if (recipes / f"{phase1}.yaml").is_file():
                folder = output / f"{phase1}-seed{seed}"
                own = (f"seed={seed}", *suite.encoder_overrides)
                encoders[folder] = Job(folder, phase1, own, suite.minutes.get(phase1))
                chosen = str(folder / "model")
            suffix = "".join(f"-{override}" for override in cell.get("overrides", ()))
            folder = output / f"{cell['recipe']}{suffix.replace('/', '_').replace(' ', '')}-seed{seed}"
            if folder in gans:
                raise ValueError(f"the cell {folder.name} stands twice in the suite")
            own = (f"seed={seed}", f"encoders={chosen}", *overrides)
            minutes = suite.minutes.get(cell["recipe"])
            gans[folder] = Job(folder, cell["recipe"], own, minutes, (*suite.evaluation, "--seed", str(seed)))
    return list(encoders.values()), list(gans.values())


def describe(jobs: Sequence[Job]) -> str:
    """A line for each run: whether it is done, its recipe and how long it takes."""
    lines = []
    for job in jobs:
        state = "done" if job.result.exists() else "begun" if job.folder.exists() else "to do"
        time = "" if job.minutes is None else f"  about {job.minutes:g} min"
        lines.append(f"{state:6} {job.folder.name:50}{time}")
    left = [job.minutes for job in jobs if not job.result.exists()]
    known = sum(minutes for minutes in left if minutes is not None)
    lines.append(f"{len(left)} of {len(jobs)} to run, about {known / 60:.1f} h one after another")
    return "\n".join(lines)


def run_job(job: Job, scripts: Path) -> bool:
    """Runs what is left of a job; whether it is done now."""
    if job.result.exists():
        return True
    job.folder.mkdir(parents=True, exist_ok=True)
    for command in job.commands(scripts):
        with open(job.folder / "suite.log", "a", encoding="utf-8") as log:
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                logger.error("%s failed; the end of %s says why", job.folder.name, job.folder / "suite.log")
                return False
    return True


def run_suite(suite: Suite, output: Path, recipes: Path, scripts: Path, at_once: int = 1) -> list[Job]:
    """Runs all that is not done yet, then writes table and plot of the metric into `output`.

    Args:
        output: folder of all runs.
        recipes, scripts: where they lie.
        at_once: runs at the same time.

    Returns:
        The runs that failed; the others go on beside them.
    """
    encoders, gans = plan(suite, output, recipes)
    failed = []
    for jobs in (encoders, gans):
        with ThreadPoolExecutor(at_once) as pool:
            for job, done in zip(jobs, pool.map(lambda job: run_job(job, scripts), jobs)):
                if not done:
                    failed.append(job)
    results = [job.result for job in gans if job.result.exists()]
    if results:
        print(compare_files(results, suite.metric, output / "comparison"))
    return failed
