"""Phase 1: image and text encoder learn one space, by matching and, with label pairs, by supervised
contrast."""

import math
from collections.abc import Iterator
from pathlib import Path

import datasets
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..conversion import load_encoders, load_inception_weights
from ..data import (
    Batch,
    EvaluationRows,
    build_tokenizer,
    evenly_spaced,
    extend_vocabulary,
    save_tokenizer,
    to_pil,
)
from ..data.word_vectors import WordVectors, read_word_vectors
from ..evaluation import EmbeddedImages, embed_images, embed_texts
from ..figures import image_strip
from ..metrics import retrieval_recall
from ..models import CLIPPairConfig, CLIPPairModel, DAMSMConfig, DAMSMModel
from ..models.architecture import architecture
from .checkpoint import restore_module
from .data import evaluation_rows
from .distributed import pad_captions, prepare_network
from .guidance import Guidance
from .networks import build_network
from .optimisation import check_micro_batches, rate_factor, set_rates, take_step, term_weights, weighted_sum
from .phase import StepResult, mean_result
from .recipe import EncoderRecipe, build_model_config, check_architecture

ENCODERS = {"damsm": (DAMSMConfig, DAMSMModel), "clip": (CLIPPairConfig, CLIPPairModel)}
MAX_LOGIT_SCALE = math.log(100)  # CLIP's bound of its contrastive loss's scale (arXiv 2103.00020, section 2.5)


class EncoderPhase:
    """Trains a `DAMSMModel` or a `CLIPPairModel`; see `Phase` for its methods.

    Args:
        recipe: of phase 1.
        accelerator: prepares and steps the model.
        model: both towers.
        tokenizer: of the text tower.
        evaluation: held-out rows.
        num_classes: of the training rows' labels.
    """

    def __init__(
        self,
        recipe: EncoderRecipe,
        accelerator: Accelerator,
        model: DAMSMModel | CLIPPairModel,
        tokenizer: PreTrainedTokenizerFast | None = None,
        evaluation: EvaluationRows | None = None,
        num_classes: int | None = None,
    ):
        self.recipe = recipe
        self.accelerator = accelerator
        self.tokenizer = tokenizer
        self.evaluation = evaluation
        self.reference = None  # retrieval needs no training images
        self.image_sizes = (recipe.image_size,)
        self.step = 0
        self._held_out: tuple[EmbeddedImages, Tensor] | None = None
        if recipe.channels_last:
            model.image_encoder.to(memory_format=torch.channels_last)
        model.image_encoder.trunk.requires_grad_(recipe.train_trunk)
        learns_scale = hasattr(model, "logit_scale")
        self.guidance = Guidance.from_recipe(recipe, model.image_encoder, num_classes, accelerator.device, learns_scale)
        trained = [p for p in (*model.parameters(), *self.guidance.parameters()) if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
        self.model, self.optimizer = (
            prepare_network(model, accelerator, recipe.sync_batch_norm),
            accelerator.prepare(optimizer),
        )
        self._train_mode()
        if recipe.compile:
            self.towers.image_encoder.compile()

    @classmethod
    def from_recipe(
        cls, recipe: EncoderRecipe, accelerator: Accelerator, rows: datasets.Dataset, held_out: datasets.Dataset
    ) -> "EncoderPhase":
        """Builds new towers and their tokenizer for the training rows, or loads those the recipe
        names.

        Raises:
            ValueError: an architecture key the config does not know or that the captions decide, or
                encoders of another kind.
        """
        if recipe.init_from is None:
            model, tokenizer = new_encoders(recipe, rows)
        else:
            model, tokenizer = load_encoders(recipe.init_from, recipe.data.max_words)
            needed = ENCODERS[recipe.model][1]
            if not isinstance(model, needed):
                raise ValueError(
                    f"init_from {recipe.init_from!r}: model {recipe.model!r} is a {needed.__name__}, "
                    f"found a {type(model).__name__}"
                )
            tokenizer = extend_vocabulary(tokenizer, captions_of(rows))
            grow_vocabulary(model, len(tokenizer))
        evaluation = evaluation_rows(
            recipe, held_out, recipe.data.test_split, tokenizer, recipe.image_size, recipe.eval_rows
        )
        return cls(recipe, accelerator, model, tokenizer, evaluation, rows.features["label"].num_classes)

    def train_step(self, *micro_batches: Batch) -> StepResult:
        """One update by the mean gradient of the micro-batches.

        Raises:
            FloatingPointError: a term or a gradient is not finite; nothing has been updated.
            ValueError: another number of batches than `gradient_accumulation` says.
        """
        recipe = self.recipe
        check_micro_batches(micro_batches, self.accelerator)
        self._held_out = None
        set_rates(self.optimizer, recipe.learning_rate * rate_factor(recipe, self.step), recipe.betas)
        self.optimizer.zero_grad()
        result = mean_result([self._backward(pad_captions(batch)) for batch in micro_batches])
        trained = (*self.towers.parameters(), *self.guidance.parameters())
        bounds = [(self.towers.text_encoder.parameters(), recipe.text_grad_clip), (trained, recipe.max_grad_norm)]
        result = take_step(self.accelerator, self.optimizer, result, "encoders", self.step, bounds)
        if self._logit_scale is not None:
            self._logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
        self.step += 1
        if recipe.reset_adam_every and self.step % recipe.reset_adam_every == 0:
            self.optimizer.state.clear()
        return result

    def _backward(self, batch: Batch) -> StepResult:
        """Adds the gradients of one micro-batch."""
        text, images = self.model(batch.input_ids, batch.attention_mask, batch.images[-1])
        scale = None if self._logit_scale is None else self._logit_scale.exp()
        guidance = self.guidance(images, text, batch.labels, batch.num_views, scale)
        self.accelerator.backward(weighted_sum(guidance.terms, term_weights(self.recipe, self.step)))
        return StepResult(guidance.terms, guidance.statistics)

    @property
    def _logit_scale(self) -> nn.Parameter | None:
        """The logarithm of what CLIP multiplies its cosines with; DAMSM has none."""
        return getattr(self.towers, "logit_scale", None)

    def _train_mode(self) -> None:
        self.towers.train()
        self.towers.image_encoder.trunk.train(self.recipe.trunk_batch_norm == "train")

    @property
    def towers(self) -> DAMSMModel | CLIPPairModel:
        """The model without its wrappers."""
        return self.accelerator.unwrap_model(self.model)

    def evaluate(self) -> dict[str, float]:
        """Text-to-image retrieval among 100 held-out images, or as many as there are."""
        images, texts = self._embed_held_out()
        return retrieval_recall(texts, images.image_emb)

    def report(self, first: dict[str, float], last: dict[str, float]) -> str:
        """The evaluation in words and numbers."""
        pool = last.get("pool", 100)
        lines = [
            f"text-to-image retrieval among {pool:.0f} held-out images",
            f"{'':12}{'untrained':>10}{'trained':>10}{'chance':>10}",
        ]
        for k in (1, 10):
            name = f"recall@{k}"
            lines.append(f"{f'R@{k}':12}{first[name]:>10.1%}{last[name]:>10.1%}{min(k, pool - 1) / pool:>10.1%}")
        return "\n".join(lines)

    def samples(self) -> tuple[list[Image.Image], list[str]]:
        """For eight held-out captions, the five images found first, best on the left."""
        images, texts = self._embed_held_out()
        chosen = evenly_spaced(len(texts), 8)
        similarity = F.normalize(texts[chosen], dim=-1) @ F.normalize(images.image_emb, dim=-1).T
        found = similarity.topk(min(5, len(texts))).indices.tolist()
        strips = [image_strip([to_pil(self.evaluation[images.indices[i]]) for i in ranked]) for ranked in found]
        return strips, [images.captions[i] for i in chosen]

    def _embed_held_out(self) -> tuple[EmbeddedImages, Tensor]:
        """Images and texts of all held-out rows, computed once between two steps."""
        if self._held_out is not None:
            return self._held_out
        towers, device = self.towers.eval(), self.accelerator.device
        images = embed_images(towers.image_encoder, self.evaluation, device)
        texts = embed_texts(towers.text_encoder, self.tokenizer, images.captions, device)
        self._train_mode()
        self._held_out = images, texts
        return images, texts

    def save_pretrained(self, folder: Path) -> None:
        """Writes both towers and the tokenizer."""
        self.towers.save_pretrained(folder)
        save_tokenizer(self.tokenizer, folder)

    def networks(self) -> dict[str, nn.Module]:
        """What is trained."""
        towers = {"text_encoder": self.towers.text_encoder, "image_encoder": self.towers.image_encoder}
        return towers | ({"guidance": self.guidance} if self.guidance.heads else {})

    def frozen_networks(self) -> dict[str, nn.Module]:
        """What is used as it is."""
        return {}

    def state_dict(self) -> dict:
        return {
            "step": self.step,
            "architecture": architecture(self.towers.config),
            "model": self.towers.state_dict(),
            "guidance": self.guidance.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self._held_out = None
        restore_module(self.towers, state["model"], "model")
        check_architecture(architecture(self.towers.config), state.get("architecture", {}))
        restore_module(self.guidance, state["guidance"], "guidance")
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def captions_of(rows: datasets.Dataset) -> Iterator[str]:
    """All captions of the rows."""
    return (caption or "" for captions in rows["captions"] for caption in captions or ())


@torch.no_grad()
def grow_vocabulary(model: DAMSMModel | CLIPPairModel, size: int) -> None:
    """Gives the text tower vectors for as many tokens as `size` says, where it has fewer: new ones
    are drawn from the normal distribution that each value of the known ones has."""
    known = model.get_input_embeddings().weight  # (V, E)
    if size <= len(known):
        return
    new = torch.normal(known.mean(dim=0).expand(size - len(known), -1), known.std(dim=0).expand(size - len(known), -1))
    model.set_input_embeddings(nn.Embedding.from_pretrained(torch.cat([known, new]), freeze=False))
    model.config.text_config.vocab_size = model.text_encoder.config.vocab_size = size


def new_encoders(recipe: EncoderRecipe, rows: datasets.Dataset) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Makes both towers and a tokenizer that knows the words of the training captions.

    Raises:
        ValueError: an architecture key the config does not know, or one that the captions decide.
    """
    text_config = dict(recipe.model_config.get("text_config", {}))
    vectors = None if recipe.word_vectors is None else read_word_vectors(recipe.word_vectors)
    words = () if vectors is None else vectors.words
    tokenizer = build_tokenizer(captions_of(rows), recipe.data.max_words, words)
    decided = {"vocab_size": len(tokenizer)}
    if recipe.model == "clip":
        padding = tokenizer.pad_token_id
        decided |= {
            "max_position_embeddings": recipe.data.max_words,
            "pad_token_id": padding,
            "bos_token_id": padding,
            "eos_token_id": padding,
        }
    for key in decided:
        if key in text_config:
            raise ValueError(
                f"model_config.text_config.{key} is set by the captions of the data; remove it from the recipe"
            )
    config_class, model_class = ENCODERS[recipe.model]
    values = {**recipe.model_config, "text_config": text_config | decided}
    model = build_network(model_class, build_model_config(config_class, values))
    if recipe.inception_weights is not None:
        load_inception_weights(model.image_encoder.trunk, recipe.inception_weights)
    if vectors is not None:
        give_word_vectors(model.get_input_embeddings(), tokenizer, vectors)
    return model, tokenizer


@torch.no_grad()
def give_word_vectors(embedding: nn.Embedding, tokenizer: PreTrainedTokenizerFast, vectors: WordVectors) -> None:
    """Gives the tokenizer's words their vectors, which training leaves as they are: were those of
    the captions' words trained, the others would not be like them any more.

    Raises:
        ValueError: vectors of another width than the embedding's.
    """
    if vectors.vectors.shape[1] != embedding.embedding_dim:
        raise ValueError(
            f"the vectors of word_vectors are {vectors.vectors.shape[1]} wide, and the text encoder's words "
            f"{embedding.embedding_dim}: make both equal"
        )
    ids = torch.tensor(tokenizer(list(vectors.words), add_special_tokens=False)["input_ids"]).flatten()
    embedding.weight[ids] = vectors.vectors
    given = torch.zeros(len(embedding.weight), 1, dtype=torch.bool)
    given[ids] = True
    embedding.weight.register_hook(lambda grad: grad.masked_fill(given.to(grad.device), 0))
