"""The networks. `GANS` is the one table of the GANs: a new one is a file here and a row there."""

from typing import NamedTuple

from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from .attngan import (
    AttnGANConfig,
    AttnGANDiscriminator,
    AttnGANForTextToImage,
    AttnGANGenerator,
    AttnGANScaleDiscriminator,
)
from .base import (
    DiscriminatorOutput,
    GeneratorOutput,
    ImageEmbeddings,
    TextEmbeddings,
    TextToImageModel,
    draw_images,
    sample_noise,
    seeded_generator,
)
from .clip import CLIPImageConfig, CLIPImageEncoder, CLIPPairConfig, CLIPPairModel, CLIPTextEncoder
from .damsm import DAMSMConfig, DAMSMImageConfig, DAMSMImageEncoder, DAMSMModel, DAMSMTextConfig, DAMSMTextEncoder
from .dfgan import DFGANConfig, DFGANDiscriminator, DFGANForTextToImage, DFGANGenerator
from .dmgan import DMGANConfig, DMGANDiscriminator, DMGANForTextToImage, DMGANGenerator, DMGANScaleDiscriminator
from .galip import GALIPConfig, GALIPDiscriminator, GALIPForTextToImage, GALIPGenerator
from .ssagan import SSAGANConfig, SSAGANDiscriminator, SSAGANForTextToImage, SSAGANGenerator


class GAN(NamedTuple):
    """The classes of one GAN, and its name as its authors write it."""

    name: str
    config: type[PreTrainedConfig]
    generator: type[PreTrainedModel]
    discriminator: type[PreTrainedModel]
    composite: type[TextToImageModel]


GANS = {
    "attngan": GAN("AttnGAN", AttnGANConfig, AttnGANGenerator, AttnGANDiscriminator, AttnGANForTextToImage),
    "dfgan": GAN("DF-GAN", DFGANConfig, DFGANGenerator, DFGANDiscriminator, DFGANForTextToImage),
    "dmgan": GAN("DM-GAN", DMGANConfig, DMGANGenerator, DMGANDiscriminator, DMGANForTextToImage),
    "galip": GAN("GALIP", GALIPConfig, GALIPGenerator, GALIPDiscriminator, GALIPForTextToImage),
    "ssagan": GAN("SSA-GAN", SSAGANConfig, SSAGANGenerator, SSAGANDiscriminator, SSAGANForTextToImage),
}

for _gan in GANS.values():
    AutoConfig.register(_gan.config.model_type, _gan.config, exist_ok=True)
    AutoModel.register(_gan.config, _gan.composite, exist_ok=True)
AutoConfig.register(DAMSMConfig.model_type, DAMSMConfig, exist_ok=True)
AutoModel.register(DAMSMConfig, DAMSMModel, exist_ok=True)
AutoConfig.register(CLIPPairConfig.model_type, CLIPPairConfig, exist_ok=True)
AutoModel.register(CLIPPairConfig, CLIPPairModel, exist_ok=True)

__all__ = [
    "AttnGANConfig",
    "AttnGANDiscriminator",
    "AttnGANForTextToImage",
    "AttnGANGenerator",
    "AttnGANScaleDiscriminator",
    "CLIPImageConfig",
    "CLIPImageEncoder",
    "CLIPPairConfig",
    "CLIPPairModel",
    "CLIPTextEncoder",
    "DAMSMConfig",
    "DAMSMImageConfig",
    "DAMSMImageEncoder",
    "DAMSMModel",
    "DAMSMTextConfig",
    "DAMSMTextEncoder",
    "DFGANConfig",
    "DFGANDiscriminator",
    "DFGANForTextToImage",
    "DFGANGenerator",
    "DMGANConfig",
    "DMGANDiscriminator",
    "DMGANForTextToImage",
    "DMGANGenerator",
    "DMGANScaleDiscriminator",
    "DiscriminatorOutput",
    "GALIPConfig",
    "GALIPDiscriminator",
    "GALIPForTextToImage",
    "GALIPGenerator",
    "GAN",
    "GANS",
    "GeneratorOutput",
    "ImageEmbeddings",
    "SSAGANConfig",
    "SSAGANDiscriminator",
    "SSAGANForTextToImage",
    "SSAGANGenerator",
    "TextEmbeddings",
    "TextToImageModel",
    "draw_images",
    "sample_noise",
    "seeded_generator",
]
