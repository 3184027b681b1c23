"""Phase 2: generator and discriminator play, while the frozen encoders of phase 1 say whether
images fit their texts and labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import datasets
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..conversion import load_encoders
from ..data import Batch, EvaluationRows, encode_prompts, evenly_spaced, save_tokenizer, to_pil
from ..evaluation import embed_images, embed_texts
from ..losses import (
    bce_discriminator_loss,
    bce_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    kl_loss,
    matching_aware_gradient_penalty,
)
from ..metrics import feature_statistics, frechet_distance, retrieval_recall
from ..models import GANS, DiscriminatorOutput, GeneratorOutput, ImageEmbeddings, TextEmbeddings
from ..models.operators import no_weight_gradients
from .augmentation import augment
from .checkpoint import restore_module
from .data import evaluation_rows
from .distributed import gather_all_but_last, next_captions, pad_captions, prepare_network
from .ema import EMA
from .optimisation import check_micro_batches, lr_schedule, mean_values, take_step, trained_parameters
from .recipe import GANRecipe, build_model_config
from .terms import matching_terms, supcon_terms, weighted_sum

NUM_SAMPLES = 12
ADVERSARIAL = {  # the two players' losses at one scale, by the family that the discriminator's class names
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
    "bce": (bce_discriminator_loss, bce_generator_loss),
}


@dataclass
class Round:
    """One micro-batch on its way through a step.

    Attributes:
        batch, text: the rows and the embeddings of their captions.
        noise, conditioning_noise: (B, Z) and, for a generator with conditioning augmentation, (B,
            C).
        drawn: the images of `GANPhase._draw_round`, where both players share them.
        inputs: what the gradient penalty differentiates by, where one is due.
    """

    batch: Batch
    text: TextEmbeddings
    noise: Tensor
    conditioning_noise: Tensor | None
    drawn: tuple[GeneratorOutput, ImageEmbeddings | None] | None = None
    inputs: tuple[Tensor, ...] = ()


class GANPhase:
    """Trains a GAN against its discriminator; see `loop.run` for the methods a phase has.

    Args:
        recipe: of phase 2.
        accelerator: prepares and steps the networks.
        generator, discriminator: of one row of `GANS`.
        text_encoder, image_encoder: of phase 1; frozen here.
        tokenizer: of the text encoder.
        evaluation: held-out rows.
        reference: some training rows, whose distance to the held-out ones is the yardstick of the
            generator's.

    Raises:
        ValueError: the gradient penalty under fp16 or at several scales, or a weight of `g_kl` for
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
        self.reference = reference
        self.discriminator_loss, self.generator_loss = ADVERSARIAL[discriminator.adversarial]
        self.steps_taken = 0
        self.reads_features = discriminator.reads_image_features
        self.text_encoder, self.image_encoder = (
            e.to(accelerator.device).eval().requires_grad_(False) for e in (text_encoder, image_encoder)
        )
        if recipe.channels_last:
            on_cpu = (
                accelerator.device.type == "cpu"
            )  # which slows down on a discriminator's deep, small maps in this layout
            for module in (generator, image_encoder, *(() if on_cpu else (discriminator,))):
                module.to(memory_format=torch.channels_last)
        trained = [[p for p in network.parameters() if p.requires_grad] for network in (generator, discriminator)]
        g_optimizer = torch.optim.Adam(trained[0], lr=recipe.generator_learning_rate, betas=recipe.betas, fused=True)
        d_optimizer = torch.optim.Adam(
            trained[1], lr=recipe.discriminator_learning_rate, betas=recipe.betas, fused=True
        )
        self.schedules = [lr_schedule(optimizer, recipe) for optimizer in (g_optimizer, d_optimizer)]
        self.generator, self.discriminator = (
            prepare_network(n.train(), accelerator, recipe.sync_batch_norm) for n in (generator, discriminator)
        )
        self.g_optimizer, self.d_optimizer = accelerator.prepare(g_optimizer, d_optimizer)
        self.ema = EMA(generator, recipe.ema_decay) if recipe.ema_decay is not None else None
        if recipe.compile:
            for network in (
                self.generator,
                self.image_encoder,
                *(() if "d_magp" in recipe.loss_weights else (self.discriminator,)),
            ):
                network.compile()
        self.fixed_noise = self._evaluation_noise(NUM_SAMPLES, recipe.seed)
        self._targets: dict[str, object] = {}

    @classmethod
    def from_recipe(
        cls, recipe: GANRecipe, accelerator: Accelerator, rows: datasets.Dataset, held_out: datasets.Dataset
    ) -> "GANPhase":
        """Builds new networks around the encoders the recipe names.

        Raises:
            ValueError: an unknown model or architecture key, or encoders that cannot be loaded or
                are of another kind than the GAN's.
        """
        if recipe.model not in GANS:
            raise ValueError(f"model is {recipe.model!r}; it must be one of {', '.join(GANS)}")
        gan = GANS[recipe.model]
        given = ("text_config", "image_config") if gan.discriminator.reads_image_features else ("text_config",)
        for key in given:
            if key in recipe.model_config:
                raise ValueError(f"model_config.{key} comes from the encoders; remove it from the recipe")
        encoders, tokenizer = load_encoders(recipe.encoders, recipe.data.max_words)
        needed, found = gan.composite.text_encoder_class, encoders.text_encoder
        if not isinstance(found, needed):
            raise ValueError(
                f"encoders {recipe.encoders!r}: {recipe.model} needs a {needed.__name__}, found a "
                f"{type(found).__name__}"
            )
        config = build_model_config(
            gan.config, recipe.model_config, **{key: getattr(encoders.config, key).to_dict() for key in given}
        )
        data, size = recipe.data, config.image_size
        evaluation = evaluation_rows(recipe, held_out, data.test_split, tokenizer, size, recipe.eval_rows)
        reference = evaluation_rows(recipe, rows, data.train_split, tokenizer, size, len(evaluation))
        generator, discriminator = gan.generator(config), gan.discriminator(config)
        if discriminator.reads_image_features:
            generator.copy_vision_tower(encoders.image_encoder)
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
        )

    def train_step(self, *batches: Batch) -> dict[str, Tensor]:
        """One update of the discriminator, then one of the generator, each by the mean gradient of
        the micro-batches.

        A single micro-batch is drawn once, for both players. Of several, each is drawn for the
        discriminator and, from the same noise, again for the generator, so that never more than one
        is held with what its gradient needs.

        Returns:
            The unweighted terms, statistics and gradient norms.

        Raises:
            FloatingPointError: one of these is infinite or no number; the player whose it is has
                not been updated.
            ValueError: another number of batches than `gradient_accumulation` says.
        """
        check_micro_batches(batches, self.accelerator)
        rounds = [self._deal(pad_captions(batch)) for batch in batches]
        if len(rounds) == 1:
            rounds[0].drawn = self._draw_round(rounds[0])
        values = self.discriminator_step(rounds) | self.generator_step(rounds)
        if self.ema is not None:
            self.ema.update(self.accelerator.unwrap_model(self.generator))
        for schedule in self.schedules:
            schedule.step()
        self.steps_taken += 1
        return values

    def discriminator_step(self, rounds: list["Round"]) -> dict[str, Tensor]:
        """Adversarial loss on real images with their captions, on the same with the next row's
        caption, and on generated images."""
        penalised = "d_magp" in self.recipe.loss_weights and self.steps_taken % self.recipe.magp_every == 0
        self.d_optimizer.zero_grad()
        values = mean_values([self._discriminator_backward(round_, penalised) for round_ in rounds])
        values = self._take_step(self.d_optimizer, values, "discriminator")
        if penalised and self.recipe.magp_step == "separate":
            values |= self.penalty_step(rounds)
        return values

    def penalty_step(self, rounds: list["Round"]) -> dict[str, Tensor]:
        """The gradient penalty in an update of its own, of the discriminator just updated."""
        self.d_optimizer.zero_grad()
        penalties = []
        for inputs in (round_.inputs for round_ in rounds):
            penalties.append(self._backward({"d_magp": self._penalty(self._judge_in_float32(inputs), inputs)}))
        for parameter in trained_parameters(self.d_optimizer):
            if (
                parameter.grad is None
            ):  # a bias: the penalty does not depend on it, yet Adam takes a step with this zero in the authors' code
                parameter.grad = torch.zeros_like(parameter)
        return self._take_step(self.d_optimizer, mean_values(penalties), "d_magp")

    def _discriminator_backward(self, round_: "Round", penalised: bool) -> dict[str, Tensor]:
        """Adds the discriminator's gradients of one micro-batch; returns terms and statistics.

        All rows of a batch, of both views and all processes, form one list here: a row's wrong
        caption is the next row's, and the last row has none or, where the recipe rotates them, the
        first row's.
        """
        batch, policies = round_.batch, self.recipe.augmentation
        fake, seen = round_.drawn or self._preview(round_)
        real, sent = augment(batch.images, policies), round_.text.sent_emb
        rotated = self.recipe.wrong_captions == "rotated"
        wrong = next_captions(sent, batch.num_views, rotated)
        if seen is None:
            drawn = augment(tuple(image.detach() for image in fake.images), policies)
        else:
            with torch.no_grad():
                real = (self.image_encoder(real[-1]).local_feats,)
            drawn = (seen.local_feats.detach(),)
        inputs = round_.inputs = (
            tuple(x.detach().float().requires_grad_() for x in (self._lay_out(real[-1]), sent)) if penalised else ()
        )
        joint = penalised and self.recipe.magp_step == "joint"

        real_scores = self._judge_in_float32(inputs, wrong) if joint else self._judge(real, sent, wrong)
        fake_scores = self._judge(drawn, sent)
        if not rotated:
            real_scores.wrong = tuple(
                gather_all_but_last(logits, len(batch), batch.num_views) for logits in real_scores.wrong
            )
        terms = {"d_adv": self._discriminator_loss(real_scores, fake_scores)}
        if joint:
            terms["d_magp"] = self._penalty(real_scores, inputs)
        logits = {
            "stats/d_real": real_scores.cond,
            "stats/d_wrong": real_scores.wrong,
            "stats/d_fake": fake_scores.cond,
        }
        return self._backward(terms) | {
            name: torch.stack([scale.mean() for scale in scales]).mean() for name, scales in logits.items()
        }

    def generator_step(self, rounds: list["Round"]) -> dict[str, Tensor]:
        """Adversarial loss through the updated discriminator, matching losses and supervised
        contrast through the frozen encoders."""
        self.g_optimizer.zero_grad()
        with frozen(self.discriminator):
            values = mean_values([self._generator_backward(round_) for round_ in rounds])
        return self._take_step(self.g_optimizer, values, "generator")

    def _generator_backward(self, round_: "Round") -> dict[str, Tensor]:
        """Adds the generator's gradients of one micro-batch; returns terms and statistics."""
        weights, policies, batch, text = self.recipe.loss_weights, self.recipe.augmentation, round_.batch, round_.text
        fake, seen = round_.drawn or self._draw_round(round_)
        terms, statistics = {}, {}
        if "g_adv" in weights:
            drawn = augment(fake.images, policies) if seen is None else (seen.local_feats,)
            terms["g_adv"] = self._generator_loss(self._judge(drawn, text.sent_emb))
        if "g_kl" in weights:
            terms["g_kl"] = kl_loss(fake.mu, fake.logvar)
        if weights.keys() & {"words", "sent", "clip_sim", "supcon"}:
            images = self.image_encoder(fake.images[-1]) if seen is None or policies else seen
            terms |= matching_terms(self.recipe, images, text, batch.labels, batch.num_views)
            contrast, statistics = supcon_terms(self.recipe, images.image_emb, text.sent_emb, batch.labels)
            terms |= contrast
        return self._backward(terms) | statistics

    def _deal(self, batch: Batch) -> "Round":
        """Embeds the captions and draws all noise the generator needs."""
        with torch.no_grad():
            text = self.text_encoder(batch.input_ids, batch.attention_mask)
        noise, conditioning_noise = (
            torch.randn(len(batch), width, device=text.sent_emb.device) if width else None
            for width in (self.config.noise_dim, self.conditioning_dim)
        )
        return Round(batch, text, noise, conditioning_noise)

    def _draw_round(self, round_: "Round") -> tuple[GeneratorOutput, ImageEmbeddings | None]:
        """The generated images and, for a discriminator that reads this, what the image encoder
        sees of them."""
        text = round_.text
        fake = self.generator(
            round_.noise, text.sent_emb, text.word_embs, text.attention_mask, round_.conditioning_noise
        )
        return fake, self.image_encoder(
            augment(fake.images, self.recipe.augmentation)[-1]
        ) if self.reads_features else None

    @torch.no_grad()
    def _preview(self, round_: "Round") -> tuple[GeneratorOutput, ImageEmbeddings | None]:
        """What `_draw_round` gives, without its graph; only that one moves BatchNorm's running
        statistics."""
        buffers = list(self.generator.buffers())
        before = [buffer.clone() for buffer in buffers]
        drawn = self._draw_round(round_)
        for buffer, old in zip(buffers, before):
            buffer.copy_(old)
        return drawn

    def _lay_out(self, seen: Tensor) -> Tensor:
        """What the discriminator reads, in its weights' memory layout: else each of its
        convolutions would bring its weights into the other's."""
        return seen.contiguous() if seen.device.type == "cpu" else seen

    def _judge(
        self, seen: tuple[Tensor, ...], sent_emb: Tensor, wrong_sent_emb: Tensor | None = None
    ) -> DiscriminatorOutput:
        """The discriminator's scores of images at all scales or, where it reads these, of image
        features."""
        seen = tuple(map(self._lay_out, seen))
        return self.discriminator(seen[-1] if self.reads_features else seen, sent_emb, wrong_sent_emb)

    def _judge_in_float32(
        self, inputs: tuple[Tensor, Tensor], wrong_sent_emb: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Scores whose gradient is penalised: whatever the precision of the rest, the sixth power
        of its norm needs float32."""
        forward = getattr(
            self.discriminator, "_original_forward", self.discriminator
        )  # without the autocast that accelerate puts around it
        with torch.autocast(inputs[0].device.type, enabled=False):
            return forward(inputs[0] if self.reads_features else inputs[:1], inputs[1], wrong_sent_emb)

    def _discriminator_loss(self, real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
        """Summed over the scales."""
        uncond = zip(real.uncond, fake.uncond) if real.uncond is not None else repeat(())
        return sum(
            self.discriminator_loss(*cond, *pair) for *cond, pair in zip(real.cond, fake.cond, real.wrong, uncond)
        )

    def _generator_loss(self, fake: DiscriminatorOutput) -> Tensor:
        """Summed over the scales."""
        return sum(
            self.generator_loss(*heads)
            for heads in (zip(fake.cond, fake.uncond) if fake.uncond is not None else zip(fake.cond))
        )

    def _penalty(self, scores: DiscriminatorOutput, inputs: tuple[Tensor, ...]) -> Tensor:
        """Of this process's own rows, being a mean over rows."""
        with no_weight_gradients():
            penalty = matching_aware_gradient_penalty(scores.cond[-1], inputs)
        return self.recipe.magp_every * penalty

    def _backward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        self.accelerator.backward(weighted_sum(terms, self.recipe.loss_weights))
        return {name: term.detach() for name, term in terms.items()}

    def _take_step(self, optimizer: torch.optim.Optimizer, values: dict[str, Tensor], name: str) -> dict[str, Tensor]:
        bounds = [(trained_parameters(optimizer), self.recipe.max_grad_norm)]
        return take_step(self.accelerator, optimizer, values, name, self.steps_taken, bounds)

    @property
    def trained_generator(self) -> PreTrainedModel:
        """The averaged generator where there is one, else the live one."""
        return self.ema.module if self.ema is not None else self.accelerator.unwrap_model(self.generator)

    @torch.no_grad()
    def draw(self, captions: list[str], noise: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] for B captions, by the trained generator in evaluation
        mode.

        `noise` is (B, Z), or (B, Z + C) for a generator with conditioning augmentation, whose draw
        then follows the noise.
        """
        generator = self.trained_generator
        was_training = generator.training
        generator.eval()
        encoded = encode_prompts(self.tokenizer, captions).to(self.accelerator.device)
        text = self.text_encoder(**encoded)
        noise, conditioning_noise = noise.to(text.sent_emb).split([self.config.noise_dim, self.conditioning_dim], dim=1)
        images = (
            generator(noise, text.sent_emb, text.word_embs, text.attention_mask, conditioning_noise)
            .images[-1]
            .clamp(-1, 1)
        )
        generator.train(was_training)
        return images

    def _evaluation_noise(self, rows: int, seed: int) -> Tensor:
        """All that `draw` leaves to chance, decided by the seed."""
        return torch.randn(
            rows, self.config.noise_dim + self.conditioning_dim, generator=torch.Generator().manual_seed(seed)
        )

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
        captions = self._targets["captions"]
        noise = self._evaluation_noise(len(captions), seed=0)
        drawn = []
        for start in range(0, len(captions), 64):
            images = self.draw(captions[start : start + 64], noise[start : start + 64])
            with torch.no_grad():
                drawn.append(self.image_encoder(images).image_emb.float().cpu())
        drawn = torch.cat(drawn)
        return {
            "frechet_encoder": frechet_distance(feature_statistics(drawn.numpy()), self._targets["held_out"]),
            "frechet_encoder_training_images": self._targets["yardstick"],
            **retrieval_recall(self._targets["texts"], drawn),
        }

    def report(self, first: dict[str, float], last: dict[str, float]) -> str:
        """The evaluation in words and numbers."""
        n = len(self._targets["captions"])
        return "\n".join(
            [
                f"Frechet distance to {n} held-out images in the features of the frozen image encoder (not "
                f"FID; {n} images each)",
                f"  untrained generator {first['frechet_encoder']:10.3f}",
                f"  trained generator   {last['frechet_encoder']:10.3f}",
                f"  training images     {last['frechet_encoder_training_images']:10.3f}",
                "generated image found by its held-out caption among 100 (the same encoder guided the training)",
                *(
                    f"  R@{k:<3} untrained {first[f'recall@{k}']:6.1%}   trained {last[f'recall@{k}']:6.1%} "
                    f"  chance {k / 100:.0%}"
                    for k in (1, 10)
                ),
            ]
        )

    def samples(self) -> tuple[list[Image.Image], list[str]]:
        """A dozen held-out captions drawn from fixed noise."""
        captions = [self.evaluation.captions[number] for number in evenly_spaced(len(self.evaluation), NUM_SAMPLES)]
        return [to_pil(image) for image in self.draw(captions, self.fixed_noise[: len(captions)])], captions

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
        players = {name: self.accelerator.unwrap_model(network) for name, network in players.items()}
        return players | ({"ema": self.ema.module} if self.ema is not None else {})

    def frozen_networks(self) -> dict[str, nn.Module]:
        """What is used as it is."""
        return {"text_encoder": self.text_encoder, "image_encoder": self.image_encoder}

    def state_dict(self) -> dict:
        return {
            "modules": {name: module.state_dict() for name, module in self.networks().items()},
            "optimizers": [optimizer.state_dict() for optimizer in (self.g_optimizer, self.d_optimizer)],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "steps_taken": self.steps_taken,
        }

    def load_state_dict(self, state: dict) -> None:
        for name, module in self.networks().items():
            if name not in state["modules"]:
                raise ValueError(f"the checkpoint does not fit the recipe: it holds no {name}")
            restore_module(module, state["modules"][name], name)
        for optimizer, saved in zip((self.g_optimizer, self.d_optimizer), state["optimizers"]):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"]):
            schedule.load_state_dict(saved)
        self.steps_taken = state["steps_taken"]


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
