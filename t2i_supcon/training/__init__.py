"""Training of both phases."""

from .encoder_phase import EncoderPhase
from .gan_phase import GANPhase
from .gradients import show_gradients
from .recipe import EncoderRecipe, GANRecipe, load_recipe
from .train import train

__all__ = ["EncoderPhase", "EncoderRecipe", "GANPhase", "GANRecipe", "load_recipe", "show_gradients", "train"]
