"""The "text-to-image" pipeline: sentences in, PIL images out."""

import torch
from PIL import Image
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .data import encode_prompts, to_pil


class TextToImagePipeline(Pipeline):
    """Draws pictures with any `...ForTextToImage` model and its tokenizer.

        import t2i_supcon
        from transformers import pipeline
        draw = pipeline("text-to-image", model="runs/ssagan-emoji/model")
        draw("a red heart", num_images_per_prompt=4, seed=0)

    A prompt gives a list of N images; a list of prompts gives a list of such lists. The same seed
    draws the same pictures. Word attention and masks come from `draw.model.generate(...,
    output_attentions=True)`.

    Call arguments:
        num_images_per_prompt: N, 1 when absent.
        seed: of the noise; another picture at each call when absent.
        truncation: keeps noise values within this bound.
    """

    _load_processor = _load_image_processor = _load_feature_extractor = False
    _load_tokenizer = True

    def _sanitize_parameters(self, num_images_per_prompt=None, seed=None, truncation=None):
        given = {"num_images_per_prompt": num_images_per_prompt, "seed": seed, "truncation": truncation}
        return {}, {name: value for name, value in given.items() if value is not None}, {}

    def preprocess(self, prompt: str) -> dict:
        return dict(encode_prompts(self.tokenizer, [prompt]))

    def _forward(
        self, inputs: dict, num_images_per_prompt: int = 1, seed: int | None = None, truncation: float | None = None
    ) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        output = self.model.generate(
            **inputs, num_images_per_prompt=num_images_per_prompt, generator=generator, truncation=truncation
        )
        return {"images": output.images[-1]}

    def postprocess(self, outputs: dict) -> list[Image.Image]:
        return [to_pil(image) for image in outputs["images"]]


PIPELINE_REGISTRY.register_pipeline(
    "text-to-image", pipeline_class=TextToImagePipeline, pt_model=AutoModel, type="multimodal"
)
