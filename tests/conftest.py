"""What several tests share: tiny networks, a tiny dataset on disk, and a Hub on this machine."""

import os
import shutil

from loopback_hub import HUB, HUB_CACHE, LoopbackHub  # before huggingface_hub comes, which then knows no other

# before torch comes, and for the processes that tests start: networks this small run no faster on
# two threads, and ten times slower where something else runs beside them
os.environ["OMP_NUM_THREADS"] = "1"

import gc
import io
import multiprocessing
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm
from transformers import CLIPConfig, CLIPModel

from t2i_supcon.data import build_tokenizer
from t2i_supcon.data.shards import row_features
from t2i_supcon.models import GANS, DAMSMConfig, DAMSMModel

# tqdm's own lock is shared with forked processes, one of which a test may kill while it holds it
os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))
gc.set_threshold(50_000)  # the collector looks less often through the objects of the libraries, a tenth of the time

CAPTIONS = ["a red circle", "a blue square on white", "the green triangle, a small one", "yellow star"]
TINY_TEXT = {"embedding_dim": 7, "hidden_size": 8}
TINY_IMAGE = {"hidden_size": 8, "image_size": 75, "channel_divisor": 16}
TINY_TRANSFORMER = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "projection_dim": 8,
}
TINY_CLIP_TEXT = {
    **TINY_TRANSFORMER,
    "max_position_embeddings": 8,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
TINY_CLIP_IMAGE = {**TINY_TRANSFORMER, "image_size": 16, "patch_size": 4, "feature_layers": [0, 2]}
TINY_STACKED = {
    "image_size": 32,
    "noise_dim": 6,
    "conditioning_dim": 5,
    "generator_channels": 4,
    "discriminator_channels": 4,
    "num_residual_blocks": 1,
}
TINY = {
    "attngan": TINY_STACKED,
    "dmgan": TINY_STACKED,
    "dfgan": {"image_size": 16, "noise_dim": 6, "generator_channels": 4, "discriminator_channels": 4},
    "galip": {
        "image_size": 16,
        "noise_dim": 6,
        "generator_channels": 8,
        "mapper_channels": 16,
        "mapper_blocks": 2,
        "prompt_layers": [1, 2],
        "discriminator_channels": 5,
        "score_channels": 4,
        "image_config": TINY_CLIP_IMAGE,
    },
    "ssagan": {
        "image_size": 16,
        "noise_dim": 6,
        "generator_channels": 4,
        "discriminator_channels": 4,
        "mask_channels": 5,
    },
}
TEXTS = {"galip": TINY_CLIP_TEXT}  # the other GANs read DAMSM's embeddings
SLOWEST = (  # from the slowest on
    "spaces",
    "training/test_emoji_recipes.py",
    "training/test_loop.py",
    "training/test_distributed.py",
    "test_export.py",
    "scripts",
    "training",
    "test_hub.py",
)


def pytest_collection_modifyitems(items):
    """Puts the slowest files first: begun last, one of them would keep a single process busy at the
    end."""

    def place(item) -> int:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        slow = [place for place, name in enumerate(SLOWEST) if file == name or file.startswith(f"{name}/")]
        return min(slow, default=len(SLOWEST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def hub() -> LoopbackHub:
    """An empty Hub, and nothing downloaded from it."""
    HUB.reset()
    shutil.rmtree(HUB_CACHE, ignore_errors=True)
    yield HUB
    HUB.reset()


@pytest.fixture(params=GANS)
def gan_name(request) -> str:
    return request.param


@pytest.fixture
def tokenizer():
    return build_tokenizer(CAPTIONS, max_words=6)


@pytest.fixture
def encoders(tokenizer) -> DAMSMModel:
    return DAMSMModel(
        DAMSMConfig(text_config={**TINY_TEXT, "vocab_size": len(tokenizer)}, image_config=TINY_IMAGE)
    ).eval()


def tiny_text(name: str, vocab_size: int = 20) -> dict:
    return {**TEXTS.get(name, TINY_TEXT), "vocab_size": vocab_size}


def tiny_config(name: str, vocab_size: int = 20):
    return GANS[name].config(**TINY[name], text_config=tiny_text(name, vocab_size))


def picture(seed: int, size: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_dataset(
    folder: Path,
    labels: list[int] | list[list[int]],
    split: str = "train",
    captions: list[list[str]] | None = None,
    images: list[bytes] | None = None,
    row_group: int = 1000,
    boxes: list[list[float] | None] | None = None,
) -> Path:
    """Writes one Parquet shard in the row schema, drawn pictures and all; `labels` of a row are one
    or several, of which the first is `label`."""
    n = len(labels)
    own = [[label] if isinstance(label, int) else label for label in labels]
    names = [f"class {i}" for i in range(max(label for several in own for label in several) + 1)]
    columns = {
        "image": [{"bytes": images[i] if images else encoded(picture(i)), "path": None} for i in range(n)],
        "captions": captions or [[CAPTIONS[i % len(CAPTIONS)], CAPTIONS[(i + 1) % len(CAPTIONS)]] for i in range(n)],
        "label": [several[0] if several else -1 for several in own],
        "labels": own,
        "bbox": boxes or [None] * n,
        "image_id": [f"{split}-{i}" for i in range(n)],
        "source": ["drawn"] * n,
    }
    folder.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=row_features(names)).to_parquet(
        folder / f"{split}-00000-of-00001.parquet", batch_size=row_group
    )
    return folder


def write_tiny_data(folder: Path) -> Path:
    """24 training and 100 test rows in 3 classes."""
    write_dataset(folder, [i % 3 for i in range(24)])
    return write_dataset(folder, [i % 3 for i in range(100)], "test")


@pytest.fixture
def tiny_data(tmp_path) -> Path:
    return write_tiny_data(tmp_path / "data")


@contextmanager
def full_disk(room):
    """No file may grow beyond `room` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def in_processes(number: int, function, folder: Path) -> list:
    """What `function(index)` returns in each of several processes that `torch.distributed`
    connects; they are forked, so that none has to import anything."""

    def run(index):
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder / 'meeting'}", rank=index, world_size=number
        )
        torch.save(function(index), folder / f"{index}.pt")
        torch.distributed.barrier()

    processes = [multiprocessing.get_context("fork").Process(target=run, args=(index,)) for index in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * number
    return [torch.load(folder / f"{index}.pt") for index in range(number)]


def states_equal(a, b) -> bool:
    """Whether nested dicts and lists of tensors and plain values are the same, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(states_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(states_equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def foreign_clip(blocks: int = 9) -> CLIPModel:
    """A CLIP as transformers makes it; 9 blocks are enough for GALIP's features."""
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": blocks, "num_attention_heads": 2}
    text = {
        **sizes,
        "vocab_size": 30,
        "max_position_embeddings": 12,
        "eos_token_id": 29,
        "pad_token_id": 0,
        "bos_token_id": 28,
    }
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 4}, projection_dim=6)
    ).eval()
