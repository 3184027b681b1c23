"""Text-to-image GANs with label-guided supervised contrastive learning. Importing this registers the Auto classes."""

from .models import *  # noqa: F403
from .models import __all__ as _models

__version__ = "0.1.0"
__all__ = [*_models]
