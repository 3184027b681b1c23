"""Noise, seeds, and what drawing refuses."""

import pytest
import torch
from conftest import tiny_config
from models.test_contract import IDS, MASK, build

from t2i_supcon.models import sample_noise, seeded_generator


@pytest.mark.parametrize("bound", [1e-300, 0.01, 0.7, 3.0, 40.0])
def test_truncated_noise_is_the_normal_distribution_cut_off(bound):
    from scipy import stats

    config = tiny_config("ssagan")
    noise, none = sample_noise(config, 1000, seeded_generator(0), bound)
    assert none is None and noise.abs().max() <= bound
    cut_off = stats.truncnorm(-1, 1) if bound == 1e-300 else stats.truncnorm(-bound, bound)
    if bound != 1e-300:  # below float32's smallest number
        assert stats.kstest(noise.flatten().numpy(), cut_off.cdf).pvalue > 0.01


def test_noise_of_the_first_images_does_not_depend_on_how_many_follow():
    config = tiny_config("attngan")
    noise, conditioning_noise = sample_noise(config, 5, seeded_generator(3))
    assert noise.shape == (5, config.noise_dim) and conditioning_noise.shape == (5, config.conditioning_dim)
    for truncation in (None, 0.5):
        few, many = (sample_noise(config, n, seeded_generator(3), truncation) for n in (2, 5))
        assert all(torch.equal(*pair) for pair in zip(few, (part[:2] for part in many), strict=True))
    assert len(noise.unique(dim=0)) == 5


def test_a_seed_draws_the_same_noise_whatever_torch_takes_by_default():
    config = tiny_config("ssagan")
    single = sample_noise(config, 2, seeded_generator(3))[0]
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(sample_noise(config, 2, seeded_generator(3))[0], single)
    finally:
        torch.set_default_dtype(torch.float32)


BAD_ARGUMENTS = {
    "truncation is -1": {"truncation": -1},
    "truncation is 0": {"truncation": 0},
    "truncation is nan": {"truncation": float("nan")},
    "truncation is inf": {"truncation": float("inf")},
    r"noise has shape \(3, .* need \(2, ": {"noise": torch.randn(3, 6)},
    r"noise is a torch.int64; it must be a tensor of real": {"noise": torch.ones(2, 6, dtype=torch.long)},
    "noise is a list; it must be a tensor of real": {"noise": [[0.0] * 6] * 2},
    "noise holds NaN or infinity": {"noise": torch.full((2, 6), float("nan"))},
    "attention_mask is a list; it must be a tensor": {"attention_mask": [[1, 1, 1]] * 2},
    "generator is a str; it must be a torch.Generator": {"generator": "01"},
    "num_images_per_prompt is 0;": {"num_images_per_prompt": 0},
    "num_images_per_prompt is -1;": {"num_images_per_prompt": -1},
    "num_images_per_prompt is 1000000000;": {"num_images_per_prompt": 10**9},
    r"num_images_per_prompt is 2\^": {"num_images_per_prompt": 10**5000},
    "num_images_per_prompt is 1.5; it must be a whole number": {"num_images_per_prompt": 1.5},
    "num_images_per_prompt is True; it must be a whole number": {"num_images_per_prompt": True},
    "there are 3 generators for 2 prompts": {"generator": [torch.Generator()] * 3},
    "input_ids go from 0 to 20; the text encoder knows ids from 0 to 19": {"input_ids": torch.tensor([[0, 20]])},
    "input_ids go from -1 to 3": {"input_ids": torch.tensor([[3, -1]])},
    "input_ids are torch.float32": {"input_ids": torch.ones(2, 3)},
    r"input_ids are \(3,\)": {"input_ids": torch.ones(3, dtype=torch.long)},
    r"input_ids are \(0, 3\)": {"input_ids": torch.ones(0, 3, dtype=torch.long)},
    "input_ids are list": {"input_ids": [[3, 4]]},
    r"attention_mask has shape \(2, 2\); input_ids have \(2, 3\)": {"attention_mask": MASK[:, :2]},
    "attention_mask holds something other": {"attention_mask": 2 * MASK},
    "attention_mask holds something": {"attention_mask": 0.5 * MASK},
    "row of attention_mask must start with a real token": {"attention_mask": MASK.flip(1)},
    "every row of attention_mask must": {"attention_mask": 0 * MASK},
}


@pytest.mark.parametrize("message", BAD_ARGUMENTS)
def test_bad_arguments_of_generate_are_one_clear_error(message):
    _, _, model = build("ssagan")
    with pytest.raises(ValueError, match=message):
        model.generate(**{"input_ids": IDS, "attention_mask": MASK} | BAD_ARGUMENTS[message])


def test_bad_conditioning_noise_is_refused():
    _, config, model = build("dmgan")
    with pytest.raises(
        ValueError, match=rf"conditioning_noise has shape \(2, 6\); .* need \(2, {config.conditioning_dim}"
    ):
        model.generate(IDS, MASK, conditioning_noise=torch.randn(2, 6))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7", pytest.param(10**5000, id="of 5000 digits")])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed is .* it must be"):
        seeded_generator(seed)
    assert seeded_generator(2**64 - 1).initial_seed() == 2**64 - 1
