"""The costly operations of the networks, rearranged to do less work than as the papers write them,
with equal results."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

MIN_UPSAMPLED_PIXELS = 1024  # of a batch; below, summing the kernels costs more than it saves


def upsampled_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Nearest upsampling to `size`, then a 3x3 convolution with padding 1.

    Where both sides double, an output pixel sees only 2x2 different input pixels, so one transposed
    convolution of stride 2 does the same, whose 4x4 kernel holds sums of the 3x3 one's taps: 2.25
    times fewer multiplications and no enlarged map.

    Args:
        x: (B, C, h, w).
        weight: (C', C, 3, 3), of the convolution.
        bias: (C',).
        size: (H, W) of the output.

    Returns:
        (B, C', H, W).
    """
    height, width = x.shape[2:]
    exporting = torch.compiler.is_exporting()  # then the batch is not known, and the kernel is summed once and for all
    few = not exporting and len(x) * height * width < MIN_UPSAMPLED_PIXELS
    if few or tuple(size) != (2 * height, 2 * width):
        return F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, bias, padding=1)
    sums = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # along one axis
    kernel = torch.einsum("pa,oiab,qb->iopq", sums, weight, sums)
    if x.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.contiguous(memory_format=torch.channels_last)
    return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)


def channel_glu(x: Tensor) -> Tensor:
    """First half of the channels times the sigmoid of the second, (B, 2C, h, w) to (B, C, h, w);
    along memory, also in channels_last."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return F.glu(x.permute(0, 2, 3, 1), dim=-1).permute(0, 3, 1, 2)
    return F.glu(x, dim=1)


def masked_affine(x: Tensor, scale: Tensor, shift: Tensor, mask: Tensor) -> Tensor:
    """Scales and shifts each channel where the mask allows it, x * (1 + scale * mask) + shift *
    mask, as x + mask * (scale * x + shift): three passes over the map in place of five.

    Args:
        x: (B, C, h, w).
        scale, shift: (B, C, 1, 1).
        mask: (B, 1, h, w) in [0, 1].
    """
    return x + mask * torch.addcmul(shift, scale, x)


_by_inputs_only = False  # of the whole process: on a GPU, gradients are computed in a thread of their own


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Inside the block, `conv2d` passes gradients to its input alone: for `torch.autograd.grad` by
    inputs, with `create_graph`.

    A network of `conv2d`, `leaky_relu` and `halving_pool` is piecewise linear, so that what a
    penalty on its gradient by the inputs says about its own layers' inputs is exactly zero. torch's
    own layers write these zeros out and send them back through the whole network, which costs
    another backward pass; these here have nothing to send.
    """
    global _by_inputs_only
    _by_inputs_only = True
    try:
        yield
    finally:
        _by_inputs_only = False


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rest = (None if bias is None else bias.shape, stride, padding, (1, 1), False, (0, 0), 1)
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x, *by_others = ctx.needs_input_grad[:3]
        if _by_inputs_only:
            x, by_others = x.detach(), (False, False)  # only its shape matters then
        return *torch.ops.aten.convolution_backward(grad, x, weight, *ctx.rest, (by_x, *by_others)), None, None


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """A convolution for networks whose gradient is penalised; see `no_weight_gradients`."""
    if torch.is_autocast_enabled(x.device.type):  # a penalty is computed without it
        return F.conv2d(x, weight, bias, stride, padding)
    return _Conv2d.apply(x, weight, bias, stride, padding)


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, slope: float) -> Tensor:
        y = F.leaky_relu(x, slope)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(
            grad, y.detach(), ctx.slope, True
        ), None  # detached: the slopes are constants


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """Leaky ReLU for networks whose gradient is penalised; see `no_weight_gradients`."""
    return _LeakyReLU.apply(x, slope)


class _HalvingPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return F.interpolate(grad / 4, scale_factor=2, mode="nearest")


def halving_pool(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels, (B, C, h, w) with even sides to (B, C, h/2, w/2); see
    `no_weight_gradients`."""
    return _HalvingPool.apply(x)


class _WideConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            by_x = conv2d_input(x.shape, weight, grad, stride, padding)
        if ctx.needs_input_grad[1]:
            patches = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)  # (B, C * k * k, h' * w')
            # (C', C * k * k), summed over all places
            by_weight = grad.transpose(0, 1).flatten(1) @ patches.transpose(1, 2).flatten(0, 1)
            by_weight = by_weight.view_as(weight)
        return by_x, by_weight, None, None


MIN_WIDE_WEIGHTS = 2**24  # of a kernel; below, a matrix product takes about as long


def wide_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """A convolution from many channels to many, whose gradient by the weights is one matrix product
    on CPUs.

    Their own kernel for it is made for large maps and few weights: at 1,024 channels of 8 px to
    2,048 of 4 px it takes twice as long and more.

    Args:
        x: (B, C, h, w).
        weight: (C', C, k, k).
        bias: (C',).

    Returns:
        (B, C', h', w').
    """
    if x.device.type != "cpu" or weight.numel() < MIN_WIDE_WEIGHTS or torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, bias, stride, padding)
    y = _WideConv2d.apply(x, weight, stride, padding)
    return y if bias is None else y + bias[:, None, None]


def upsampled_shortcut(shortcut: nn.Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest upsampling to `size`, then `shortcut`, a 1x1 convolution or nothing; run the other
    way round, it sees fewer pixels."""
    return F.interpolate(shortcut(x), size=size, mode="nearest")


def pooled_shortcut(shortcut: nn.Module, x: Tensor) -> Tensor:
    """`shortcut`, a 1x1 convolution or nothing, then the mean of 2x2 pixels; run the other way
    round, it sees a quarter of the pixels."""
    return shortcut(halving_pool(x))
