"""AttnGAN at the published sizes (its numbers are checked in test_stacked.py)."""

import torch

from t2i_supcon.models import AttnGANConfig, AttnGANDiscriminator, AttnGANGenerator


def test_published_sizes_have_the_published_parameter_counts():
    coco = AttnGANConfig(generator_channels=48, discriminator_channels=96, num_residual_blocks=3)
    with torch.device("meta"):
        bird = AttnGANGenerator(AttnGANConfig()), AttnGANDiscriminator(AttnGANConfig())
        coco = AttnGANGenerator(coco), AttnGANDiscriminator(coco)
    expected = {
        bird: (7_084_592, [6_313_730, 19_424_002, 71_858_946]),
        coco: (13_811_456, [13_304_450, 42_800_258, 160_774_274]),
    }
    for (generator, discriminator), (drawing, judging) in expected.items():
        assert sum(p.numel() for p in generator.parameters()) == drawing
        assert [sum(p.numel() for p in scale.parameters()) for scale in discriminator.scales] == judging
