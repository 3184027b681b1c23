"""How far generated images are from real ones of the same captions, pixel by pixel."""

from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def pixel_loss(generated: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference, as image-to-image GANs use it beside the adversarial loss (Isola et
    al., arXiv 1611.07004, eq. 3).

    Args:
        generated, real: (B, 3, S, S) in [-1, 1].

    Returns:
        Scalar, from 0 to 2.

    Raises:
        ValueError: images of different shapes.
    """
    if generated.shape != real.shape:
        raise ValueError(f"generated images have shape {tuple(generated.shape)}, real ones {tuple(real.shape)}")
    return F.l1_loss(generated, real)
