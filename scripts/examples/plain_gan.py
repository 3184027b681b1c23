"""A plain PyTorch GAN with a training loop of its own, to which label pairs and supervised contrast
are added in the lines marked with (+).

python scripts/examples/plain_gan.py --steps 2000 --output drawn.png
"""

import argparse
from pathlib import Path

import torch
from emoji import WORDS, collate, load_emoji, save_grid
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from t2i_supcon import LabelPairs, SupConGuidance  # (+)

NOISE, WIDTH = 16, 64


def up(inputs, outputs):
    return nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, WIDTH)
        self.start = nn.Linear(NOISE + WIDTH, 128 * 4 * 4)
        self.draw = nn.Sequential(up(128, 64), up(64, 32), up(32, 32), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh())

    def forward(self, noise, words):
        return self.draw(self.start(torch.cat([noise, self.words(words)], dim=1)).view(-1, 128, 4, 4))


class Discriminator(nn.Module):
    """Embeds pictures and captions; scores a picture alone, and by its product with its caption."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 128)
        layers = [(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)) for a, b in zip(widths, widths[1:])]
        self.image = nn.Sequential(*sum(layers, ()), nn.Flatten(), nn.Linear(128 * 4 * 4, WIDTH))
        self.words = nn.EmbeddingBag(WORDS, WIDTH)
        self.real = nn.Linear(WIDTH, 1)

    def forward(self, images, words):
        image_emb, text_emb = self.image(images), self.words(words)
        return self.real(image_emb)[:, 0] + (image_emb * text_emb).sum(dim=1) / WIDTH**0.5, image_emb, text_emb


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--weight", type=float, default=0.1, help="of the contrast")
    parser.add_argument("--output", type=Path, default=Path("drawn.png"))
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    data = load_emoji()
    pairs = LabelPairs(data["label"], batch_size=64)  # (+)
    loader = DataLoader(data, batch_sampler=pairs, collate_fn=collate)  # (+) not shuffle=True, batch_size=64
    guidance = SupConGuidance(temperature=0.1)  # (+)
    generator, discriminator = Generator(), Discriminator()
    g_adam = torch.optim.Adam(generator.parameters(), 1e-3, (0.5, 0.99))
    d_adam = torch.optim.Adam(discriminator.parameters(), 5e-4, (0.5, 0.99))
    for step, (real, words, labels) in zip(range(1, options.steps + 1), loader):
        fake = generator(torch.randn(len(real), NOISE), words)
        real_score, *real_embs = discriminator(real, words)
        d_loss = F.softplus(-real_score).mean() + F.softplus(discriminator(fake.detach(), words)[0]).mean()
        d_loss = d_loss + options.weight * guidance(labels, *real_embs)  # (+) real pictures teach the embeddings
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()

        score, image_emb, text_emb = discriminator(fake, words)
        contrast = guidance(labels, image_emb, text_emb)  # (+) and these teach the generator
        g_loss = F.softplus(-score).mean() + options.weight * contrast  # (+)
        g_adam.zero_grad()
        g_loss.backward()
        g_adam.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}: d_loss {d_loss:.3f}, g_loss {g_loss:.3f}, contrast {contrast:.3f}", flush=True)
    save_grid(fake, options.output)


if __name__ == "__main__":
    main()
