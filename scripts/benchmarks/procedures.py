"""Training as the papers' code does it: the procedures that this package is measured against."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from t2i_supcon.data import Batch
from t2i_supcon.losses import (
    bce_discriminator_loss,
    bce_generator_loss,
    cosine_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    kl_loss,
    matching_aware_gradient_penalty,
    sentence_matching_loss,
)
from t2i_supcon.models import GeneratorOutput, ImageEmbeddings, TextEmbeddings, operators
from t2i_supcon.training import EncoderPhase, GANPhase
from t2i_supcon.training.recipe import EncoderRecipe, GANRecipe

from .timers import Stopwatch


@contextmanager
def plain_operators() -> Iterator[None]:
    """Inside the block, the networks compute their operations as the papers write them."""

    def upsampled_conv2d(x, weight, bias, size):
        return F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, bias, padding=1)

    def channel_glu(x):
        half = x.shape[1] // 2
        return x[:, :half] * x[:, half:].sigmoid()

    def masked_affine(x, scale, shift, mask):
        scales, shifts = scale.expand_as(x) * mask + 1, shift.expand_as(x) * mask
        return scales * x + shifts

    plain = {
        "upsampled_conv2d": upsampled_conv2d,
        "channel_glu": channel_glu,
        "masked_affine": masked_affine,
        "conv2d": F.conv2d,
        "wide_conv2d": F.conv2d,
        "leaky_relu": F.leaky_relu,
        "upsampled_shortcut": lambda shortcut, x, size: shortcut(F.interpolate(x, size=size, mode="nearest")),
        "pooled_shortcut": lambda shortcut, x: F.avg_pool2d(shortcut(x), 2),
    }
    before = {name: getattr(operators, name) for name in plain}
    for name, operation in plain.items():
        setattr(operators, name, operation)
    try:
        yield
    finally:
        for name, operation in before.items():
            setattr(operators, name, operation)


def plain_word_loss(
    region_feats: Tensor, word_embs: Tensor, attention_mask: Tensor, gamma1: float, gamma2: float, gamma3: float
) -> Tensor:
    """AttnGAN's word matching loss (eq. 7-12), caption by caption, with the copies its code makes:
    the sum of both directions."""
    regions, columns, attentions = region_feats.flatten(2), [], []  # (B, D, R)
    for number, length in enumerate(attention_mask.sum(dim=1).tolist()):
        # the same words for every image
        words = word_embs[number, :length].T.contiguous().repeat(len(regions), 1, 1)  # (B, D, T)
        attention = (regions.mT.contiguous() @ words).softmax(dim=2)  # (B, R, T), over the words
        attention = (gamma1 * attention.mT.contiguous()).softmax(dim=2)  # (B, T, R), over the regions
        context = regions @ attention.mT.contiguous()  # (B, D, T)
        cosine = F.cosine_similarity(context.mT.contiguous(), words.mT.contiguous(), dim=2, eps=1e-8)  # (B, T)
        columns.append((gamma2 * cosine).exp().sum(dim=1).log())
        attentions.append(attention[number])
    similarity = gamma3 * torch.stack(columns, dim=1)  # (image, caption)
    own = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)


def plain_matching(
    recipe: EncoderRecipe | GANRecipe, images: ImageEmbeddings, text: TextEmbeddings
) -> dict[str, Tensor]:
    """Both matching losses of DAMSM, each with both directions."""
    words = plain_word_loss(
        images.region_feats, text.word_embs, text.attention_mask, recipe.gamma1, recipe.gamma2, recipe.gamma3
    )
    return {"words": words, "sent": sum(sentence_matching_loss(images.image_emb, text.sent_emb, None, recipe.gamma3))}


class PlainGANProcedure:
    """One training step of a GAN as the papers' code takes it, with the networks of a phase.

    Gradients flow wherever that code lets them: the generator's also into the discriminators'
    weights and, in GALIP, the discriminator's through the frozen image tower to the pixels. Every
    network has an optimiser that goes tensor by tensor, and so does the average.
    """

    def __init__(self, phase: GANPhase, watch: Stopwatch):
        self.phase, self.watch, self.recipe = phase, watch, phase.recipe
        betas = self.recipe.betas
        self.g_adam = torch.optim.Adam(
            phase.generator.parameters(), self.recipe.generator_learning_rate, betas, foreach=False
        )
        self.discriminators = getattr(phase.discriminator, "scales", [phase.discriminator])
        self.d_adams = [
            torch.optim.Adam(network.parameters(), self.recipe.discriminator_learning_rate, betas, foreach=False)
            for network in self.discriminators
        ]
        self.average = [p.detach().clone() for p in phase.generator.parameters()]
        self.update_players = {"galip": self.galip, "ssagan": self.ssagan}.get(self.recipe.model, self.stacked)

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of every network; returns the terms."""
        config = self.phase.config
        with self.watch("captions"), torch.no_grad():
            text = self.phase.text_encoder(batch.input_ids, batch.attention_mask)
        noise, conditioning_noise = (
            torch.randn(len(batch), width, device=text.sent_emb.device) if width else None
            for width in (config.noise_dim, getattr(config, "conditioning_dim", 0))
        )
        with self.watch("generator forward"):
            fake = self.phase.generator(noise, text.sent_emb, text.word_embs, text.attention_mask, conditioning_noise)
        return {name: term.detach() for name, term in self.update_players(batch, text, fake).items()}

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        with self.watch("backward"):
            loss.backward()
        with self.watch("optimisers and average"):
            optimizer.step()

    def update_generator(self, terms: dict[str, Tensor]) -> None:
        """By its share of the terms, which is all but the discriminator's."""
        weights = self.recipe.loss_weights
        self.update(self.g_adam, sum(weights[name] * terms[name] for name in weights if not name.startswith("d_")))

    def stacked(self, batch: Batch, text: TextEmbeddings, fake: GeneratorOutput) -> dict[str, Tensor]:
        """As AttnGAN and DM-GAN do."""
        terms = {"d_adv": 0}
        for discriminator, adam, real, image in zip(self.discriminators, self.d_adams, batch.images, fake.images):
            with self.watch("discriminator"):
                adam.zero_grad()
                real_scores = discriminator(real, text.sent_emb, text.sent_emb[1:])
                fake_scores = discriminator(image.detach(), text.sent_emb)
                conditional = real_scores.cond[0], fake_scores.cond[0], real_scores.wrong[0]
                loss = bce_discriminator_loss(*conditional, real_scores.uncond[0], fake_scores.uncond[0])
                self.update(adam, loss)
                terms["d_adv"] += loss.detach()
        with self.watch("generator update"):
            self.g_adam.zero_grad()
            scores = [network(image, text.sent_emb) for network, image in zip(self.discriminators, fake.images)]
            terms["g_adv"] = sum(bce_generator_loss(score.cond[0], score.uncond[0]) for score in scores)
            terms["g_kl"] = kl_loss(fake.mu, fake.logvar)
            with self.watch("image encoder and matching"):
                terms |= plain_matching(self.recipe, self.phase.image_encoder(fake.images[-1]), text)
            self.update_generator(terms)
        with self.watch("optimisers and average"), torch.no_grad():
            for mine, live in zip(self.average, self.phase.generator.parameters()):
                mine.mul_(self.recipe.ema_decay).add_(live, alpha=1 - self.recipe.ema_decay)
        return terms

    def ssagan(self, batch: Batch, text: TextEmbeddings, fake: GeneratorOutput) -> dict[str, Tensor]:
        """As SSA-GAN does, the penalty in a step of its own."""
        (discriminator,), (adam,) = self.discriminators, self.d_adams
        with self.watch("discriminator"):
            real_scores = discriminator(batch.images, text.sent_emb, text.sent_emb[1:])
            fake_scores = discriminator(fake.images[-1].detach(), text.sent_emb)
            terms = {"d_adv": hinge_discriminator_loss(real_scores.cond[0], fake_scores.cond[0], real_scores.wrong[0])}
            adam.zero_grad()
            self.update(adam, terms["d_adv"])
        with self.watch("gradient penalty"):
            inputs = (batch.images[-1].detach().requires_grad_(), text.sent_emb.detach().requires_grad_())
            terms["d_magp"] = matching_aware_gradient_penalty(discriminator(*inputs).cond[0], inputs)
            adam.zero_grad()
            self.update(adam, terms["d_magp"])
        with self.watch("generator update"):
            self.g_adam.zero_grad()
            terms["g_adv"] = hinge_generator_loss(discriminator(fake.images, text.sent_emb).cond[0])
            with self.watch("image encoder and matching"):
                terms |= plain_matching(self.recipe, self.phase.image_encoder(fake.images[-1]), text)
            self.update_generator(terms)
        return terms

    def galip(self, batch: Batch, text: TextEmbeddings, fake: GeneratorOutput) -> dict[str, Tensor]:
        """As GALIP does, the penalty in the discriminator's step, wrong captions rotated by one."""
        (discriminator,), (adam,) = self.discriminators, self.d_adams
        sent_emb = text.sent_emb.detach().requires_grad_()
        with self.watch("image encoder and matching"):
            real = self.phase.image_encoder(batch.images[-1].detach().requires_grad_())
            generated = self.phase.image_encoder(fake.images[-1])
        with self.watch("discriminator"):
            real_scores = discriminator(real.local_feats, sent_emb, sent_emb.detach().roll(-1, dims=0))
            fake_scores = discriminator(generated.local_feats.detach(), sent_emb)
            terms = {"d_adv": hinge_discriminator_loss(real_scores.cond[0], fake_scores.cond[0], real_scores.wrong[0])}
            terms["d_magp"] = matching_aware_gradient_penalty(real_scores.cond[0], (real.local_feats, sent_emb))
            adam.zero_grad()
            self.update(adam, terms["d_adv"] + terms["d_magp"])
        with self.watch("generator update"):
            self.g_adam.zero_grad()
            terms["g_adv"] = hinge_generator_loss(discriminator(generated.local_feats, text.sent_emb).cond[0])
            terms["clip_sim"] = cosine_matching_loss(generated.image_emb, text.sent_emb)
            self.update_generator(terms)
        return terms


class PlainEncoderProcedure:
    """One training step of DAMSM as AttnGAN's code takes it."""

    def __init__(self, phase: EncoderPhase, watch: Stopwatch):
        self.towers, self.watch, self.recipe = phase.towers, watch, phase.recipe
        trained = [p for p in self.towers.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(trained, self.recipe.learning_rate, self.recipe.betas, foreach=False)

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of both towers; returns the terms."""
        self.adam.zero_grad()
        with self.watch("image encoder"):
            images = self.towers.image_encoder(batch.images[-1])
        with self.watch("text encoder"):
            text = self.towers.text_encoder(batch.input_ids, batch.attention_mask)
        with self.watch("matching"):
            terms = plain_matching(self.recipe, images, text)
            with self.watch("backward"):
                sum(terms.values()).backward()
        with self.watch("optimisers and average"):
            torch.nn.utils.clip_grad_norm_(self.towers.text_encoder.parameters(), self.recipe.text_grad_clip)
            self.adam.step()
        return {name: term.detach() for name, term in terms.items()}
