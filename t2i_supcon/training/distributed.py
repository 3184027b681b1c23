"""What several processes share in training: rows of the whole batch, BatchNorm's statistics,
gradients and first weights.

A loss that contrasts the rows of a batch must see the rows of all processes, or N processes would
train on N small problems instead of one. Everything here follows one rule: each process computes
the loss of the whole batch, or the mean over its own rows of a loss that is a mean over rows;
`average_gradients` then gives every process the gradient that one process with the whole batch
would have found. With one process, and outside `torch.distributed`, each function returns what it
was given.

The whole batch is view-major, like that of each process: view 1 of process 0, of process 1, ...,
then view 2 in the same order.
"""

from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, DynamoBackend
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from ..data import Batch
from ..processes import broadcast_state, gather_rows, num_processes, process_index, sum_over_processes


def own_rows(tensor: Tensor, num_views: int = 1) -> Tensor:
    """This process's rows (B, ...) of what `gather_rows` returned."""
    return tensor.unflatten(0, (num_views, num_processes(), -1))[:, process_index()].flatten(0, 1)


def next_captions(sent_emb: Tensor, num_views: int, rotated: bool) -> Tensor:
    """For each of this process's rows the sentence of the next row of the whole batch.

    Args:
        sent_emb: (B, D), without gradient.
        rotated: the whole batch's last row gets its first sentence; otherwise it gets none, and the
            process that holds it one row fewer.
    """
    following = own_rows(gather_rows(sent_emb, num_views).roll(-1, dims=0), num_views)  # (B, D)
    return following if rotated or process_index() < num_processes() - 1 else following[:-1]


def gather_all_but_last(logits: Tensor, rows: int, num_views: int) -> Tensor:
    """The whole batch's logits (N * B - 1,) of what `next_captions` gave each process without
    rotation, where B is `rows`."""
    return gather_rows(F.pad(logits, (0, rows - len(logits))), num_views)[: num_processes() * rows - 1]


def pad_captions(batch: Batch) -> Batch:
    """Pads a batch's captions to the longest of all processes, so that every tensor computed from
    it can be gathered.

    Raises:
        ValueError: the processes' batches differ in rows or views.
    """
    if num_processes() == 1:
        return batch
    rows, views, longest = gather_rows(
        torch.tensor([[len(batch), batch.num_views, batch.input_ids.shape[1]]], device=batch.input_ids.device)
    ).T.tolist()
    if len(set(rows)) > 1 or len(set(views)) > 1:
        found = ", ".join(f"{r} in {v} views" for r, v in zip(rows, views))
        raise ValueError(f"the processes' batches have {found}; all need the same number of rows and views")
    missing = max(longest) - batch.input_ids.shape[1]
    return replace(
        batch, input_ids=F.pad(batch.input_ids, (0, missing)), attention_mask=F.pad(batch.attention_mask, (0, missing))
    )


@torch.no_grad()
def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replaces the gradients, in one message, by their mean over the processes; all of these must
    have gradients for the same parameters.

    This, rather than DistributedDataParallel: a discriminator runs several times before one
    backward, its penalty leaves some parameters without gradient, and the generator learns through
    it while it is frozen, each of which that wrapper gets wrong or refuses.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if num_processes() == 1 or not gradients:
        return
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= num_processes()
    for gradient, mean in zip(gradients, together.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(mean.view_as(gradient))


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Averages scalars of the same names, in one message and without gradient."""
    if num_processes() == 1 or not values:
        return values
    means = sum_over_processes(torch.stack([value.detach().float() for value in values.values()])) / num_processes()
    return dict(zip(values, means))


class SyncBatchNorm(nn.SyncBatchNorm):
    """Normalises with the statistics of all processes' rows: torch's own, which knows GPUs only and
    has no second derivative, or the same in plain operations.

    Attributes:
        differentiated_twice: take plain operations on a GPU, too.
    """

    differentiated_twice = False

    def forward(self, input: Tensor) -> Tensor:
        fused = input.device.type != "cpu" and not self.differentiated_twice
        if fused or not self.training or num_processes() == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32)).transpose(0, 1).flatten(1)  # (C, M)
        count = sum_over_processes(x.new_tensor(x.shape[1]))
        mean = sum_over_processes(x.sum(dim=1)) / count  # (C,)
        var = sum_over_processes((x - mean[:, None]).square().sum(dim=1)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * count / (count - 1), momentum)
        scale, shift = (var + self.eps).rsqrt(), torch.zeros_like(mean)
        if self.affine:
            scale, shift = scale * self.weight, self.bias
        per_channel = (1, -1) + (1,) * (input.dim() - 2)
        return ((input - mean.view(per_channel)) * scale.view(per_channel) + shift.view(per_channel)).to(input.dtype)


def synchronise_batch_norm(module: nn.Module, differentiated_twice: bool = False) -> None:
    """Turns every BatchNorm inside `module` into a `SyncBatchNorm` with the same parameters,
    buffers and names."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            synced = SyncBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            synced._parameters, synced._buffers = child._parameters, child._buffers
            synced.differentiated_twice = differentiated_twice
            setattr(module, name, synced.train(child.training))
        else:
            synchronise_batch_norm(child, differentiated_twice)


def prepare_network(
    module: nn.Module, accelerator: Accelerator, sync_batch_norm: bool, differentiated_twice: bool = False
) -> nn.Module:
    """Places a network to be trained, in the launched precision, alike in all processes.

    Args:
        differentiated_twice: a gradient of the network is part of its loss.

    Raises:
        ValueError: a launch that splits or compiles networks, or whose processes
            `torch.distributed` does not connect.
    """
    split = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    if accelerator.distributed_type in split or accelerator.num_processes != num_processes():
        raise ValueError(
            f"accelerate was launched as {accelerator.distributed_type.value}; every process trains whole "
            "networks here: "
            "launch with --multi_gpu, or with torchrun, and with neither FSDP nor DeepSpeed"
        )
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise ValueError(
            "accelerate was launched to compile networks: launch with --dynamo_backend no; the recipe's "
            "`compile: true` compiles here"
        )
    if num_processes() > 1 and sync_batch_norm:
        synchronise_batch_norm(module, differentiated_twice)
    # all but DistributedDataParallel: see `average_gradients`
    module = accelerator.prepare_model(module, evaluation_mode=True)
    broadcast_state(module)
    return module
