"""State dicts that are no published network are refused in words, whatever is wrong with them."""

import pytest
import torch
from golden.weights import Golden

from t2i_supcon.conversion import CONVERSIONS, load_original

CLIP = {"image_config": {"num_attention_heads": 4}, "text_config": {"num_attention_heads": 2}}
NETWORKS = {  # recorded file, prefix of its tensors there, what shapes cannot tell
    ("attngan", "generator"): ("attngan_train_steps", "G/", {}),
    ("attngan", "discriminator128"): ("attngan_train_steps", "D1/", {}),
    ("dmgan", "discriminator64"): ("dmgan_train_steps", "D0/", {}),
    ("ssagan", "generator"): ("ssagan_train_steps", "G/", {}),
    ("ssagan", "discriminator"): ("ssagan_train_steps", "D/", {}),
    ("dfgan", "generator"): ("dfgan_train_steps", "G/", {}),
    ("damsm", "text_encoder"): ("attngan_train_steps", "Etxt/", {}),
    ("damsm", "image_encoder"): ("attngan_train_steps", "Eimg/", {}),
    ("galip", "clip"): ("galip_train_steps", "clip/", CLIP),
}
CHANGES = {
    "a number": lambda tensor: torch.tensor(1.0),
    "one dimension": lambda tensor: torch.ones(3),
    "one dimension more": lambda tensor: tensor[None],
    "nothing": lambda tensor: tensor[:0],
    "other sizes": lambda tensor: torch.ones([7] * tensor.ndim),
}


class Watched(dict):
    """A dict that remembers which keys were asked for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked = set()

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize(("arch", "part"), NETWORKS)
def test_tensors_of_another_rank_or_size_are_refused_in_words(arch, part):
    """Each of those that sizes are read from, in turn."""
    recorded, prefix, known = NETWORKS[arch, part]
    state = Golden(recorded).part(prefix)
    watched = Watched(state)
    CONVERSIONS[arch, part].config(watched, **{name: dict(fields) for name, fields in known.items()})
    assert watched.asked
    for key in watched.asked:
        for name, change in CHANGES.items():
            try:
                load_original(arch, part, state | {key: change(state[key])}, **{k: dict(v) for k, v in known.items()})
            except ValueError as error:
                assert f"{arch} {part}" in str(error) or key in str(error), (key, name)
            else:
                pytest.fail(f"{key} of {name} was loaded")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((30, 8), float("nan")), "embedding.weight holds NaN or infinity"),
        (torch.full((30, 8), -float("inf")), "embedding.weight holds NaN or infinity"),
        (torch.ones(30, 8, dtype=torch.int8), "embedding.weight holds torch.int8, not real numbers"),
        (torch.ones(30, 8, dtype=torch.bool), "embedding.weight holds torch.bool, not real numbers"),
        (torch.ones(30, 8, dtype=torch.complex64), "embedding.weight holds torch.complex64, not real numbers"),
    ],
)
def test_values_that_no_weight_has_are_refused_by_name(value, message):
    state = Golden("attngan_train_steps").part("Etxt/")
    value = value[:1, :1].expand(state["encoder.weight"].shape).clone()
    with pytest.raises(ValueError, match=message):
        load_original("damsm", "text_encoder", state | {"encoder.weight": value})
