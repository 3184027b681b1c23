"""Evaluation of encoders and of generated pictures."""

from .embedding import embed_images, embed_texts

__all__ = ["embed_images", "embed_texts"]
