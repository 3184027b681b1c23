"""The averaged network against the sum that defines it."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from t2i_supcon.training.ema import EMA


def network(dtype=torch.float32):
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(dtype)


def change(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_average_equals_the_weighted_sum_of_all_weights():
    live = network()
    ema = EMA(live, 0.9)
    history = [live[0].weight.detach().double().clone()]
    for _ in range(5):
        change(live)
        ema.update(live)
        history.append(live[0].weight.detach().double().clone())
    expected = 0.9**5 * history[0] + sum(0.1 * 0.9 ** (5 - i) * history[i] for i in range(1, 6))
    assert_close(ema.module[0].weight.double(), expected, rtol=1e-5, atol=1e-6)


def test_buffers_are_copied_and_the_network_is_left_alone():
    live = network()
    ema = EMA(live, 0.5)
    live(torch.randn(8, 3))  # moves BatchNorm's statistics
    before = {name: value.clone() for name, value in live.state_dict().items()}
    ema.update(live)
    assert torch.equal(ema.module[1].running_mean, live[1].running_mean)
    assert ema.module[1].num_batches_tracked == 1
    assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())
    assert live.training and not ema.module.training
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_average_of_half_precision_weights_moves(dtype):
    """In bfloat16, 1 + 0.001 * (2 - 1) rounds to 1, however often it is done."""
    live = nn.Linear(3, 2).to(dtype)
    nn.init.ones_(live.weight)
    ema = EMA(live, 0.999)
    nn.init.constant_(live.weight, 2)
    for _ in range(100):
        ema.update(live)
    assert ema.module.weight.dtype == torch.float32 and live.weight.dtype == dtype
    assert_close(ema.module.weight, torch.full((2, 3), 2 - 0.999**100), rtol=1e-5, atol=0)


def test_double_precision_stays():
    assert EMA(network(torch.float64), 0.9).module[0].weight.dtype == torch.float64


def test_buffers_of_half_precision_are_widened_with_the_weights():
    live = network(torch.bfloat16)
    ema = EMA(live, 0.9)
    live(torch.randn(8, 3, dtype=torch.bfloat16))
    ema.update(live)
    assert ema.module(torch.randn(2, 3)).dtype == torch.float32
    assert_close(ema.module[1].running_mean, live[1].running_mean.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_average_goes_on_exactly_after_saving_and_loading(tmp_path, dtype):
    live = network(dtype)
    ema = EMA(live, 0.99)
    change(live)
    ema.update(live)
    torch.save(ema.module.state_dict(), tmp_path / "average.pt")
    again = EMA(network(dtype), 0.99)
    again.module.load_state_dict(torch.load(tmp_path / "average.pt", weights_only=True))
    for average in (ema, again):
        average.update(live)
    assert all(torch.equal(a, b) for a, b in zip(ema.module.state_dict().values(), again.module.state_dict().values()))


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_out_of_range_is_named(decay):
    with pytest.raises(ValueError, match=f"ema_decay is {decay}"):
        EMA(network(), decay)
