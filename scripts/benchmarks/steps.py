"""Training steps of this package and of the plain procedures, each in a process of its own."""

import resource
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from accelerate import Accelerator
from torch import Tensor

from t2i_supcon.data import Batch
from t2i_supcon.memory import keep_freed_memory
from t2i_supcon.models import GANS, CLIPPairConfig, CLIPPairModel, DAMSMConfig, DAMSMModel
from t2i_supcon.training import EncoderPhase, GANPhase, load_recipe
from t2i_supcon.training.recipe import build_model_config

from .procedures import PlainEncoderProcedure, PlainGANProcedure, plain_operators
from .timers import Stopwatch, count_operations
from .worker import Worker

RECIPES = Path(__file__).parents[1] / "recipes"
MAX_WORD_ID = 5000  # of the captions; a vocabulary of CUB has some 5,450 words


@dataclass(frozen=True)
class Sizes:
    """What networks are built otherwise than published.

    Attributes:
        overrides: of the recipe, as on the command line.
        encoder_config: arguments of the config of the encoders that a GAN is trained around.
    """

    overrides: tuple[str, ...] = ()
    encoder_config: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """How a training step is taken, and of what.

    Attributes:
        model: a GAN or "damsm".
        batch_size: rows.
        plain: as the papers' code does it, with their operations, rather than by this package.
        device: "cpu" or "cuda".
        precision: "no" (float32), "bf16" or "fp16".
        compiled: with torch.compile.
        keep_memory: the process keeps the memory that its tensors free.
        sizes: of the networks.
    """

    model: str
    batch_size: int
    plain: bool = False
    device: str = "cpu"
    precision: str = "no"
    compiled: bool = False
    keep_memory: bool = True
    sizes: Sizes = Sizes()


def build_phase(setting: Setting) -> tuple[EncoderPhase | GANPhase, Batch]:
    """Networks of random weights and one fixed batch, which depend on nothing else.

    Raises:
        ValueError: a batch size or a precision that the model refuses.
    """
    overrides = [f"batch_size={setting.batch_size}", f"compile={str(setting.compiled).lower()}"]
    overrides += [*setting.sizes.overrides, *(["channels_last=false"] if setting.plain else [])]
    recipe = load_recipe(f"{setting.model}-cub-baseline", RECIPES, overrides)
    accelerator = Accelerator(cpu=setting.device == "cpu", mixed_precision=setting.precision)
    torch.manual_seed(0)
    if setting.model == "damsm":
        model = DAMSMModel(build_model_config(DAMSMConfig, recipe.model_config))
        phase, text_config = EncoderPhase(recipe, accelerator, model), model.config.text_config
    else:
        pair, config_class = (CLIPPairModel, CLIPPairConfig) if setting.model == "galip" else (DAMSMModel, DAMSMConfig)
        encoders = pair(config_class(**setting.sizes.encoder_config))
        given = ("text_config", "image_config") if setting.model == "galip" else ("text_config",)
        gan, given = GANS[setting.model], {key: getattr(encoders.config, key).to_dict() for key in given}
        config = build_model_config(gan.config, recipe.model_config, **given)
        generator, discriminator = gan.generator(config), gan.discriminator(config)
        phase = GANPhase(recipe, accelerator, generator, discriminator, encoders.text_encoder, encoders.image_encoder)
        text_config = config.text_config
    batch = fixed_batch(setting.batch_size, phase.image_sizes, recipe.data.max_words, text_config.vocab_size)
    return phase, batch.to(setting.device)


def timed_step(
    phase: EncoderPhase | GANPhase, batch: Batch, plain: bool, watch: Stopwatch
) -> Callable[[], dict[str, Tensor]]:
    """A training step, by the plain procedure or by the phase itself, whose parts are timed."""
    if plain:
        procedure = (PlainEncoderProcedure if isinstance(phase, EncoderPhase) else PlainGANProcedure)(phase, watch)
        return lambda: procedure.train_step(batch)
    time_parts(phase, watch)
    return lambda: phase.train_step(batch).terms


def fixed_batch(rows: int, sizes: tuple[int, ...], max_words: int, vocab_size: int) -> Batch:
    """Random images and captions of 8 words or more, one of them as long as can be; no two of a
    label."""
    lengths = torch.randint(8, max_words + 1, (rows,))
    lengths[0] = max_words
    mask = (torch.arange(max_words)[None] < lengths[:, None]).long()
    images = tuple(torch.randn(rows, 3, size, size).clamp(-1, 1) for size in sizes)
    ids = torch.randint(1, min(MAX_WORD_ID, vocab_size), (rows, max_words)) * mask
    return Batch(images, ids, mask, torch.arange(rows), ("",) * rows, 1)


def time_parts(phase: EncoderPhase | GANPhase, watch: Stopwatch) -> None:
    """Times the parts of a phase's step under the plain procedures' names."""
    watch.wrap(phase.accelerator, "backward", "backward")
    if isinstance(phase, EncoderPhase):
        watch.wrap(phase.towers.image_encoder, "forward", "image encoder")
        watch.wrap(phase.towers.text_encoder, "forward", "text encoder")
        watch.wrap(phase, "train_step", "matching")  # what the others leave of it
        watch.wrap(phase.optimizer, "step", "optimisers and average")
        return
    watch.wrap(phase.text_encoder, "forward", "captions")
    watch.wrap(phase.image_encoder, "forward", "image encoder and matching")
    watch.wrap(phase.generator, "forward", "generator forward")
    watch.wrap(phase, "discriminator_step", "discriminator")
    watch.wrap(phase, "penalty_step", "gradient penalty")
    watch.wrap(phase, "generator_step", "generator update")
    for optimizer in (phase.g_optimizer, phase.d_optimizer):
        watch.wrap(optimizer, "step", "optimisers and average")
    if phase.ema is not None:
        watch.wrap(phase.ema, "update", "optimisers and average")


def serve_steps(pipe: Connection, setting: Setting) -> None:
    """Takes a step whenever asked, and answers with its seconds; the first answer is the terms of
    the first step and the operations of the second, the last one the peak of memory in bytes."""
    if setting.device == "cpu" and setting.keep_memory:
        keep_freed_memory()  # as `train` does
    watch = Stopwatch(setting.device)
    with plain_operators() if setting.plain else nullcontext():
        try:
            step = timed_step(*build_phase(setting), setting.plain, watch)
        except ValueError as error:
            pipe.send(error)
            return
        torch.manual_seed(1)
        terms = {name: float(value) for name, value in step().items()}
        pipe.send((terms, count_operations(step)))
        while pipe.recv():
            watch.seconds.clear()
            started = watch.now()
            step()
            total = watch.now() - started
            pipe.send((total, dict(watch.seconds)))
    on_cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send(torch.cuda.max_memory_allocated() if setting.device == "cuda" else on_cpu)


class StepProcess(Worker):
    """A process that takes a step whenever it is asked.

    Attributes:
        setting: of its steps.
        terms: of the first step.
        operations: of one step.
        totals: seconds of the steps timed so far.
        parts: seconds of their parts, by name.

    Raises:
        ValueError: a batch size or a precision that the model refuses.
    """

    def __init__(self, setting: Setting):
        super().__init__(serve_steps, setting)
        self.setting = setting
        answer = self.pipe.recv()
        if isinstance(answer, ValueError):
            raise answer
        self.terms, self.operations = answer
        self.totals: list[float] = []
        self.parts: list[dict[str, float]] = []

    def step(self) -> float:
        """Takes a step; returns its seconds."""
        total, parts = self.ask()
        self.totals.append(total)
        self.parts.append(parts)
        return total

    def part(self, name: str) -> float:
        """Median seconds of a part; zero for one that this procedure does not have."""
        return median(parts.get(name, 0.0) for parts in self.parts)

    def stop(self) -> int:
        """Ends the process; returns its peak of memory in bytes."""
        self.end()
        peak = self.pipe.recv()
        self.process.join()
        return peak
