"""How many sequences fit into a GPU's memory at once: tried, before the first step."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import torch

STATE_BYTES = 8  # of AdamW for each trained weight, which there is not yet when we try
SPARE = 0.05  # of the GPU's memory: for what the allocator cannot use, and what varies


def largest_micro_batch(
    model: Any,
    length: int,
    at_most: int,
    vocabulary: int | None = None,
    autocast: "torch.dtype | None" = None,
    *,
    state_bytes: float = STATE_BYTES,
) -> int:
    """How many of the `at_most` sequences of a step are best computed together.

    On a GPU: the largest number that divides `at_most` and of which a forward and a backward pass
    fit; gradients and random states are left as they were. On a CPU one: sequences of one length
    need no padding either way, and more at once only take more memory, for the same speed.

    Args:
        model: with gradients switched on where it is to be trained, as for the first step.
        length: tokens of a sequence.
        vocabulary: ids from 0 on that there are; None for all that the model knows.
        autocast: the type that the run computes in; None leaves it to the model.
        state_bytes: of the optimizer, for each trained weight.

    Raises PipelineError if not even one sequence fits.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return 1

    vocabulary = vocabulary or model.get_input_embeddings().weight.shape[0]

    def fits(size: int) -> bool:
        with _room_taken(model, device, state_bytes) as is_there:
            return is_there and step_fits(model, size, length, vocabulary, autocast)

    found = largest_divisor(at_most, fits)
    if found is None:
        raise PipelineError(
            f"The GPU's memory is too small for one sequence of {length:,} tokens.",
            "Lower --sequence-length, or try --gradient-checkpointing or --method qlora.",
        )
    return found


def largest_divisor(n: int, fits: Callable[[int], bool]) -> int | None:
    """The largest divisor of `n` that fits, trying from 1 on up to the first that does not; None
    if 1 does not.
    """
    found = None
    for size in (k for k in range(1, n + 1) if n % k == 0):
        if not fits(size):
            break
        found = size
    return found


def step_fits(
    model: Any, size: int, length: int, vocabulary: int, autocast: "torch.dtype | None"
) -> bool:
    """Whether a forward and a backward pass of `size` sequences fit. Leaves no trace."""
    import torch

    with _undone(model, next(model.parameters()).device):
        try:
            _step(model, size, length, vocabulary, autocast)
        except torch.OutOfMemoryError:
            return False
    return True


def _step(
    model: Any, size: int, length: int, vocabulary: int, autocast: "torch.dtype | None"
) -> None:
    """A function of its own, so that nothing holds its tensors once it has failed."""
    import torch

    device = next(model.parameters()).device
    ids = torch.arange(size * length, device=device).remainder(vocabulary).view(size, length)
    positions = torch.arange(length, device=device).repeat(size, 1)
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        loss = model(input_ids=ids, position_ids=positions, labels=ids, use_cache=False).loss
    loss.backward()


@contextmanager
def _undone(model: Any, device: "torch.device") -> Iterator[None]:
    """Gradients, random states and the mode are afterwards what they were."""
    import torch

    gradients = [(tensor, tensor.grad) for tensor in model.parameters() if tensor.requires_grad]
    was_training = model.training
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            for tensor, _ in gradients:
                tensor.grad = None
            model.train()
            yield
    finally:
        for tensor, gradient in gradients:
            tensor.grad = gradient
        model.train(was_training)
        _free(device)


@contextmanager
def _room_taken(model: Any, device: "torch.device", state_bytes: float) -> Iterator[bool]:
    """Memory is taken as the optimizer will take it, and a little more, so that the rest is what
    a step can really have. Yields whether there is that much.
    """
    import torch

    trained = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
    total = torch.cuda.get_device_properties(device).total_memory
    taken = int(trained * state_bytes + SPARE * total)
    held = None
    with suppress(torch.OutOfMemoryError):
        held = torch.empty(taken, dtype=torch.uint8, device=device)
    try:
        yield held is not None
    finally:
        del held
        _free(device)


def _free(device: "torch.device") -> None:
    """Give back what the allocator holds: pieces of one size do not serve those of another."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
