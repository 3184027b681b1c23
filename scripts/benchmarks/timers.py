"""Seconds of the parts of a step, operations of a whole one, and the most that a machine can do."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Stopwatch:
    """Adds up the seconds of the parts of a step; what a part nested in another takes counts for
    itself alone."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.open: list[str] = []

    def now(self) -> float:
        """Seconds, once all work given to a GPU so far is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times the block; `part` "backward" is named after the part it happens in."""
        part = f"{self.open[-1]}, backward" if part == "backward" else part
        started = self.now()
        self.open.append(part)
        try:
            yield
        finally:
            self.open.pop()
            spent = self.now() - started
            self.seconds[part] += spent
            if self.open:
                self.seconds[self.open[-1]] -= spent

    def wrap(self, owner: object, method: str, part: str) -> None:
        """Times every call of a method."""
        plain = getattr(owner, method)

        def timed(*args, **kwargs):
            with self(part):
                return plain(*args, **kwargs)

        setattr(owner, method, timed)


class OperationCounter(TorchDispatchMode):
    """Counts what is computed in its block; torch's own FlopCounterMode cannot count gradients by
    inputs alone."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if (count := flop_registry.get(function.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def count_operations(step: Callable[[], object]) -> int:
    """Multiplications and additions of all matrix products and convolutions in one call."""
    with OperationCounter() as counter:
        step()
    return counter.total


def peak_rate(device: str, precision: str, divisor: int = 1) -> float:
    """Operations per second of a large matrix product or convolution, whichever is quicker: the
    most this machine was seen to do.

    Args:
        device: "cpu" or "cuda".
        precision: "no" (float32), "bf16" or "fp16".
        divisor: of the sizes, to be done sooner with a smaller peak.
    """
    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size, channels = (2048 if device == "cpu" else 8192) // divisor, 256 // divisor
    a = torch.randn(size, size, device=device, dtype=dtype)
    x = torch.randn(16, channels, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    watch, seconds = Stopwatch(device), defaultdict(list)
    for _ in range(6):
        for operations, work in (
            (2 * size**3, lambda: a @ a),
            (2 * x.numel() * weight[0].numel(), lambda: F.conv2d(x, weight, padding=1)),
        ):
            started = watch.now()
            work()
            seconds[operations].append(watch.now() - started)
    return max(operations / min(times) for operations, times in seconds.items())
