"""Every rearranged operation against the plain one it stands for: values, gradients and, where they
are penalised, second gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.models import operators


def check_equal(fast, plain, *shapes, memory_format=torch.contiguous_format):
    """Values and all gradients of two functions of the same float64 tensors."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    inputs = [(t.to(memory_format=memory_format) if t.dim() == 4 else t).requires_grad_() for t in inputs]
    expected = plain(*inputs)
    found = fast(*inputs)
    assert_close(found, expected)
    seed = torch.randn_like(expected)
    for ours, theirs in zip(torch.autograd.grad(found, inputs, seed), torch.autograd.grad(expected, inputs, seed)):
        assert_close(ours, theirs)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("rows", "side", "size"),
    [
        (4, (16, 16), (32, 32)),
        (2, (32, 17), (64, 34)),
        (2, (4, 4), (8, 8)),
        (2, (28, 28), (49, 49)),
        (2, (32, 32), (64, 48)),
    ],
    ids=["doubled", "oblong", "few pixels", "enlarged by another factor", "doubled one way"],
)
def test_upsampled_convolution(rows, side, size, memory_format):
    def plain(x, weight, bias):
        return F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, bias, padding=1)

    def fast(x, weight, bias):
        return operators.upsampled_conv2d(x, weight, bias, size)

    check_equal(fast, plain, (rows, 3, *side), (5, 3, 3, 3), (5,), memory_format=memory_format)


def test_upsampled_convolution_without_bias_does_fewer_multiplications():
    from torch.utils.flop_counter import FlopCounterMode

    x, weight = torch.randn(4, 8, 32, 32), torch.randn(6, 8, 3, 3)
    counts = []
    for function in (
        lambda: F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1),
        lambda: operators.upsampled_conv2d(x, weight, None, (64, 64)),
    ):
        with FlopCounterMode(display=False) as counter:
            function()
        counts.append(counter.get_total_flops())
    assert counts[0] / counts[1] > 2.1


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channel_glu(memory_format):
    def plain(x):
        return x[:, :3] * torch.sigmoid(x[:, 3:])

    check_equal(operators.channel_glu, plain, (2, 6, 5, 4), memory_format=memory_format)
    x = torch.randn(2, 6, 5, 4).to(memory_format=memory_format)
    assert operators.channel_glu(x).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_masked_affine(memory_format):
    def plain(x, scale, shift, mask):
        return x * (scale * mask + 1) + shift * mask

    shapes = ((2, 6, 5, 4), (2, 6, 1, 1), (2, 6, 1, 1), (2, 1, 5, 4))
    check_equal(operators.masked_affine, plain, *shapes, memory_format=memory_format)
    x = torch.randn(2, 6, 5, 4).to(memory_format=memory_format)
    changed = operators.masked_affine(x, *(torch.randn(shape) for shape in shapes[1:]))
    assert changed.is_contiguous(memory_format=memory_format)


def test_leaky_relu_and_pool():
    check_equal(operators.leaky_relu, lambda x: torch.where(x > 0, x, 0.2 * x), (2, 3, 4, 4))
    check_equal(
        operators.halving_pool, lambda x: x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5)), (2, 3, 4, 6)
    )


def test_shortcuts_commute_with_scaling():
    torch.manual_seed(0)
    shortcut = nn.Conv2d(3, 5, 1).double()
    for layer in (shortcut, nn.Identity()):
        check_equal(
            lambda x, f=layer: operators.pooled_shortcut(f, x), lambda x, f=layer: F.avg_pool2d(f(x), 2), (2, 3, 4, 6)
        )
        check_equal(
            lambda x, f=layer: operators.upsampled_shortcut(f, x, (7, 9)),
            lambda x, f=layer: f(F.interpolate(x, size=(7, 9), mode="nearest")),
            (2, 3, 4, 6),
        )


def penalised(conv2d, leaky_relu, pool):
    """Gradients of a gradient penalty on a small network by its weights and its input, and the
    operations its backward pass took."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    shapes = ((4, 2, 3, 3), (4,), (3, 4, 4, 4))
    first, bias, second = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    hidden = pool(leaky_relu(conv2d(x, first, bias, (1, 1), (1, 1))))
    scores = leaky_relu(conv2d(hidden, second, None, (2, 2), (1, 1))).sum(dim=(1, 2, 3))
    with operators.no_weight_gradients():
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    penalty = (slope.flatten(1).square().sum(dim=1) ** 3).mean()
    with torch.profiler.profile() as profile:
        grads = torch.autograd.grad(penalty + scores.mean(), (first, bias, second), retain_graph=True)
    zeros = torch.autograd.grad(penalty, x, allow_unused=True)[0]
    return grads, zeros, sum(event.count for event in profile.key_averages() if event.key == "aten::zeros_like")


def test_second_gradients_are_equal_and_no_zeros_are_sent():
    ours, our_zeros, our_writes = penalised(operators.conv2d, operators.leaky_relu, operators.halving_pool)
    theirs, their_zeros, their_writes = penalised(
        F.conv2d, lambda x: F.leaky_relu(x, 0.2), lambda x: F.avg_pool2d(x, 2)
    )
    for mine, expected in zip(ours, theirs, strict=True):
        assert_close(mine, expected)
    assert (their_zeros == 0).all()  # piecewise linear: the penalty does not see small changes of the input
    assert our_zeros is None
    assert our_writes < their_writes


@pytest.mark.parametrize(("stride", "padding", "with_bias"), [(1, 1, True), (2, 1, False), (1, 0, False)])
def test_convolution(stride, padding, with_bias):
    def fast(x, weight, bias):
        return (
            operators.conv2d(x, weight, bias if with_bias else None, (stride, stride), (padding, padding)) + bias.sum()
        )

    def plain(x, weight, bias):
        return F.conv2d(x, weight, bias if with_bias else None, stride, padding) + bias.sum()

    check_equal(fast, plain, (2, 3, 8, 8), (5, 3, 4, 4), (5,))
    x, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 2, 5, 5), (3, 2, 3, 3)))
    assert torch.autograd.gradgradcheck(
        lambda *both: operators.conv2d(*both, None, (stride, stride), (padding, padding)), (x, weight)
    )


def test_convolution_under_autocast():
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = operators.conv2d(x, weight, None, (1, 1), (1, 1))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize(("kernel_size", "stride", "with_bias"), [(4, 2, False), (3, 1, True)])
def test_wide_convolution(kernel_size, stride, with_bias, monkeypatch):
    def fast(x, weight, bias):
        return operators.wide_conv2d(x, weight, bias if with_bias else None, (stride, stride), (1, 1)) + bias.sum()

    def plain(x, weight, bias):
        return F.conv2d(x, weight, bias if with_bias else None, stride, 1) + bias.sum()

    monkeypatch.setattr(operators, "MIN_WIDE_WEIGHTS", 10 * 6 * kernel_size**2)
    weight = torch.randn(10, 6, kernel_size, kernel_size, requires_grad=True)
    names = [
        type(operators.wide_conv2d(torch.randn(1, 6, 8, 8), w, None, (1, 1), (1, 1)).grad_fn).__name__
        for w in (weight, weight[:9])
    ]
    assert "WideConv2d" in names[0] and "WideConv2d" not in names[1]
    check_equal(fast, plain, (3, 6, 8, 8), weight.shape, (10,))


def test_a_wide_convolution_is_differentiated_twice(monkeypatch):
    monkeypatch.setattr(operators, "MIN_WIDE_WEIGHTS", 1)
    x, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 2, 6, 6), (3, 2, 4, 4)))
    assert torch.autograd.gradgradcheck(lambda *both: operators.wide_conv2d(*both, None, (2, 2), (1, 1)), (x, weight))
