"""Rows and sums over several processes, with gradients, where `torch.distributed` runs.

With one process, and outside `torch.distributed`, each function returns what it was given.
"""

import torch
from torch import Tensor, distributed, nn


def num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_index() -> int:
    return distributed.get_rank() if num_processes() > 1 else 0


class _AllReduce(torch.autograd.Function):
    """Sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _AllReduce.apply(grad)


class _AllGather(torch.autograd.Function):
    """(B, ...) of each process to (N, B, ...); each process gets back the sum of what all of them
    send to its rows."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(num_processes())]
        distributed.all_gather(parts, tensor.detach().contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _AllReduce.apply(grad)[process_index()]


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum over the processes of tensors of one shape; gradients flow back to all of them, any
    number of times."""
    return tensor if num_processes() == 1 else _AllReduce.apply(tensor)


def gather_rows(tensor: Tensor, num_views: int = 1) -> Tensor:
    """Rows (B, ...) of every process as one view-major tensor (N * B, ...); gradients flow back to
    the process a row came from.

    Args:
        tensor: of the same shape in all processes, which `pad_captions` makes sure of for all that
            is computed from a batch.
        num_views: views that the rows of each process consist of.
    """
    if num_processes() == 1:
        return tensor
    gathered = _AllGather.apply(tensor)  # (N, V * b, ...)
    return gathered.unflatten(1, (num_views, -1)).transpose(0, 1).flatten(0, 2)


@torch.no_grad()
def broadcast_state(module: nn.Module) -> None:
    """Gives every process the parameters and buffers of the first."""
    if num_processes() == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        sent = tensor.detach().clone(memory_format=torch.contiguous_format)
        distributed.broadcast(sent, src=0)
        tensor.copy_(sent)
