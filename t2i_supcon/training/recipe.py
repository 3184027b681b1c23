"""Recipes: everything that decides a training run, read from one YAML file.

A recipe may name a `base` recipe and state its differences only. Unknown keys are errors.
Architecture goes to the model's own config (`model_config`), the number of processes and the
precision to `accelerate launch`.
"""

import dataclasses
import math
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from huggingface_hub.dataclasses import type_validator
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from ..data.tokenization import shortened
from ..evaluation.measures import MEASURES, numbers_of
from ..models.architecture import own_fields
from ..models.sizes import check_sizes
from .guidance import TERMS as GUIDANCE_TERMS
from .recipe_files import find_recipe, hint, merge_recipes, read_with_bases, read_yaml


class Range(NamedTuple):
    """What a number may be: from `low` to `high`, both included unless `above` or `below` says
    otherwise."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = self.low < value if self.above else self.low <= value
        return low and (value < self.high if self.below else value <= self.high) and math.isfinite(value)

    def __str__(self) -> str:
        if self.above:
            low = "positive" if self.low == 0 else f"above {self.low:,}"
        else:
            low = f"at least {self.low:,}"
        if self.high == math.inf:
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.high:,}"


def number(default: object, low: float, high: float = math.inf, above: bool = False, below: bool = False) -> Any:
    """A field whose number, or each of whose numbers, lies in a range; a None is left alone."""
    return field(default=default, metadata={"range": Range(low, high, above, below)})


class CheckedFields:
    """Checks the type of every field of a dataclass, then its range, then `check_values`."""

    def __post_init__(self):
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            _check_type(f"{self.prefix}{f.name}", value, f.type)
            allowed = f.metadata.get("range")
            for one in value if isinstance(value, tuple) else (value,):
                if allowed is not None and one is not None and one not in allowed:
                    shown = shortened(f"{one:,}" if isinstance(one, int) else one, 40)
                    none = ", or null for none" if value is not None and "None" in str(f.type) else ""
                    raise ValueError(f"{self.prefix}{f.name} is {shown}; it must be {allowed}{none}")
        self.check_values()

    prefix: ClassVar[str] = ""

    def check_values(self) -> None:
        """Raises ValueError for values that do not fit together."""


def _check_type(name: str, value: object, declared: object) -> None:
    try:
        type_validator(name, value, declared)
    except (TypeError, ValueError) as error:
        raise ValueError(shortened(error.__cause__ or error, 200)) from error  # the cause names the item of a list


@dataclass(frozen=True)
class DataRecipe(CheckedFields):
    """Which rows to train on and how to read them.

    Args:
        name: "emoji"; a folder of Parquet shards, or another one that `datasets.load_dataset`
            reads; or a dataset of the Hub.
        config, revision: of a dataset of the Hub.
        train_split, test_split: what the dataset calls its splits; without `streaming` also parts,
            as in "train[:90%]".
        held_out_share: share of the training rows that evaluations read in place of `test_split`,
            for data without one; two rows at least. null = none; not with `streaming`.
        image_column, caption_column, label_column, labels_column, bbox_column: what it calls its
            columns, "a.b" for a field inside a column; see `t2i_supcon.data.Columns`. label_column
            null = no labels, or the first of labels_column.
        streaming: read the training rows in order, in small blocks, instead of loading the data for
            random access; for data that is large or far away.
        max_broken_share: share of the training rows read that may be broken; each is logged, and
            its partner stands in for it. Evaluations leave out as large a share of their rows,
            rounded up.
        random_crop: cut images at random from a picture 76/64 times as large.
        flip: mirror half of the images; never for data with letters, flags or clocks.
        max_words: words of a caption that are read.
        long_captions: which words of longer captions training reads.
        word_dropout: chance of each word of a training caption to be left out; one at least stays.
        workers: processes that prepare batches; 0 = the training process itself.
    """

    name: str = "emoji"
    config: str | None = None
    revision: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    held_out_share: float | None = number(None, 0, 1, above=True, below=True)
    image_column: str = "image"
    caption_column: str = "captions"
    label_column: str | None = "label"
    labels_column: str | None = "labels"
    bbox_column: str | None = "bbox"
    streaming: bool = False
    max_broken_share: float = number(0.0, 0, 1, below=True)
    random_crop: bool = False
    flip: bool = False
    max_words: int = number(18, 1, 1000)
    long_captions: Literal["first", "random_subset"] = "first"
    word_dropout: float = number(0.0, 0, 1, below=True)
    workers: int = number(0, 0, 256)

    prefix: ClassVar[str] = "data."

    def check_values(self) -> None:
        if self.streaming and self.held_out_share is not None:
            raise ValueError(
                "data.held_out_share and data.streaming exclude each other: a stream is not divided; name a split for "
                "evaluation in data.test_split, or set data.streaming to false"
            )


@dataclass(frozen=True)
class EvaluationRecipe(CheckedFields):
    """How phase 2 judges generated images beside the encoder that guides them.

    Args:
        features: a feature network that took no part in the training, such as "imagenet-lite0"; see
            `t2i_supcon.metrics.features`. null = none.
        images: pictures drawn for each evaluation.
        metrics: what is measured in these features; see `t2i_supcon.evaluation.MEASURES`.
    """

    features: str | None = None
    images: int = number(1000, 2, 10**6)
    metrics: list[str] = field(default_factory=lambda: ["frechet"])

    prefix: ClassVar[str] = "evaluation."

    def check_values(self) -> None:
        for name in self.metrics:
            if name not in MEASURES:
                raise ValueError(
                    f"evaluation.metrics names {name!r}; known are {', '.join(MEASURES)}{hint(name, MEASURES)}"
                )


@dataclass(frozen=True, kw_only=True)
class Recipe(CheckedFields):
    """What both phases share.

    Args:
        phase: "encoders" (phase 1) or "gan" (phase 2).
        model: what is trained; each phase has its own.
        model_config: sizes that differ from the defaults of the model's own config.
        init_from: folder or Hub name ("user/name" or "user/name@revision") to start from in place
            of new networks. Phase 1: encoders and their tokenizer, as phase 1 saved them or a CLIP
            of transformers; words of the training captions that a vocabulary of words lacks are
            appended to it, their vectors drawn around the known ones. Phase 2: generator and
            discriminator of a text-to-image model; words are those that `encoders` know.
        data: what the rows are; see the table of its fields.
        seed: of first weights, of noise and of the order of the rows.
        steps: training steps, each one update of every player.
        batch_size: rows per process and micro-batch; a pair is two rows.
        gradient_accumulation: micro-batches of a step; each contrasts its own rows only (those of
            all processes).
        sampling: "pairs" of rows that share a label, in two views; "independent" rows in one view
            (the baseline); or "captions": independent rows, each in two views with two captions.
        loss_weights: weight of each loss term; a term without weight is not computed.
        supcon_temperature: tau of the supervised contrastive term `supcon`.
        supcon_projection: width of a trained projection of the embeddings that `supcon` contrasts;
            null = none, they are contrasted as they are.
        supcon_warmup: steps in which the weight of `supcon` rises evenly from 0; 0 = it has all of
            it from the start.
        unicl_temperature: what the term `unicl` divides its cosines by; CLIP's encoders learn it.
        nt_xent_temperature: tau of the term `nt_xent`.
        positives: rows are positives of each other if they share the class id ("label"), any of
            their labels ("any"), or any, weighted by the Jaccard overlap of their label sets
            ("jaccard"). Pairs follow: rows pair on the class id or, for the other two, on a label
            drawn from their own, rare ones preferred.
        mask_shared_labels: the matching losses leave rows that share a label out of the negatives.
        gamma1, gamma2, gamma3: sharpness of word attention, word pooling and batch softmax in the
            matching losses.
        lr_schedule: "constant"; "cosine" down to zero over all steps; or "exponential", times 0.98
            every `lr_decay_every` steps until a tenth remains, as AttnGAN's authors trained DAMSM.
        lr_decay_every: steps between two such decays; theirs came once an epoch.
        max_grad_norm: bound of the gradient norm of each player (of both encoders together); null =
            none.
        sync_batch_norm: several processes normalise with the statistics of all their rows, as one
            process with the whole batch would; otherwise each with its own, and the first one's
            running statistics are saved.
        channels_last: memory layout of the networks; on a CPU, of all but the discriminator, which
            it slows down there.
        compile: torch.compile for the generator, the image encoder and the discriminator; the
            latter not with `d_magp` or `d_r1`, whose second derivatives it cannot give. Phase 1:
            for the image encoder.
        eval_rows: held-out rows that evaluations during training read, evenly spaced; null = all.
            Of a stream the first ones, which stay in memory (in phase 2 with as many training
            rows), images encoded; null = the first 1,000.
        log_every, sample_every, eval_every, checkpoint_every: steps between log lines, sample
            pictures, evaluations and checkpoints.
        keep_checkpoints: how many of the newest checkpoints stay.
        best_metric: the evaluated number whose best model is kept beside the last one; null = keep
            none.
    """

    phase: Literal["encoders", "gan"]
    model: str
    model_config: dict = field(default_factory=dict)
    init_from: str | None = None
    data: DataRecipe = DataRecipe()
    seed: int = number(0, 0, 2**31)
    steps: int = number(1000, 1, 10**9)
    batch_size: int = number(32, 1, 2**16)
    gradient_accumulation: int = number(1, 1, 2**16)
    sampling: Literal["pairs", "independent", "captions"] = "pairs"
    loss_weights: dict[str, float]
    supcon_temperature: float = number(0.1, 0, above=True)
    supcon_projection: int | None = number(None, 1, 2**16)
    supcon_warmup: int = number(0, 0, 10**9)
    unicl_temperature: float = number(0.07, 0, above=True)
    nt_xent_temperature: float = number(0.5, 0, above=True)
    positives: Literal["label", "any", "jaccard"] = "label"
    mask_shared_labels: bool = True
    gamma1: float = number(5.0, 0, above=True)
    gamma2: float = number(5.0, 0, above=True)
    gamma3: float = number(10.0, 0, above=True)
    lr_schedule: Literal["constant", "cosine", "exponential"] = "constant"
    lr_decay_every: int = number(100, 1)
    max_grad_norm: float | None = number(None, 0, above=True)
    sync_batch_norm: bool = True
    channels_last: bool = True
    compile: bool = False
    eval_rows: int | None = number(None, 2, 10**7)
    log_every: int = number(10, 1)
    sample_every: int = number(200, 1)
    eval_every: int = number(200, 1)
    checkpoint_every: int = number(200, 1)
    keep_checkpoints: int = number(2, 1)
    best_metric: str | None = None

    def check_values(self) -> None:
        if self.init_from is not None and self.model_config:
            raise ValueError(
                "model_config and init_from exclude each other, as what is started from brings its own sizes: set "
                "model_config: null"
            )
        check_sizes(self.model_config, "model_config.")
        if self.sampling != "independent" and self.batch_size % 2:
            raise ValueError(f"batch_size is {self.batch_size}; pairs need an even number of rows")
        unknown = set(self.loss_weights) - set(self.terms())
        if unknown:
            name = sorted(unknown)[0]
            raise ValueError(
                f"loss_weights names {name!r}, but phase {self.phase!r} has the terms "
                f"{', '.join(self.terms())}{hint(name, self.terms())}"
            )
        for name, weight in self.loss_weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"loss_weights.{name} is {weight}; a weight is a number of at least 0")
        if self.loss_weights.get("nt_xent") and self.sampling != "captions":
            raise ValueError(
                f"loss_weights names 'nt_xent', which contrasts two captions of one image, and sampling is "
                f"{self.sampling!r}: set sampling: captions"
            )
        for name in self.required_terms():
            if name not in self.loss_weights:
                raise ValueError(f"loss_weights lacks {name!r}, without which phase {self.phase!r} trains nothing")
        if not any(self.loss_weights.values()):
            raise ValueError("loss_weights weighs no term: there is nothing to train")
        if self.best_metric is not None and self.best_metric not in self.metrics():
            known = ", ".join(self.metrics())
            raise ValueError(
                f"best_metric is {self.best_metric!r}, but phase {self.phase!r} evaluates "
                f"{known}{hint(self.best_metric, self.metrics())}"
            )

    @classmethod
    def terms(cls) -> tuple[str, ...]:
        """Names of the loss terms this phase can compute."""
        raise NotImplementedError

    @classmethod
    def required_terms(cls) -> tuple[str, ...]:
        """Names of the terms without which there is no training."""
        return ()

    def metrics(self) -> dict[str, Callable[[float, float], bool]]:
        """Names of the numbers this recipe evaluates, and whether a first one is better than a
        second one."""
        return {"recall@1": operator.gt, "recall@10": operator.gt}


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """Phase 1: image and text encoder.

    Args:
        model: "damsm" (bi-LSTM and Inception-v3) or "clip" (two transformers, for GALIP).
        inception_weights: file with torchvision's ImageNet weights
            (`inception_v3_google-0cc3c7bd.pth`) for DAMSM's trunk; null = random.
        word_vectors: vectors of words for new text encoders, which then know words that no caption
            holds: "emoji" for the embedded data's, or a file of `scripts/make_word_vectors.py`;
            training leaves them as they are; null = none.
        image_size: side in pixels that training images are cut to (the encoder resizes them further
            to its own input size).
        train_trunk: train the image tower's trunk too, as needed without pretrained weights;
            otherwise only what projects its features.
        trunk_batch_norm: the trunk's BatchNorm normalises with the batch's statistics and follows
            them ("train", as AttnGAN's authors did even with a frozen trunk) or keeps those it has
            ("eval").
        learning_rate, betas: of Adam.
        reset_adam_every: steps after which Adam forgets its moments, as it did each epoch of
            AttnGAN's authors; null = never.
        text_grad_clip: bound of the text encoder's gradient norm, before `max_grad_norm`; null =
            none.
    """

    model: Literal["damsm", "clip"] = "damsm"
    inception_weights: str | None = None
    word_vectors: str | None = None
    image_size: int = number(299, 8, 4096)
    train_trunk: bool = True
    trunk_batch_norm: Literal["train", "eval"] = "train"
    learning_rate: float = number(2e-3, 0, 10)
    betas: tuple[float, float] = number((0.5, 0.999), 0, 1, below=True)
    reset_adam_every: int | None = number(None, 1)
    text_grad_clip: float | None = number(0.25, 0, above=True)
    best_metric: str | None = "recall@1"

    def check_values(self) -> None:
        super().check_values()
        if self.inception_weights is not None and (self.model == "clip" or self.init_from is not None):
            raise ValueError(
                "inception_weights fill the trunk of new DAMSM encoders; remove them for clip or init_from"
            )
        if self.word_vectors is not None and self.init_from is not None:
            raise ValueError("word_vectors are for new encoders; remove them, or init_from")
        if ("clip" in self.loss_weights) != (self.model == "clip"):
            raise ValueError(
                "loss_weights and model do not fit: 'clip' is the matching loss of model 'clip', and this "
                f"model is {self.model!r}"
            )

    @classmethod
    def terms(cls) -> tuple[str, ...]:
        return tuple(GUIDANCE_TERMS)


PENALTIES = ("d_magp", "d_r1")  # on the gradient of the discriminator


@dataclass(frozen=True, kw_only=True)
class GANRecipe(Recipe):
    """Phase 2: generator and discriminator, the encoders frozen.

    Args:
        model: a name of the table `GANS`.
        encoders: folder or Hub name of what phase 1 saved.
        text_gain: factor on the embeddings of a DAMSM text encoder, kept in the model's config: on
            small data they may be far smaller than the noise beside them. The log's
            `stats/sent_square` tells the mean square of sentences, the gain included; that of the
            noise is 1.
        generator_learning_rate, discriminator_learning_rate, betas: of the two Adams.
        magp_step: the penalty `d_magp` takes an optimiser step of its own after the hinge loss's
            ("separate", as SSA-GAN's authors did) or joins its sum ("joint", one backward per
            step).
        magp_every: compute `d_magp` every so many steps, weighted up by as much.
        r1_every: compute `d_r1` every so many steps, weighted up by as much.
        pixel_draws: with `pixels`, each row is generated from the one of so many draws of noise
            whose picture, at the lowest scale, is nearest to the real one, so that the noise
            decides what the caption leaves open; 1 = no choice.
        mixed_sentences: for as large a share of the rows, pictures of sentences half-way between
            two are drawn and judged as well (GAN-INT, Reed et al., arXiv 1605.05396), so that the
            generator has met what lies between the captions.
        ema_decay: of the averaged generator that is sampled, evaluated and saved; null = none, the
            live one is.
        wrong_captions: a row's wrong caption is the next row's in the batch of all processes; the
            last row has none ("next") or the first row's ("rotated", as GALIP's authors did).
        evaluation: who else judges the generated images; see the table of its fields.
        augmentation: differentiable augmentations of what the discriminator sees.
        augmentation_fill: what these move in or cut out: 0 = mid grey, as DiffAugment defines it;
            1 = white, for pictures on white.
    """

    encoders: str
    text_gain: float = number(1.0, 0, 1e6, above=True)
    generator_learning_rate: float = number(1e-4, 0, 10)
    discriminator_learning_rate: float = number(4e-4, 0, 10)
    betas: tuple[float, float] = number((0.0, 0.9), 0, 1, below=True)
    magp_step: Literal["separate", "joint"] = "separate"
    magp_every: int = number(1, 1)
    r1_every: int = number(1, 1)
    pixel_draws: int = number(1, 1, 1000)
    mixed_sentences: float = number(0.0, 0, 1)
    ema_decay: float | None = number(None, 0, 1, below=True)
    wrong_captions: Literal["next", "rotated"] = "next"
    augmentation: list[Literal["color", "translation", "cutout"]] = field(default_factory=list)
    augmentation_fill: float = number(0.0, -1, 1)
    evaluation: EvaluationRecipe = EvaluationRecipe()
    best_metric: str | None = "frechet_encoder"

    def check_values(self) -> None:
        super().check_values()
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size is {self.batch_size}; a row's wrong caption is another row's, so phase 2 needs at least 2"
            )
        if not set(self.loss_weights) - {"d_adv", *PENALTIES}:
            raise ValueError("loss_weights names no term of the generator, which would not train: add 'g_adv'")
        if self.pixel_draws > 1 and "pixels" not in self.loss_weights:
            raise ValueError(f"pixel_draws is {self.pixel_draws}, and loss_weights names no 'pixels' to choose by")

    @classmethod
    def terms(cls) -> tuple[str, ...]:
        return ("d_adv", *PENALTIES, "g_adv", "g_kl", "pixels", *GUIDANCE_TERMS)

    @classmethod
    def required_terms(cls) -> tuple[str, ...]:
        return ("d_adv",)

    def metrics(self) -> dict[str, Callable[[float, float], bool]]:
        judged = self.evaluation.metrics if self.evaluation.features is not None else ()
        named = {name: operator.gt if higher else operator.lt for name, higher in numbers_of(judged).items()}
        return {"frechet_encoder": operator.lt, **super().metrics(), **named}


PHASES = {"encoders": EncoderRecipe, "gan": GANRecipe}


def load_recipe(name: str, folder: Path | None = None, overrides: list[str] | None = None) -> EncoderRecipe | GANRecipe:
    """Reads a recipe.

    Args:
        name: path of a YAML file, or the name of one in `folder`.
        folder: where named recipes lie; a `base` is looked for beside the file that names it, then
            here.
        overrides: "field=value" or "field.key=value" strings, values in YAML.

    Raises:
        FileNotFoundError: no such recipe; the message lists those there are.
        ValueError: a key that does not exist, a value of the wrong type or out of range.
    """
    path = find_recipe(name, (folder,))
    values = read_with_bases(path, folder)
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator:
            raise ValueError(f"{override!r} is no override: write field=value, e.g. steps=100")
        nested = read_yaml(value, f"override {shortened(override)!r}")
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merge_recipes(values, nested)
    return parse_recipe(values, where=str(path))


def parse_recipe(values: dict, where: str = "recipe") -> EncoderRecipe | GANRecipe:
    """Makes a recipe of plain values, checking every key and type."""
    phase = values.get("phase")
    if not isinstance(phase, str) or phase not in PHASES:
        raise ValueError(f"{where}: phase is {shortened(repr(phase))}; it must be one of {', '.join(PHASES)}")
    try:
        return _build(PHASES[phase], values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def recipe_values(recipe: Recipe) -> dict:
    """The plain values of a recipe, which `parse_recipe` turns into an equal one."""
    values = dataclasses.asdict(recipe)
    values["betas"] = list(recipe.betas)
    return values


def fixed_values(recipe: Recipe) -> dict:
    """The plain values that a resumed run cannot change: all others take effect.

    Elsewhere, data is compared by `content_hash` and encoders by their weights, wherever they lie,
    and an architecture by its tensors.
    """
    names = ("phase", "model", "init_from", "seed", "sampling", "positives", "supcon_projection")
    if isinstance(recipe, EncoderRecipe):
        names += ("inception_weights", "image_size")
    else:
        names += ("text_gain",)
    values = {name: getattr(recipe, name) for name in names}
    return values | {"data.streaming": recipe.data.streaming}


def build_model_config(config_class: type[PreTrainedConfig], values: dict, **decided: object) -> PreTrainedConfig:
    """Makes a model's config of a recipe's `model_config` and of the values that data or encoders
    decide.

    Raises:
        ValueError: a key that the config does not declare (the library itself would accept it
            silently), or a value it refuses.
    """
    _check_keys(config_class, values, "model_config")
    try:
        return config_class(**{**values, **decided})
    except StrictDataclassError as error:
        raise ValueError(f"model_config: {error.__cause__ or error}") from error


def check_architecture(here: dict[str, object], saved: dict[str, object]) -> None:
    """Raises ValueError, with the first difference, where networks compute something else than
    those of a checkpoint whose tensors fit; see `architecture`."""
    for name, there in saved.items():
        if here.get(name) != there:
            raise ValueError(
                f"the checkpoint does not fit the recipe: {name} was {there} there and is {here.get(name)} here; "
                "resume with what it was then, or start in another folder"
            )


def _check_keys(config_class: type[PreTrainedConfig], values: dict, prefix: str) -> None:
    known = own_fields(config_class)
    for key, value in values.items():
        if key not in known:
            raise ValueError(
                f"{prefix} has no key {key!r}; {config_class.__name__} knows {', '.join(known)}{hint(key, known)}"
            )
        if isinstance(value, dict) and key in config_class.sub_configs:
            _check_keys(config_class.sub_configs[key], value, f"{prefix}.{key}")


def _build(cls, values: dict, prefix: str = ""):
    """Makes the dataclass `cls` of plain values, with numbers and tuples in the declared types."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise ValueError(f"there is no field {shortened(prefix + str(key))!r}{hint(key, fields)}")
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ValueError(f"the field {prefix + name!r} is missing")
    converted = {}
    for key, value in values.items():
        declared = fields[key].type
        nested = declared in (DataRecipe, EvaluationRecipe)
        if key == "model_config" and value is None:
            value = {}  # without what a base sets
        if (nested or declared in (dict, dict[str, float])) and not isinstance(value, dict):
            raise ValueError(f"{prefix}{key} is {shortened(value)}; it must be a mapping")
        if nested:
            value = _build(declared, value, declared.prefix)
        elif declared in (float, float | None):
            value = _number(value)
        elif declared == dict[str, float]:
            value = {k: _number(v) for k, v in value.items() if v is not None}  # null removes what a base weighs
            for k, v in value.items():
                _check_type(f"{prefix}{key}.{k}", v, float)
        elif key == "model_config":
            value = _without_nulls(value)
        elif declared == tuple[float, float] and isinstance(value, list):
            value = tuple(_number(v) for v in value)
        converted[key] = value
    return cls(**converted)


def _number(value):
    """A float of what YAML reads as int or, for 2e-4 without a dot, as text.

    Anything else is left for the type check.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < sys.float_info.max else math.copysign(math.inf, 1 if value > 0 else -1)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value
    return value


def _without_nulls(values):
    """A mapping without the keys, at any depth, whose value is null."""
    if not isinstance(values, dict):
        return values
    return {key: _without_nulls(value) for key, value in values.items() if value is not None}
