"""Evaluation of encoders and of generated pictures."""

from .embedding import EmbeddedImages, embed_images, embed_texts

__all__ = ["EmbeddedImages", "embed_images", "embed_texts"]
