"""Phase 2: generator and discriminator play, while the frozen encoders of phase 1 say whether
images fit their texts and labels."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path

import datasets
import torch
from accelerate import Accelerator
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..conversion import load_encoders, load_players
from ..data import Batch, EvaluationRows, encode_prompts, evenly_spaced, save_tokenizer, to_pil
from ..evaluation import DrawnPictures, GeneratorMonitor, Prompt, embed, embed_images, embed_texts, label_groups
from ..evaluation.pictures import UNLABELLED
from ..identity import other_data
from ..losses import (
    bce_discriminator_loss,
    bce_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    kl_loss,
    matching_aware_gradient_penalty,
    pixel_loss,
    r1_penalty,
)
from ..metrics import feature_statistics, frechet_distance, retrieval_recall
from ..models import (
    GANS,
    DiscriminatorOutput,
    GeneratorOutput,
    ImageEmbeddings,
    TextEmbeddings,
    draw_images,
    sample_noise,
    seeded_generator,
)
from ..models.architecture import architecture
from ..models.operators import no_weight_gradients
from ..models.weights import weights_hash
from .augmentation import augment
from .checkpoint import restore_module
from .data import evaluation_rows
from .distributed import gather_all_but_last, next_captions, pad_captions, prepare_network
from .ema import EMA
from .guidance import Guidance
from .networks import build_network
from .optimisation import (
    check_micro_batches,
    rate_factor,
    set_rates,
    take_step,
    term_weights,
    trained_parameters,
    weighted_sum,
)
from .phase import StepResult, mean_result
from .recipe import PENALTIES, GANRecipe, build_model_config, check_architecture

logger = logging.getLogger(__name__)
NUM_SAMPLES = 12
FEWEST_STEPS_AVERAGED = 100  # of a run whose average is worth a warning; fewer are a trial
MOST_UNTRAINED = 0.01  # share of the untrained generator that its average may hold at the end
ADVERSARIAL = {  # the two players' losses at one scale, by the family that the discriminator's class names
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
    "bce": (bce_discriminator_loss, bce_generator_loss),
}


@dataclass
class Generated:
    """Generated images on their way to the two players' losses.

    Attributes:
        output: the generator's.
        embeddings: what the image encoder sees in the augmented images, for a discriminator that
            reads this instead of pixels.
    """

    output: GeneratorOutput
    embeddings: ImageEmbeddings | None = None


@dataclass
class MicroBatch:
    """Rows on their way through a step.

    Attributes:
        batch, text: the rows and the embeddings of their captions.
        drawn: the text that pictures are generated of: that of the B rows and, behind it, mixtures
            of it, M rows in all; see `mixed_sentences`.
        noise, conditioning_noise: (M, Z) and, for a generator with conditioning augmentation,
            (M, C).
        shared: the generated images, where both players use the same; otherwise each generates its
            own from this noise.
        penalised: the real images or features, and the sentences, that the gradient penalty
            differentiates by, where one is due.
    """

    batch: Batch
    text: TextEmbeddings
    drawn: TextEmbeddings
    noise: Tensor
    conditioning_noise: Tensor | None
    shared: Generated | None = None
    penalised: tuple[Tensor, ...] = ()


@dataclass
class TermPull:
    """What a loss term makes of the images drawn of a batch.

    Attributes:
        drawn: its value, unweighted.
        real: its value where the real images of the rows stand in their place; None for a term that
            is not the encoders'.
        gradient: by the final images, weighted, (B, 3, S, S).
    """

    drawn: float
    real: float | None
    gradient: Tensor


class GANPhase:
    """Trains a GAN against its discriminator; see `Phase` for its methods.

    Args:
        recipe: of phase 2.
        accelerator: prepares and steps the networks.
        generator, discriminator: of one row of `GANS`.
        text_encoder, image_encoder: of phase 1; frozen here.
        tokenizer: of the text encoder.
        evaluation: held-out rows.
        reference: some training rows, whose distance to the held-out ones is the yardstick of the
            generator's.
        num_classes: of the training rows' labels.
        monitor: who judges generated images beside the image encoder.

    Raises:
        ValueError: the penalty `d_magp` under fp16 or at several scales, or a weight of `g_kl` for
            a generator without that term.
    """

    def __init__(
        self,
        recipe: GANRecipe,
        accelerator: Accelerator,
        generator: PreTrainedModel,
        discriminator: PreTrainedModel,
        text_encoder: PreTrainedModel,
        image_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast | None = None,
        evaluation: EvaluationRows | None = None,
        reference: EvaluationRows | None = None,
        num_classes: int | None = None,
        monitor: GeneratorMonitor | None = None,
    ):
        if accelerator.mixed_precision == "fp16" and "d_magp" in recipe.loss_weights:
            raise ValueError(
                "fp16 cannot hold the sixth power in the gradient penalty d_magp: train with "
                "--mixed-precision bf16 or no"
            )
        self.config = generator.config
        self.image_sizes = self.config.image_sizes
        self.conditioning_dim = getattr(self.config, "conditioning_dim", 0)
        if "d_magp" in recipe.loss_weights and len(self.image_sizes) > 1:
            raise ValueError(
                f"loss_weights names 'd_magp', but {recipe.model} draws {len(self.image_sizes)} scales; the "
                "penalty is defined for one"
            )
        if "g_kl" in recipe.loss_weights and not self.conditioning_dim:
            raise ValueError(f"loss_weights names 'g_kl', but {recipe.model} has no conditioning augmentation")
        self.recipe = recipe
        self.accelerator = accelerator
        self.tokenizer = tokenizer
        self.evaluation = evaluation
        self.monitor = monitor
        self.reference = reference
        self.discriminator_loss, self.generator_loss = ADVERSARIAL[discriminator.adversarial]
        self.step = 0
        self.reads_features = discriminator.reads_image_features
        self.text_encoder, self.image_encoder = (
            e.to(accelerator.device).eval().requires_grad_(False) for e in (text_encoder, image_encoder)
        )
        if recipe.channels_last:
            laid_out = [generator, image_encoder]
            if accelerator.device.type != "cpu":  # a CPU slows down on the discriminator's deep, small maps in it
                laid_out.append(discriminator)
            for module in laid_out:
                module.to(memory_format=torch.channels_last)
        self.guidance = Guidance.from_recipe(recipe, image_encoder, num_classes, accelerator.device)
        g_parameters = [p for p in (*generator.parameters(), *self.guidance.parameters()) if p.requires_grad]
        d_parameters = [p for p in discriminator.parameters() if p.requires_grad]
        g_optimizer = torch.optim.Adam(g_parameters, lr=recipe.generator_learning_rate, betas=recipe.betas, fused=True)
        d_optimizer = torch.optim.Adam(
            d_parameters, lr=recipe.discriminator_learning_rate, betas=recipe.betas, fused=True
        )
        penalised = not set(PENALTIES).isdisjoint(recipe.loss_weights)
        self.generator = prepare_network(generator.train(), accelerator, recipe.sync_batch_norm)
        self.discriminator = prepare_network(discriminator.train(), accelerator, recipe.sync_batch_norm, penalised)
        self.g_optimizer, self.d_optimizer = accelerator.prepare(g_optimizer, d_optimizer)
        self.ema = EMA(generator, recipe.ema_decay) if recipe.ema_decay is not None else None
        if accelerator.is_main_process:
            warn_of_slow_average(recipe)
        if recipe.compile:
            compiled = [self.generator, self.image_encoder]
            if not penalised:
                compiled.append(self.discriminator)
            for network in compiled:
                network.compile()
        self.fixed_noises = sample_noise(self.config, NUM_SAMPLES, seeded_generator(recipe.seed))
        self._targets: dict[str, object] = {}

    @classmethod
    def from_recipe(
        cls, recipe: GANRecipe, accelerator: Accelerator, rows: datasets.Dataset, held_out: datasets.Dataset
    ) -> "GANPhase":
        """Builds new networks around the encoders the recipe names, or goes on with those of
        `init_from`.

        Raises:
            ValueError: an unknown model or architecture key, or encoders that cannot be loaded or
                are of another kind than the GAN's or of other sizes than those of `init_from`.
        """
        if recipe.model not in GANS:
            raise ValueError(f"model is {recipe.model!r}; it must be one of {', '.join(GANS)}")
        gan = GANS[recipe.model]
        given = ("text_config", "image_config") if gan.discriminator.reads_image_features else ("text_config",)
        for key in given:
            if key in recipe.model_config:
                raise ValueError(f"model_config.{key} comes from the encoders; remove it from the recipe")
        encoders, tokenizer = load_encoders(recipe.encoders, recipe.data.max_words)
        if (trained := other_data(recipe.encoders, recipe.data.name)) is not None:
            logger.warning(
                "encoders %s were trained on %r, and the recipe's data is %r: see its field encoders",
                recipe.encoders,
                trained,
                recipe.data.name,
            )
        needed, found = gan.composite.text_encoder_class, encoders.text_encoder
        if not isinstance(found, needed):
            raise ValueError(
                f"encoders {recipe.encoders!r}: {recipe.model} needs a {needed.__name__}, found a "
                f"{type(found).__name__}"
            )
        start = None if recipe.init_from is None else load_players(recipe.init_from, gan.composite, gan.discriminator)
        text_gain, groups = recipe.text_gain, label_groups(recipe.data.name)
        if recipe.best_metric == "group_accuracy" and groups is None:
            raise ValueError(
                f"best_metric is 'group_accuracy', and data {recipe.data.name!r} has no groups of labels "
                "(groups.json): name another one"
            )
        if start is not None and text_gain == 1:
            text_gain = getattr(start[0].config.text_config, "gain", 1)
        if text_gain != 1:
            if not hasattr(found.config, "gain"):
                raise ValueError(f"text_gain is {text_gain}, and a {type(found).__name__} has no gain: remove it")
            found.config.gain = encoders.config.text_config.gain = text_gain
        decided = {key: getattr(encoders.config, key).to_dict() for key in given}
        if start is None:
            config = build_model_config(gan.config, recipe.model_config, **decided)
        else:
            try:
                config = gan.config.from_dict(start[0].config.to_dict() | decided)
            except StrictDataclassError as error:
                raise ValueError(
                    f"init_from {recipe.init_from!r} does not fit the encoders {recipe.encoders!r}: "
                    f"{error.__cause__ or error}"
                ) from error
        data, size = recipe.data, config.image_size
        evaluation = evaluation_rows(recipe, held_out, data.test_split, tokenizer, size, recipe.eval_rows)
        reference = evaluation_rows(recipe, rows, data.train_split, tokenizer, size, len(evaluation))
        generator, discriminator = (build_network(part, config) for part in (gan.generator, gan.discriminator))
        if start is not None:
            take_over(generator, start[0].generator, recipe)
            take_over(discriminator, start[1], recipe)
            if weights_hash(start[0].text_encoder) != weights_hash(encoders.text_encoder):
                logger.warning(
                    "%s was trained around another text encoder than that of %s, and adapts to it in training",
                    recipe.init_from,
                    recipe.encoders,
                )
        if discriminator.reads_image_features:
            generator.copy_vision_tower(encoders.image_encoder)
        monitor = None
        if recipe.evaluation.features is not None:
            monitor = GeneratorMonitor(
                recipe.evaluation.features,
                recipe.evaluation.metrics,
                recipe.evaluation.images,
                evaluation.rows,
                reference.rows,
                tokenizer,
                size,
                groups,
                data.max_broken_share,
            )
        return cls(
            recipe,
            accelerator,
            generator,
            discriminator,
            encoders.text_encoder,
            encoders.image_encoder,
            tokenizer,
            evaluation,
            reference,
            rows.features["label"].num_classes,
            monitor,
        )

    def train_step(self, *micro_batches: Batch) -> StepResult:
        """One update of the discriminator, then one of the generator, each by the mean gradient of
        the micro-batches.

        A single micro-batch is generated once, for both players. Of several, each is generated for
        the discriminator and, from the same noise, again for the generator. So never more than one
        is held with what its gradient needs.

        Raises:
            FloatingPointError: a term or a gradient is not finite; the player whose it is has not
                been updated.
            ValueError: another number of batches than `gradient_accumulation` says.
        """
        check_micro_batches(micro_batches, self.accelerator)
        self._set_rates()
        micro = [self._embed_captions(pad_captions(batch)) for batch in micro_batches]
        if len(micro) == 1:
            micro[0].shared = self._generate(micro[0])
        result = self.discriminator_step(micro) | self.generator_step(micro)
        if self.ema is not None:
            self.ema.update(self.accelerator.unwrap_model(self.generator))
        self.step += 1
        return result

    def _set_rates(self) -> None:
        recipe, factor = self.recipe, rate_factor(self.recipe, self.step)
        set_rates(self.g_optimizer, recipe.generator_learning_rate * factor, recipe.betas)
        set_rates(self.d_optimizer, recipe.discriminator_learning_rate * factor, recipe.betas)

    def discriminator_step(self, micro_batches: list[MicroBatch]) -> StepResult:
        """Adversarial loss on real images with their captions, on the same with the next row's
        caption, and on generated images."""
        penalty_due = "d_magp" in self.recipe.loss_weights and self.step % self.recipe.magp_every == 0
        self.d_optimizer.zero_grad()
        result = mean_result([self._discriminator_backward(micro, penalty_due) for micro in micro_batches])
        result = self._take_step(self.d_optimizer, result, "discriminator")
        if penalty_due and self.recipe.magp_step == "separate":
            result |= self.penalty_step(micro_batches)
        return result

    def penalty_step(self, micro_batches: list[MicroBatch]) -> StepResult:
        """The gradient penalty in an update of its own, of the discriminator just updated."""
        self.d_optimizer.zero_grad()
        penalties = []
        for inputs in (micro.penalised for micro in micro_batches):
            scores = self._score_in_float32(inputs[:1], inputs[1])
            penalties.append(self._backward({"d_magp": self._penalty(scores, inputs)}))
        for parameter in trained_parameters(self.d_optimizer):
            # a bias: the penalty does not depend on it, yet the authors' Adam steps with a zero
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return self._take_step(self.d_optimizer, mean_result(penalties), "d_magp")

    def _discriminator_backward(self, micro: MicroBatch, penalty_due: bool) -> StepResult:
        """Adds the discriminator's gradients of one micro-batch.

        All rows of a batch, of both views and all processes, form one list here: a row's wrong
        caption is the next row's. The last row has none or, where the recipe rotates them, the
        first row's.
        """
        batch = micro.batch
        generated = micro.shared or self._generate_without_graph(micro)
        sent = micro.text.sent_emb
        rotated = self.recipe.wrong_captions == "rotated"
        wrong = next_captions(sent, batch.num_views, rotated)
        real = self._augment(batch.images)
        if generated.embeddings is None:
            fake = self._augment(tuple(image.detach() for image in generated.output.images))
        else:
            with torch.no_grad():
                real = (self.image_encoder(real[-1]).local_feats,)
            fake = (generated.embeddings.local_feats.detach(),)
        if penalty_due:
            micro.penalised = leaves((self._lay_out(real[-1]), sent))
        joint = penalty_due and self.recipe.magp_step == "joint"

        if joint:
            real_scores = self._score_in_float32(micro.penalised[:1], micro.penalised[1], wrong)
        else:
            real_scores = self._score(real, sent, wrong)
        fake_scores = self._score(fake, micro.drawn.sent_emb)
        if not rotated:
            real_scores.wrong = tuple(
                gather_all_but_last(logits, len(batch), batch.num_views) for logits in real_scores.wrong
            )
        terms = {"d_adv": self._discriminator_loss(real_scores, fake_scores)}
        if joint:
            terms["d_magp"] = self._penalty(real_scores, micro.penalised)
        if "d_r1" in self.recipe.loss_weights and self.step % self.recipe.r1_every == 0:
            terms["d_r1"] = self._r1_penalty(real, sent)
        logits = {"d_real": real_scores.cond, "d_wrong": real_scores.wrong, "d_fake": fake_scores.cond}
        means = {name: torch.stack([scale.mean() for scale in scales]).mean() for name, scales in logits.items()}
        means["sent_square"] = sent.square().mean()  # that of the noise is 1, see `text_gain`
        return self._backward(terms, means)

    def generator_step(self, micro_batches: list[MicroBatch]) -> StepResult:
        """Adversarial loss through the updated discriminator, and guidance through the frozen
        encoders."""
        self.g_optimizer.zero_grad()
        with frozen(self.discriminator):
            result = mean_result([self._generator_backward(micro) for micro in micro_batches])
        return self._take_step(self.g_optimizer, result, "generator")

    def _generator_backward(self, micro: MicroBatch) -> StepResult:
        """Adds the generator's gradients of one micro-batch."""
        return self._backward(*self._generator_terms(micro, micro.shared or self._generate(micro)))

    def _generator_terms(self, micro: MicroBatch, generated: Generated) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Its loss terms, unweighted, and numbers to watch."""
        weights, policies, batch, text = self.recipe.loss_weights, self.recipe.augmentation, micro.batch, micro.text
        output, embeddings = generated.output, generated.embeddings
        images = [scale[: len(text.sent_emb)] for scale in output.images]  # mixed sentences have no real ones
        terms, statistics = {}, {}
        if "g_adv" in weights:
            fake = self._augment(output.images) if embeddings is None else (embeddings.local_feats,)
            terms["g_adv"] = self._generator_loss(self._score(fake, micro.drawn.sent_emb))
        if "g_kl" in weights:
            terms["g_kl"] = kl_loss(output.mu, output.logvar)
        if "pixels" in weights:
            scales = [pixel_loss(*pair) for pair in zip(images, batch.images, strict=True)]
            terms["pixels"] = sum(scales) / len(scales)
        if self.guidance.weights:
            if embeddings is None or policies or len(images[-1]) < len(output.images[-1]):
                embeddings = self.image_encoder(images[-1])  # guidance looks at the images as they are
            guidance = self.guidance(embeddings, text, batch.labels, batch.num_views)
            terms, statistics = terms | guidance.terms, guidance.statistics
        return terms, statistics

    def term_pulls(self, batch: Batch) -> dict[str, TermPull]:
        """How each weighted loss term that reads the final images would change those that the
        generator draws of a batch."""
        micro = self._embed_captions(pad_captions(batch))
        generated = self._generate(micro)
        drawn, _ = self._generator_terms(micro, generated)
        with torch.no_grad():
            seen = self.image_encoder(batch.images[-1])
            terms = self.guidance(seen, micro.text, batch.labels, batch.num_views).terms
            real = {name: term.item() for name, term in terms.items()}
        image, weights = generated.output.images[-1], term_weights(self.recipe, self.step)
        pulls = {}
        for name, term in drawn.items():
            gradient = torch.autograd.grad(term, image, retain_graph=True, allow_unused=True)[0]
            if gradient is not None:
                pulls[name] = TermPull(term.item(), real.get(name), weights[name] * gradient[: len(batch)])
        return pulls

    @torch.no_grad()
    def _embed_captions(self, batch: Batch) -> MicroBatch:
        """Embeds the captions, and draws all noise that the generator needs."""
        text = self.text_encoder(batch.input_ids, batch.attention_mask)
        draws = [MicroBatch(batch, text, text, *self._noises(text.sent_emb)) for _ in range(self.recipe.pixel_draws)]
        micro = draws[0] if len(draws) == 1 else self._nearest(draws)
        count = round(self.recipe.mixed_sentences * len(text.sent_emb))
        return self._with_mixtures(micro, count) if count else micro

    def _with_mixtures(self, micro: MicroBatch, count: int) -> MicroBatch:
        """Also draws, of each of the first `count` rows and the next one, the middle of their
        sentences with the words of both: in GAN-INT (Reed et al., arXiv 1605.05396, section 4.3)
        the generator meets what lies between the data's sentences, too."""
        text, length = micro.text, micro.text.word_embs.shape[1]
        following = (torch.arange(count, device=text.sent_emb.device) + 1) % len(text.sent_emb)
        mixtures = (text.sent_emb[:count] + text.sent_emb[following]) / 2
        words, mask = (  # (count, 2 T, W) and (count, 2 T)
            torch.cat([one[:count], one[following]], dim=1) for one in (text.word_embs, text.attention_mask)
        )
        drawn = TextEmbeddings(
            sent_emb=torch.cat([text.sent_emb, mixtures]),
            word_embs=torch.cat([F.pad(text.word_embs, (0, 0, 0, length)), words]),
            attention_mask=torch.cat([F.pad(text.attention_mask, (0, length)), mask]),
        )
        more = zip((micro.noise, micro.conditioning_noise), self._noises(mixtures))
        noise, conditioning_noise = (None if own is None else torch.cat([own, new]) for own, new in more)
        return replace(micro, drawn=drawn, noise=noise, conditioning_noise=conditioning_noise)

    def _noises(self, sent_emb: Tensor) -> list[Tensor | None]:
        """Noise and conditioning noise for the rows of `sent_emb`."""
        widths = self.config.noise_dim, self.conditioning_dim
        return [torch.randn(len(sent_emb), width, device=sent_emb.device) if width else None for width in widths]

    def _nearest(self, draws: list[MicroBatch]) -> MicroBatch:
        """Of several draws of noise for the same rows, each row's whose picture is nearest to the
        real one, as implicit maximum likelihood learns generators (Li and Malik, arXiv
        1809.09087). The lowest scale decides, as noise enters there and the others cost more."""
        real = draws[0].batch.images[0]
        fewer = {"num_scales": 1} if len(self.image_sizes) > 1 else {}
        with kept_buffers(self.generator):
            pictures = [self._run_generator(micro, **fewer).images[0] for micro in draws]
        distances = torch.stack([(picture - real).abs().flatten(1).mean(dim=1) for picture in pictures])
        nearest, rows = distances.argmin(dim=0), torch.arange(len(real), device=real.device)  # (B,)

        def chosen(noises: list[Tensor | None]) -> Tensor | None:
            return None if noises[0] is None else torch.stack(noises)[nearest, rows]

        return replace(
            draws[0],
            noise=chosen([micro.noise for micro in draws]),
            conditioning_noise=chosen([micro.conditioning_noise for micro in draws]),
        )

    def _generate(self, micro: MicroBatch) -> Generated:
        """Images and, for a discriminator that reads this, what the image encoder sees in them."""
        output = self._run_generator(micro)
        if not self.reads_features:
            return Generated(output)
        return Generated(output, self.image_encoder(self._augment(output.images)[-1]))

    def _run_generator(self, micro: MicroBatch, **options: int) -> GeneratorOutput:
        text = micro.drawn
        return self.generator(
            micro.noise, text.sent_emb, text.word_embs, text.attention_mask, micro.conditioning_noise, **options
        )

    @torch.no_grad()
    def _generate_without_graph(self, micro: MicroBatch) -> Generated:
        """What `_generate` gives; only that one moves BatchNorm's running statistics."""
        with kept_buffers(self.generator):
            return self._generate(micro)

    def _augment(self, images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the discriminator sees of images at all scales."""
        return augment(images, self.recipe.augmentation, self.recipe.augmentation_fill)

    def _lay_out(self, inputs: Tensor) -> Tensor:
        """What the discriminator reads, in its weights' memory layout: else each of its
        convolutions would bring its weights into the other's."""
        return inputs.contiguous() if inputs.device.type == "cpu" else inputs

    def _score(
        self, inputs: tuple[Tensor, ...], sent_emb: Tensor, wrong_sent_emb: Tensor | None = None
    ) -> DiscriminatorOutput:
        """The discriminator's scores of images at all scales or, where it reads these, of image
        features."""
        inputs = tuple(map(self._lay_out, inputs))
        return self.discriminator(inputs[-1] if self.reads_features else inputs, sent_emb, wrong_sent_emb)

    def _score_in_float32(
        self, inputs: tuple[Tensor, ...], sent_emb: Tensor, wrong_sent_emb: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Scores whose gradient is penalised: whatever the precision of the rest, the sixth power
        of its norm needs float32."""
        # without the autocast that accelerate puts around it
        forward = getattr(self.discriminator, "_original_forward", self.discriminator)
        with torch.autocast(inputs[0].device.type, enabled=False):
            return forward(inputs[-1] if self.reads_features else inputs, sent_emb, wrong_sent_emb)

    def _discriminator_loss(self, real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
        """Summed over the scales."""
        uncond = zip(real.uncond, fake.uncond) if real.uncond is not None else repeat(())
        return sum(
            self.discriminator_loss(*cond, *pair) for *cond, pair in zip(real.cond, fake.cond, real.wrong, uncond)
        )

    def _generator_loss(self, fake: DiscriminatorOutput) -> Tensor:
        """Summed over the scales."""
        heads = zip(fake.cond, fake.uncond) if fake.uncond is not None else zip(fake.cond)
        return sum(self.generator_loss(*scores) for scores in heads)

    def _penalty(self, scores: DiscriminatorOutput, inputs: tuple[Tensor, ...]) -> Tensor:
        """Of this process's own rows, being a mean over rows."""
        with no_weight_gradients():
            penalty = matching_aware_gradient_penalty(scores.cond[-1], inputs)
        return self.recipe.magp_every * penalty

    def _r1_penalty(self, real: tuple[Tensor, ...], sent_emb: Tensor) -> Tensor:
        """Of the sum of all logits, at all scales, with the sentence and alone, by what the
        discriminator reads; of this process's own rows, being a mean over rows."""
        inputs = leaves(map(self._lay_out, real))
        scores = self._score_in_float32(inputs, sent_emb)
        logits = sum((*scores.cond, *(scores.uncond or ())))
        return self.recipe.r1_every * r1_penalty(logits, inputs)

    def _backward(self, terms: dict[str, Tensor], statistics: dict[str, Tensor] | None = None) -> StepResult:
        self.accelerator.backward(weighted_sum(terms, term_weights(self.recipe, self.step)))
        return StepResult({name: term.detach() for name, term in terms.items()}, statistics or {})

    def _take_step(self, optimizer: torch.optim.Optimizer, result: StepResult, name: str) -> StepResult:
        bounds = [(trained_parameters(optimizer), self.recipe.max_grad_norm)]
        return take_step(self.accelerator, optimizer, result, name, self.step, bounds)

    @property
    def trained_generator(self) -> PreTrainedModel:
        """The averaged generator where there is one, else the live one."""
        return self.ema.module if self.ema is not None else self.accelerator.unwrap_model(self.generator)

    @torch.no_grad()
    def draw(self, captions: list[str], noise: Tensor, conditioning_noise: Tensor | None = None) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] for B captions, by the trained generator.

        Args:
            noise, conditioning_noise: as `sample_noise` gives them, a row for each caption.
        """
        encoded = encode_prompts(self.tokenizer, captions).to(self.accelerator.device)
        networks = self.text_encoder, self.trained_generator
        tokens = encoded["input_ids"], encoded["attention_mask"]
        return draw_images(*networks, *tokens, noise, conditioning_noise).images[-1]

    def evaluate(self) -> dict[str, float]:
        """Frechet distance and retrieval of generated images in the frozen image encoder's
        features, one image per held-out caption."""
        device = self.accelerator.device
        if not self._targets:
            images, captions, _ = embed_images(self.image_encoder, self.evaluation, device)
            held_out = feature_statistics(images.numpy())
            training = feature_statistics(embed_images(self.image_encoder, self.reference, device).image_emb.numpy())
            texts = embed_texts(self.text_encoder, self.tokenizer, captions, device)
            self._targets = {"held_out": held_out, "texts": texts, "yardstick": frechet_distance(training, held_out)}
            self._targets["captions"] = captions
        prompts = [Prompt(caption, UNLABELLED) for caption in self._targets["captions"]]
        networks = self.text_encoder, self.trained_generator
        pictures = DrawnPictures(*networks, self.tokenizer, prompts, seed=0)
        generated = embed(lambda images: (self.image_encoder(images).image_emb.float(), None), pictures, 64, None)
        judged = {} if self.monitor is None else self.monitor.measure(*networks)
        return {
            "frechet_encoder": frechet_distance(feature_statistics(generated.features), self._targets["held_out"]),
            "frechet_encoder_training_images": self._targets["yardstick"],
            **retrieval_recall(self._targets["texts"], generated.features),
            **judged,
        }

    def report(self, first: dict[str, float], last: dict[str, float]) -> str:
        """The evaluation in words and numbers."""
        n, pool = len(self.evaluation), last.get("pool", 100)
        judged = [] if self.monitor is None else self.monitor.report(first, last)
        return "\n".join(
            [
                f"Frechet distance to {n} held-out images in the features of the frozen image encoder (not "
                f"FID; {n} images each)",
                f"  untrained generator {first['frechet_encoder']:10.3f}",
                f"  trained generator   {last['frechet_encoder']:10.3f}",
                f"  training images     {last['frechet_encoder_training_images']:10.3f}",
                f"generated image found by its held-out caption among {pool:.0f} (the same encoder guided the "
                "training)",
                *(
                    f"  R@{k:<3} untrained {first[f'recall@{k}']:6.1%}   trained {last[f'recall@{k}']:6.1%} "
                    f"  chance {min(k, pool - 1) / pool:.0%}"
                    for k in (1, 10)
                ),
                *judged,
            ]
        )

    def samples(self) -> tuple[list[Image.Image], list[str]]:
        """A dozen held-out captions drawn from fixed noise."""
        captions = [self.evaluation.captions[number] for number in evenly_spaced(len(self.evaluation), NUM_SAMPLES)]
        noises = (None if noise is None else noise[: len(captions)] for noise in self.fixed_noises)
        return [to_pil(image) for image in self.draw(captions, *noises)], captions

    def save_pretrained(self, folder: Path) -> None:
        """Writes text encoder, generator and tokenizer as one repository, the discriminator in a
        subfolder."""
        composite = GANS[self.config.model_type].composite(self.config)
        composite.text_encoder.load_state_dict(self.text_encoder.state_dict())
        composite.generator.load_state_dict(self.trained_generator.state_dict())
        composite.save_pretrained(folder)
        save_tokenizer(self.tokenizer, folder)
        self.accelerator.unwrap_model(self.discriminator).save_pretrained(folder / "discriminator")

    def networks(self) -> dict[str, nn.Module]:
        """What is trained, and the average that follows it."""
        players = {"generator": self.generator, "discriminator": self.discriminator}
        networks = {name: self.accelerator.unwrap_model(network) for name, network in players.items()}
        if self.guidance.heads:
            networks["guidance"] = self.guidance
        return networks | ({"ema": self.ema.module} if self.ema is not None else {})

    def frozen_networks(self) -> dict[str, nn.Module]:
        """What is used as it is."""
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder}

    @cached_property
    def _frozen_hashes(self) -> dict[str, str]:
        """What the encoders are known by; they never change, so that checkpoints need no more."""
        return {name: weights_hash(network) for name, network in self.frozen_networks().items()}

    def _architecture(self) -> dict[str, object]:
        return architecture(self.config) | architecture(self.image_encoder.config, "encoders.image_config.")

    def state_dict(self) -> dict:
        return {
            "step": self.step,
            "architecture": self._architecture(),
            "modules": {name: module.state_dict() for name, module in self.networks().items()},
            "optimizers": [optimizer.state_dict() for optimizer in (self.g_optimizer, self.d_optimizer)],
            "frozen": self._frozen_hashes,
        }

    def load_state_dict(self, state: dict) -> None:
        for name in self.frozen_networks():
            if state["frozen"][name] != self._frozen_hashes[name]:
                raise ValueError(
                    f"the checkpoint does not fit the recipe: encoders {self.recipe.encoders!r} have another {name} "
                    "than those it was trained around; name these, or start in another folder"
                )
        if "guidance" in state["modules"] and not self.guidance.heads:
            raise ValueError(
                "the checkpoint does not fit the recipe: it trained heads of guidance terms, as label_ce has one, that "
                "the recipe lacks; keep the term, with a weight of 0 if it is to end, or start in another folder"
            )
        if "ema" in state["modules"] and self.ema is None:
            raise ValueError(
                "the checkpoint does not fit the recipe: it averaged the generator, which ema_decay=null would drop; "
                "keep an ema_decay, or start in another folder"
            )
        for name, module in self.networks().items():
            if name not in state["modules"]:
                raise ValueError(f"the checkpoint does not fit the recipe: it holds no {name}")
            restore_module(module, state["modules"][name], name)
        check_architecture(self._architecture(), state.get("architecture", {}))
        for optimizer, saved in zip((self.g_optimizer, self.d_optimizer), state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step = state["step"]


def warn_of_slow_average(recipe: GANRecipe) -> None:
    """Says where the averaged generator will still hold much of the untrained one at the end, which
    greys and blurs what it draws. Trials of a few steps pass."""
    if recipe.ema_decay is None or recipe.init_from is not None or recipe.steps < FEWEST_STEPS_AVERAGED:
        return
    untrained = recipe.ema_decay**recipe.steps
    if untrained > MOST_UNTRAINED:
        logger.warning(
            "after %s steps, %.1f %% of the average that is sampled, evaluated and saved will still be the untrained "
            "generator: ema_decay=%g forgets it",
            f"{recipe.steps:,}",
            100 * untrained,
            1 - 20 / recipe.steps,
        )


def take_over(network: nn.Module, trained: nn.Module, recipe: GANRecipe) -> None:
    """Fills a new network with the weights of the one that `init_from` names.

    Raises:
        ValueError: one has another shape, as around encoders of other sizes.
    """
    own, given = network.state_dict(), trained.state_dict()
    for name, tensor in own.items():
        if given[name].shape != tensor.shape:
            raise ValueError(
                f"init_from {recipe.init_from!r} and encoders {recipe.encoders!r} do not fit: "
                f"{type(network).__name__}.{name} has shape {tuple(given[name].shape)} in the first and needs "
                f"{tuple(tensor.shape)} around the second: name encoders of the same sizes"
            )
    network.load_state_dict(given)


def leaves(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """What a penalty differentiates scores by: the tensors without their graph, in float32 at
    least."""
    return tuple(x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_() for x in tensors)


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Puts buffers, such as BatchNorm's running statistics, back as they were behind the block."""
    buffers = list(module.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(buffers, before):
                buffer.copy_(old)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keeps gradients out of the parameters of `module` inside the block; they still pass through
    it to its inputs."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
