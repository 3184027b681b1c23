"""A small diffusers UNet with a training loop of its own, to which label pairs and supervised
contrast are added in the lines marked with (+).

pip install "t2i_supcon[examples]"
python scripts/examples/diffusion.py --steps 5000 --prompt "a red heart" --output drawn.png

The contrast acts on embeddings of the clean picture that the network predicts in each step.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from emoji import SIZE, WORDS, collate, load_emoji, save_grid, words_of
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from t2i_supcon import LabelPairs, SupConGuidance  # (+)

WIDTH = 64


class Embedder(nn.Module):  # (+)
    """Pictures and captions as vectors that the contrast compares."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 128)
        layers = [(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)) for a, b in zip(widths, widths[1:])]
        self.image = nn.Sequential(*sum(layers, ()), nn.Flatten(), nn.Linear(128 * 4 * 4, WIDTH))
        self.text = nn.EmbeddingBag(WORDS, WIDTH)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--weight", type=float, default=0.01, help="of the contrast")
    parser.add_argument("--until", type=int, default=400, help="of 1,000 timesteps, those below are contrasted")
    parser.add_argument("--prompt", default="a red heart")
    parser.add_argument("--output", type=Path, default=Path("drawn.png"))
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    data = load_emoji()
    pairs = LabelPairs(data["label"], batch_size=32)  # (+)
    loader = DataLoader(data, batch_sampler=pairs, collate_fn=collate)  # (+) not shuffle=True, batch_size=32
    guidance, embedder = SupConGuidance(temperature=0.1), Embedder()  # (+)
    unet = UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
    )
    words_table, scheduler = nn.Embedding(WORDS, WIDTH), DDIMScheduler()
    adam = torch.optim.Adam([*unet.parameters(), *words_table.parameters()], 1e-3)
    embedder_adam = torch.optim.Adam(embedder.parameters(), 1e-3)  # (+)
    for step, (real, words, labels) in zip(range(1, options.steps + 1), loader):
        real_contrast = guidance(labels, embedder.image(real), embedder.text(words))  # (+) phase 1: it learns from
        embedder_adam.zero_grad()  # (+) real pictures
        real_contrast.backward()  # (+)
        embedder_adam.step()  # (+)

        noise, times = torch.randn_like(real), torch.randint(1000, (len(real),))
        noisy = scheduler.add_noise(real, noise, times)
        predicted = unet(noisy, times, words_table(words)).sample
        loss = F.mse_loss(predicted, noise)
        alpha = scheduler.alphas_cumprod[times][:, None, None, None]
        clean = (noisy - (1 - alpha).sqrt() * predicted) / alpha.sqrt()  # (+) the picture it believes in
        seen = labels.where(times < options.until, -1)  # (+) beyond, nothing can be seen in it: unlabelled
        contrast = guidance(seen, embedder.image(clean.clamp(-1, 1)), embedder.text(words))  # (+) phase 2
        loss = loss + options.weight * contrast  # (+)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}: loss {loss:.3f}, contrast {real_contrast:.3f} real {contrast:.3f} drawn", flush=True)

    images, condition = torch.randn(8, 3, SIZE, SIZE), words_table(torch.tensor([words_of(options.prompt)] * 8))
    scheduler.set_timesteps(min(50, options.steps))
    with torch.no_grad():
        for time in scheduler.timesteps:
            images = scheduler.step(unet(images, time, condition).sample, time, images).prev_sample
    save_grid(images, options.output)


if __name__ == "__main__":
    main()
