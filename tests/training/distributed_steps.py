"""Training steps on a batch of eight rows, by one process or, started with torchrun, by several
that share the rows.

Each case gives tensors that must not depend on the number of processes. Random draws are those of
the whole batch, of which each process takes its own rows; dropout and augmentation, whose draws
cannot be shared, are off. Everything else is as in training, BatchNorm included.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import Accelerator
from conftest import TINY, TINY_CLIP_IMAGE, TINY_CLIP_TEXT, TINY_IMAGE, TINY_TEXT, tiny_config, tiny_text

from t2i_supcon.data import Batch
from t2i_supcon.models import GANS, CLIPPairConfig, CLIPPairModel, DAMSMConfig, DAMSMModel
from t2i_supcon.processes import num_processes, process_index
from t2i_supcon.training import EncoderPhase, GANPhase, train
from t2i_supcon.training.recipe import parse_recipe

ROWS = 8
MATCHING = {"words": 0.1, "sent": 0.1, "supcon": 0.1}
HINGE = {"d_adv": 1, "d_magp": 1, "g_adv": 1}
GAN_CASES = {
    "attngan": {"loss_weights": {"d_adv": 1, "g_adv": 1, "g_kl": 1, **MATCHING}},
    "attngan-accumulated": {
        "loss_weights": {"d_adv": 1, "g_adv": 1, "g_kl": 1, **MATCHING},
        "wrong_captions": "rotated",
    },
    "attngan-r1": {"loss_weights": {"d_adv": 1, "d_r1": 1, "g_adv": 1}, "r1_every": 2},
    "dmgan": {"loss_weights": {"d_adv": 1, "g_adv": 1, "g_kl": 1, **MATCHING}},
    "ssagan": {"loss_weights": HINGE | MATCHING, "magp_step": "separate", "ema_decay": 0.5},
    "ssagan-joint": {
        "loss_weights": HINGE | MATCHING,
        "magp_step": "joint",
        "max_grad_norm": 0.5,
        "sampling": "independent",
    },
    "galip": {
        "loss_weights": HINGE | {"clip_sim": 4, "supcon": 0.1},
        "magp_step": "joint",
        "wrong_captions": "rotated",
    },
}
ENCODER_CASES = {
    "damsm": {"loss_weights": {"words": 1, "sent": 1, "supcon": 0.5}, "text_grad_clip": 0.25},
    "damsm-jaccard": {
        "loss_weights": {"words": 1, "supcon": 0.5},
        "positives": "jaccard",
        "mask_shared_labels": False,
        "train_trunk": False,
    },
    "clip": {"loss_weights": {"clip": 1, "supcon": 0.5}},
}


def own_rows(num_views: int) -> list[int]:
    """Rows of the whole batch that this process has: within each view the processes follow each
    other."""
    view, share = ROWS // num_views, ROWS // num_views // num_processes()
    return [v * view + process_index() * share + i for v in range(num_views) for i in range(share)]


def make_batch(sizes: tuple[int, ...], num_views: int, seed: int = 1, multi_hot: bool = False) -> Batch:
    """This process's part of a batch; its captions are cut to the longest of their own."""
    source = torch.Generator().manual_seed(seed)
    # the longest of process 0 of 2 has 3 words, in either number of views
    lengths = torch.tensor([2, 3, 5, 4, 3, 1, 5, 2])
    lengths = lengths if num_views == 2 else lengths.sort().values
    mask = (torch.arange(5)[None] < lengths[:, None]).long()
    ids = torch.randint(1, 14, (ROWS, 5), generator=source) * mask
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])
    if multi_hot:
        labels = torch.nn.functional.one_hot(labels, 4) | torch.nn.functional.one_hot(labels.roll(1), 4)
    images = tuple(torch.rand(ROWS, 3, size, size, generator=source) * 2 - 1 for size in sizes)
    rows = own_rows(num_views)
    longest = int(lengths[rows].max())
    return Batch(
        tuple(i[rows] for i in images),
        ids[rows, :longest],
        mask[rows, :longest],
        labels[rows],
        ("",) * len(rows),
        num_views,
    )


class SharedNoise(GANPhase):
    """Each process takes its rows of noise drawn for the whole batch."""

    def _embed_captions(self, batch):
        micro = super()._embed_captions(batch)
        source, rows = torch.Generator().manual_seed(3), own_rows(batch.num_views)
        noise, conditioning_noise = (
            torch.randn(ROWS, width, generator=source)[rows] for width in (self.config.noise_dim, self.conditioning_dim)
        )
        noise, conditioning_noise = (n.to(micro.text.sent_emb.dtype) for n in (noise, conditioning_noise))
        return replace(micro, noise=noise, conditioning_noise=conditioning_noise if self.conditioning_dim else None)


def tiny_damsm() -> DAMSMModel:
    return DAMSMModel(DAMSMConfig(text_config={**TINY_TEXT, "vocab_size": 20, "dropout": 0.0}, image_config=TINY_IMAGE))


def tiny_clip() -> CLIPPairModel:
    return CLIPPairModel(CLIPPairConfig(text_config={**TINY_CLIP_TEXT, "vocab_size": 20}, image_config=TINY_CLIP_IMAGE))


def in_double(case: str) -> bool:
    """Where BatchNorm over the few pixels of an untrained network turns rounding of 1e-7 into 1e-3;
    the matching-aware penalty is tried in float32."""
    return "d_magp" not in GAN_CASES[case]["loss_weights"]


def gan_phase(case: str) -> SharedNoise:
    name, values = case.split("-")[0], GAN_CASES[case]
    torch.manual_seed(0)
    config = tiny_config(name)
    encoders = tiny_clip() if name == "galip" else tiny_damsm()
    with torch.no_grad():  # else zero at the start, where they hide what is behind them
        networks = [make(config) for make in (GANS[name].generator, GANS[name].discriminator)]
        for network in networks:
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(0, 0.1)
    if in_double(case):
        for network in (*networks, encoders):
            network.double()
    # Adam's first step is a sign: keep rounding out of the next player
    rates = {"generator_learning_rate": 1e-6, "discriminator_learning_rate": 1e-6}
    recipe = parse_recipe({"phase": "gan", "model": name, "encoders": "given", "batch_size": ROWS, **rates, **values})
    accelerator = Accelerator(gradient_accumulation_steps=2 if case.endswith("accumulated") else 1)
    assert config.text_config.to_dict() == type(config.text_config)(**tiny_text(name)).to_dict()
    return SharedNoise(recipe, accelerator, *networks, encoders.text_encoder, encoders.image_encoder)


def run_gan(case: str) -> dict[str, torch.Tensor]:
    phase = gan_phase(case)
    views = 1 if phase.recipe.sampling == "independent" else 2
    batches = [
        make_batch(phase.image_sizes, views, seed) for seed in range(phase.accelerator.gradient_accumulation_steps)
    ]
    if in_double(case):
        batches = [replace(batch, images=tuple(image.double() for image in batch.images)) for batch in batches]
    # as several processes exchange them
    values = {name: value.float() for name, value in phase.train_step(*batches).by_log_name().items()}
    for name, network in phase.networks().items():
        values |= results_of(network, name)
    return values


def run_encoders(case: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = tiny_clip() if case == "clip" else tiny_damsm()
    values = {
        "phase": "encoders",
        "model": case.split("-")[0],
        "batch_size": ROWS,
        "image_size": 16,
        "text_grad_clip": None,
    }
    phase = EncoderPhase(parse_recipe(values | ENCODER_CASES[case]), Accelerator(), model.double())
    batch = make_batch((16,), 2, multi_hot=case.endswith("jaccard"))
    # an untrained Inception on so few pixels turns rounding of 1e-7 into 1e-1
    batch = replace(batch, images=(batch.images[0].double(),))
    values = {name: value.float() for name, value in phase.train_step(batch).by_log_name().items()}
    return values | results_of(phase.towers, "model")


def results_of(network: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    gradients = {
        f"{name}.{key}.grad": parameter.grad
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return gradients | {f"{name}.{key}": buffer.detach().clone() for key, buffer in network.named_buffers()}


def error_of(act) -> str:
    try:
        act()
    except (ValueError, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def unequal_batches() -> str:
    batch = make_batch((16,), 1)
    rows = slice(0, len(batch) - process_index())
    cut = replace(
        batch,
        images=(batch.images[0][rows],),
        input_ids=batch.input_ids[rows],
        attention_mask=batch.attention_mask[rows],
    )
    return error_of(lambda: gan_phase("ssagan-joint").train_step(replace(cut, labels=batch.labels[rows])))


def diverged_in_one() -> str:
    """The last process alone reads an image that is no number."""
    batch = make_batch((16,), 2)
    if process_index() == num_processes() - 1:
        batch.images[0][-1] = float("nan")
    return error_of(lambda: gan_phase("ssagan").train_step(batch))


def run_all() -> dict:
    results = {case: run_gan(case) for case in GAN_CASES} | {case: run_encoders(case) for case in ENCODER_CASES}
    return results | {"diverged": diverged_in_one()}


def run_training(data: Path, folder: Path) -> None:
    """Both phases from data to saved model, two micro-batches a step, each at once and again in two
    parts; the first reads a stream."""
    every = {
        "data": {"name": str(data)},
        "batch_size": 4,
        "gradient_accumulation": 2,
        "steps": 4,
        "eval_rows": 100,
        "eval_every": 4,
        "sample_every": 4,
        "checkpoint_every": 2,
        "log_every": 1,
    }
    encoders = {
        "phase": "encoders",
        "model_config": {"text_config": TINY_TEXT, "image_config": TINY_IMAGE},
        "image_size": 16,
    }
    encoders |= {"loss_weights": {"words": 1, "sent": 1, "supcon": 1}, "data": {"name": str(data), "streaming": True}}
    gan = {
        "phase": "gan",
        "model": "ssagan",
        "encoders": str(folder / "encoders-whole" / "model"),
        "model_config": TINY["ssagan"],
    }
    gan |= {"loss_weights": HINGE | MATCHING, "augmentation": ["translation"], "ema_decay": 0.5}
    for values in (encoders, gan):
        for run, max_steps, resume in (("whole", None, False), ("parts", 2, False), ("parts", None, True)):
            train(parse_recipe(every | values), folder / f"{values['phase']}-{run}", resume, max_steps=max_steps)
            Accelerator().wait_for_everyone()


if __name__ == "__main__":
    accelerator = Accelerator()
    assert num_processes() == 2 and accelerator.num_processes == 2
    folder = Path(sys.argv[1])
    results = run_all() | {"unequal": unequal_batches()}
    torch.save(results, folder / f"process-{process_index()}.pt")
    run_training(folder / "data", folder)
    accelerator.end_training()
