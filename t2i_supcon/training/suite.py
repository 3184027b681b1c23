"""Suites: many runs of both phases and their evaluation, one after another, resumable."""

import logging
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml
from tqdm.auto import tqdm

from ..cards import ARCHITECTURES, Link, guidance_of
from ..data.tokenization import shortened
from ..evaluation import Evaluation, compare_files
from ..evaluation.measures import DEFAULT_MEASURES, check_encoders, check_measures, numbers_of
from ..evaluation.protocol import FILE
from ..evaluation.tables import UNSEEN
from ..hub import push_model
from ..publishing import model_files
from .recipe import GANRecipe, Recipe, load_recipe, recipe_values
from .recipe_files import find_recipe, hint, read_with_bases

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run of a phase, and of phase 2 its evaluation.

    Attributes:
        folder: where it goes; its log is `suite.log` there.
        recipe: its name.
        overrides: "field=value" strings, the seed among them.
        training: options of `scripts/train.py`.
        minutes: how long it takes where the suite was tried; None if unknown.
        evaluation: options of `scripts/evaluate.py` behind the training; None for phase 1.
        needs: folders of the runs of phase 1 that it waits for.
        varied: overrides that give it a row of its own in the table.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]
    training: tuple[str, ...] = ()
    minutes: float | None = None
    evaluation: tuple[str, ...] | None = None
    needs: tuple[Path, ...] = ()
    varied: tuple[str, ...] = ()

    @property
    def result(self) -> Path:
        """What is there once it is done."""
        return self.folder / "model" if self.evaluation is None else self.folder / "evaluation" / FILE

    def commands(self, scripts: Path) -> list[list[str]]:
        """What runs, one after another; each goes on where it was stopped."""
        train = [sys.executable, str(scripts / "train.py"), "--recipe", self.recipe, "--output-dir", str(self.folder)]
        commands = [[*train, "--resume", "--tracker", "none", *self.training, *self.overrides]]
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
        training: options of `scripts/train.py`, for both phases.
        evaluation: options of `scripts/evaluate.py`.
        minutes: how long runs take where the suite was tried, by the name of the recipe.
        metric: the number of the evaluation that the table shows.
        judge: fields `recipe` and `seed` of a run of phase 1 that guides no cell: its encoders read
            the captions in all evaluations (`--encoders`).
    """

    cells: list[dict]
    seeds: list[int]
    overrides: list[str] = field(default_factory=list)
    encoder_overrides: list[str] = field(default_factory=list)
    training: list[str] = field(default_factory=list)
    evaluation: list[str] = field(default_factory=list)
    minutes: dict[str, float] = field(default_factory=dict)
    metric: str = "frechet"
    judge: dict | None = None


def load_suite(name: str, folder: Path) -> Suite:
    """Reads a suite: a YAML file by path, or one of `folder` by name.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is no suite.
    """
    path = find_recipe(name, (folder,), "suite")
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
        if not isinstance(cell["recipe"], str):
            raise ValueError(f"{path}: the recipe of a cell is {shortened(cell['recipe'])}; it must be the name of one")
        _check_lists(cell, path)
    _check_lists(values, path)
    minutes = values.get("minutes", {})
    if not isinstance(minutes, dict) or not all(isinstance(value, (int, float)) for value in minutes.values()):
        raise ValueError(f"{path}: minutes are {shortened(minutes)}; they are a number for each recipe named")
    judge = values.get("judge")
    if judge is not None and not (
        isinstance(judge, dict)
        and judge.keys() == {"recipe", "seed"}
        and isinstance(judge["recipe"], str)
        and type(judge["seed"]) is int
        and judge["seed"] >= 0
    ):
        raise ValueError(
            f"{path}: judge is {shortened(judge)}; it has recipe and seed, a name and a whole number from 0 up"
        )
    if not isinstance(values.get("metric", ""), str):
        raise ValueError(f"{path}: metric is {shortened(values['metric'])}; it must be the name of one number")
    return Suite(**values)


def _check_lists(values: dict, path: Path) -> None:
    """Refuses seeds that are no numbers, and options that are no strings, of a suite or a cell."""
    seeds = values.get("seeds", [])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"{path}: seeds are {shortened(seeds)}; they are a list of whole numbers from 0 up")
    for key in ("overrides", "encoder_overrides", "training", "evaluation"):
        given = values.get(key, [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise ValueError(f"{path}: {key} are {shortened(given)}; they are a list of strings: quote its numbers")


def check_evaluation(suite: Suite, scripts: Path) -> None:
    """Refuses what no evaluation of the suite could do: before its first run, instead of behind it.

    Args:
        scripts: where `evaluate.py` lies, whose options the suite's must be.

    Raises:
        ValueError: an option or a metric that there is not, a judge of captions that no metric
            reads, or a table of a number that is not measured.
    """

    def refuse(message: str) -> NoReturn:
        raise ValueError(f"evaluation of the suite: {message}")

    parser = runpy.run_path(str(scripts / "evaluate.py"))["PARSER"]
    parser.error = refuse
    options = parser.parse_args(["--model", "MODEL", "--output", "OUTPUT", *suite.evaluation])
    names = DEFAULT_MEASURES if options.metrics is None else options.metrics
    try:
        check_measures(names, has_labels=True, has_logits=True, has_sentences=True)  # that there are such
        if suite.judge is not None or options.encoders is not None:
            check_encoders(names)
    except ValueError as error:
        refuse(str(error))
    if suite.metric not in (numbers := numbers_of(names)):
        raise ValueError(
            f"metric of the suite is {suite.metric!r}, and its evaluation measures "
            f"{', '.join(numbers)}{hint(suite.metric, numbers)}"
        )


def plan(suite: Suite, output: Path, recipes: Path) -> tuple[list[Job], list[Job]]:
    """The runs of a suite: phase 1, each once for all cells that build on it, then phase 2.

    Raises:
        FileNotFoundError, ValueError: a recipe that is not there, of another phase or, with the
            overrides, none; a cell that stands twice; or a run in `output` that is of another
            recipe.
    """
    encoders: dict[Path, Job] = {}
    gans: dict[Path, Job] = {}
    training = tuple(suite.training)

    def phase1(recipe: str, seed: int) -> Path:
        folder = output / f"{recipe}-seed{seed}"
        own = (f"seed={seed}", *suite.encoder_overrides)
        encoders[folder] = Job(folder, recipe, own, training, suite.minutes.get(recipe))
        return folder

    judges = () if suite.judge is None else (phase1(**suite.judge),)
    judging = [option for folder in judges for option in ("--encoders", str(folder / "model"))]
    for cell in suite.cells:
        overrides = [*suite.overrides, *cell.get("overrides", ())]
        recipe = load_recipe(cell["recipe"], recipes, overrides)
        if not isinstance(recipe, GANRecipe):
            raise ValueError(f"the recipe {cell['recipe']!r} of a cell is of phase 1; name the phase-2 recipe")
        around = Path(recipe.encoders).parent.name  # runs/NAME/model
        for seed in cell.get("seeds", suite.seeds):
            chosen, needs = recipe.encoders, judges
            if (recipes / f"{around}.yaml").is_file():
                needs = (*judges, phase1(around, seed))
                chosen = str(needs[-1] / "model")
            suffix = "".join(f"-{override}" for override in cell.get("overrides", ()))
            folder = output / f"{cell['recipe']}{suffix.replace('/', '_').replace(' ', '')}-seed{seed}"
            if folder in gans:
                raise ValueError(f"the cell {folder.name} stands twice in the suite")
            own = (*overrides, f"seed={seed}", f"encoders={chosen}")  # which counts of two
            minutes = suite.minutes.get(cell["recipe"])
            evaluation = (*suite.evaluation, *judging, "--seed", str(seed))
            varied = tuple(one for one in cell.get("overrides", ()) if not one.startswith("positives="))
            gans[folder] = Job(folder, cell["recipe"], own, training, minutes, evaluation, needs, varied)
    for folder in judges:
        if any(folder in job.needs[len(judges) :] for job in gans.values()):
            raise ValueError(f"the judge {folder.name} would guide cells, too: give it a seed of its own")
    check_recipes([*encoders.values(), *gans.values()], recipes)
    return list(encoders.values()), list(gans.values())


def check_recipes(jobs: Sequence[Job], recipes: Path) -> None:
    """Refuses jobs whose recipes are none, and to count runs of other settings as those of this
    suite.

    Raises:
        FileNotFoundError, ValueError: see `load_recipe`; a recipe of phase 2 where encoders are
            trained; or a run that was made, or begun, by a recipe that differs from its job's.
    """
    for job in jobs:
        recipe = load_recipe(job.recipe, recipes, list(job.overrides))
        if job.evaluation is None and isinstance(recipe, GANRecipe):
            raise ValueError(f"the recipe {job.recipe!r} of encoders is of phase 2; name one of phase 1")
        path = job.folder / "recipe.yaml"
        if not path.is_file():
            continue
        made = yaml.safe_load(path.read_text(encoding="utf-8"))
        wanted = recipe_values(recipe)
        for values in (made, wanted):
            if values.get("encoders"):
                values["encoders"] = Path(values["encoders"]).parts[-2:]  # wherever the folder of all runs lies
        differing = [key for key in made if key in wanted and key not in UNSEEN and made[key] != wanted[key]]
        if differing:
            shown = ", ".join(f"{key} {shortened(made[key])}, here {shortened(wanted[key])}" for key in differing[:3])
            raise ValueError(
                f"{job.folder} is of another recipe ({shown}): choose another --output, or move that folder away"
            )


def repository_name(recipe: Recipe, name: str) -> str:
    """What the repository of a recipe's model is called: `dmgan-coco-scl` with supervised contrast,
    `dmgan-coco` for the baseline, the recipe's own name for others such as `dmgan-coco-unicl`."""
    name = re.sub(r"[^\w.-]+", "-", name.removesuffix("-baseline")).strip("-.")
    return f"{name}-scl" if recipe.loss_weights.get("supcon") else name


@dataclass
class Published:
    """One repository of a suite.

    Attributes:
        repository: its name.
        recipe: of its models.
        jobs: that are done, by their seed; the smallest is on the main branch, each has a tag.
    """

    repository: str
    recipe: Recipe
    jobs: dict[int, Job] = field(default_factory=dict)

    def described(self, metric: str) -> str:
        """What a link to it says: the model, how it was trained, and how it was judged."""
        architecture = ARCHITECTURES.get(self.recipe.model)
        text = f"{architecture.name if architecture else self.recipe.model}, {guidance_of(recipe_values(self.recipe))}"
        judged = [Evaluation.load(job.result).values for job in self.jobs.values() if job.evaluation is not None]
        values = [found[metric] for found in judged if metric in found]
        return text if not values else f"{text}; {metric} {sum(values) / len(values):.4g}, seeds: {len(values)}"


def repositories(suite: Suite, output: Path, recipes: Path, namespace: str) -> list[Published]:
    """The repositories of what a suite has done so far, those of encoders first.

    Raises:
        ValueError: two recipes whose repositories would have one name.
    """
    found: dict[str, Published] = {}
    made_by: dict[str, str] = {}
    for job in (job for jobs in plan(suite, output, recipes) for job in jobs):
        recipe = load_recipe(job.recipe, recipes, list(job.overrides))
        cell = job.folder.name.removesuffix(f"-seed{recipe.seed}")
        name = f"{namespace}/{repository_name(recipe, cell)}"
        if made_by.setdefault(name, cell) != cell:
            raise ValueError(f"{cell} and {made_by[name]} would both be published as {name}: rename one of the recipes")
        if job.result.exists():
            found.setdefault(name, Published(name, recipe)).jobs[recipe.seed] = job
    return list(found.values())


def publish_suite(
    suite: Suite, output: Path, recipes: Path, namespace: str, private: bool | None = None
) -> list[Published]:
    """Publishes all that a suite has done, with cards that point to each other: one repository a
    recipe, with a tag `seed-N` for each seed and the smallest one on the main branch.

    Args:
        output: folder of all runs.
        recipes: where they lie.
        namespace: user or organisation.
        private: of new repositories.

    Raises:
        ValueError: nothing is done yet, or two recipes would have one repository.
        OSError: the Hub cannot be reached or refuses; what was published stays, and the same
            command publishes the rest.
    """
    published = repositories(suite, output, recipes, namespace)
    if not published:
        raise ValueError(f"{output} holds no finished run of this suite")
    around = {job.folder / "model": one.repository for one in published for job in one.jobs.values()}
    for one in published:
        links = [
            Link(other.repository, other.described(suite.metric))
            for other in published
            if other is not one and _are_related(one.recipe, other.recipe)
        ]
        for seed in sorted(one.jobs, reverse=True):
            job = one.jobs[seed]
            recipe = load_recipe(job.recipe, recipes, list(job.overrides))
            encoders = around.get(Path(recipe.encoders)) if isinstance(recipe, GANRecipe) else None
            options = {"private": private, "tag": f"seed-{seed}", "move_tag": True, "message": f"Seed {seed}"}
            push_model(model_files(job.folder), one.repository, encoders, links, **options)
    return published


def _are_related(recipe: Recipe, other: Recipe) -> bool:
    """Whether a card points to the other: the same architecture, or encoders and a GAN."""
    return recipe.model == other.model or isinstance(recipe, GANRecipe) != isinstance(other, GANRecipe)


def describe(jobs: Sequence[Job]) -> str:
    """A line for each run: whether it is done, its recipe and how long it takes, where that is
    known; then all of them together."""
    lines = []
    for job in jobs:
        state = "done" if job.result.exists() else "begun" if job.folder.exists() else "to do"
        time = "" if job.minutes is None else f"  about {job.minutes:g} min"
        lines.append(f"{state:6} {job.folder.name:50}{time}")
    left = [job.minutes for job in jobs if not job.result.exists()]
    known = [minutes for minutes in left if minutes is not None]
    time = f", about {sum(known) / 60:.1f} h one after another" if known else ""
    if unknown := len(left) - len(known):
        time += f"; how long {f'{unknown} of them' if known else 'they'} take is not known"
    lines.append(f"{len(left)} of {len(jobs)} to run{time}")
    return "\n".join(lines)


class Commands:
    """The commands that a suite runs at the moment. They end with it: told to stop, a training
    writes a checkpoint first."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self.stopped = False

    def run(self, command: list[str], log: Path) -> bool:
        """Runs a command, its output at the end of a file; whether it succeeded."""
        with open(log, "a", encoding="utf-8") as file:
            with self._lock:
                if self.stopped:
                    return False
                process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
                self._running.add(process)
            failed = process.wait()
            with self._lock:
                self._running.discard(process)
        return not failed

    def stop(self) -> None:
        """Tells all to stop, and starts no more."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.terminate()


def run_job(job: Job, scripts: Path, commands: Commands) -> bool:
    """Runs what is left of a job; whether it is done now."""
    if job.result.exists():
        return True
    job.folder.mkdir(parents=True, exist_ok=True)
    log, started = job.folder / "suite.log", time.monotonic()
    for command in job.commands(scripts):
        if not commands.run(command, log):
            if not commands.stopped:
                logger.error("%s failed; the end of %s says why", job.folder.name, log)
            return False
    tqdm.write(f"{job.folder.name}: done, {(time.monotonic() - started) / 60:.0f} min", file=sys.stderr)
    return True


@contextmanager
def exits_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM raise SystemExit, as Ctrl-C raises KeyboardInterrupt, instead of ending this
    process alone and leaving its commands behind."""
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to no other thread
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_suite(suite: Suite, output: Path, recipes: Path, scripts: Path, at_once: int = 1) -> list[Job]:
    """Runs all that is not done yet, each encoder just before the first cell that needs it, then
    writes table and plot of the metric into `output`.

    Ctrl-C and SIGTERM stop what runs at the moment, which the next call goes on with.

    Args:
        output: folder of all runs.
        recipes, scripts: where they lie.
        at_once: runs at the same time.

    Returns:
        The runs that failed; the others go on beside them.

    Raises:
        FileNotFoundError, ValueError: as from `check_evaluation` and `plan`, or `at_once` below 1.
    """
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}; at least 1 run goes on at a time")
    check_evaluation(suite, scripts)
    encoders, gans = plan(suite, output, recipes)
    phase1 = {job.folder: job for job in encoders}
    running: dict[Job, Future[bool]] = {}
    commands = Commands()
    bar = tqdm(total=len(encoders) + len(gans), unit="run", dynamic_ncols=True)

    def run(job: Job) -> bool:
        for folder in job.needs:
            if not running[phase1[folder]].result():  # which began before this one
                logger.error("%s left out: its encoders %s failed", job.folder.name, folder.name)
                return False
        bar.set_postfix_str(job.folder.name)
        return run_job(job, scripts, commands)

    with bar, exits_on_sigterm(), ThreadPoolExecutor(at_once) as pool:
        try:
            for gan in gans:
                for job in (*(phase1[folder] for folder in gan.needs), gan):
                    if job not in running:
                        running[job] = pool.submit(run, job)
            for _ in as_completed(running.values()):
                bar.update()
        except BaseException:  # Ctrl-C and SIGTERM among them
            pool.shutdown(wait=False, cancel_futures=True)
            commands.stop()
            raise
    results = [job.result for job in gans if job.result.exists()]
    if results:
        varied = {str(job.result): ", ".join(job.varied) for job in gans}
        print(compare_files(results, suite.metric, output / "comparison", varied=varied))
    return [job for job, done in running.items() if not done.result()]
