"""Judging a generator while it trains, by a network that takes no part in it."""

from collections.abc import Mapping, Sequence

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import Rows
from ..figures import YARDSTICKS
from ..identity import content_hash
from ..metrics.features import feature_network
from .evaluate import check_pictures, embed, launched_state, real_references, with_sentences
from .measures import MEASURES, numbers_of
from .pictures import DrawnPictures, choose_prompts


class GeneratorMonitor:
    """Measures the pictures of a generator, always of the same captions and noise.

    Several processes draw a share of the pictures each, and all find the same numbers. No random
    state but its own is touched.

    Args:
        features: a feature network, by name.
        names: of `MEASURES`.
        images: how many pictures are drawn; the first captions of held-out rows, evenly spaced.
        held_out, training: rows with random access.
        tokenizer: of the text encoder.
        image_size: side of the pictures in pixels.
        groups: the coarser group of each label name, for `label_accuracy`.
        max_broken_share: of held-out and of training rows; see `RealPictures`.

    Raises:
        ValueError, OSError: something that cannot be measured, or weights that are not there.
    """

    def __init__(
        self,
        features: str,
        names: Sequence[str],
        images: int,
        held_out: Rows,
        training: Rows,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        groups: Mapping[str, str] | None = None,
        max_broken_share: float = 0.0,
    ):
        device = launched_state().device
        self.names = names
        self.network = feature_network(features).to(device)
        self.tokenizer = tokenizer
        self.prompts = choose_prompts(held_out, "first", images, 0, tokenizer)
        check_pictures(names, self.network, self.prompts, held_out, training)
        hashes = content_hash(held_out), content_hash(training)
        self.references = real_references(
            self.network, held_out, training, hashes, names, image_size, groups, max_broken_share=max_broken_share
        )
        self.yardstick = {}
        for name in names:
            end = "_held_out_images" if MEASURES[name].judged_by_training else "_training_images"
            real = self.references.yardstick([name], len(self.prompts))
            self.yardstick |= {f"{key}{end}": value for key, value in real.items()}

    def measure(self, text_encoder: PreTrainedModel, generator: nn.Module, batch_size: int = 64) -> dict[str, float]:
        """Numbers of the generator's pictures by name, and beside each those of real ones:
        `..._training_images`, or, where the judge may know the training images by heart,
        `..._held_out_images`."""
        pictures = DrawnPictures(text_encoder, generator, self.tokenizer, self.prompts, seed=0)
        judged = embed(self.network.features_and_logits, pictures, batch_size, None)
        if any("sentences" in MEASURES[name].needs for name in self.names):
            judged = with_sentences(judged, self.network, [prompt.caption for prompt in self.prompts])
        numbers = self.references.measure(self.names, judged) | self.yardstick
        return {name: float(value) for name, value in numbers.items()}

    def report(self, first: Mapping[str, float], last: Mapping[str, float]) -> list[str]:
        """Two measurements in words and numbers, line by line."""
        lines = [
            f"{len(self.prompts)} pictures of held-out captions in {self.network.name} features, which took no part"
        ]
        for name in numbers_of(self.names):
            real = {what: last.get(f"{name}{end}") for end, what in YARDSTICKS.items()}
            known = [f"{what} {value:.4g}" for what, value in real.items() if value is not None]
            if name in first:
                numbers = [f"untrained {first[name]:.4g}", f"trained {last[name]:.4g}", *known]
                lines.append(f"  {name:20} {'   '.join(numbers)}")
        return lines
