"""How much arithmetic a trained token takes, and how much this machine can do: MFU from both.

A multiply-add counts as two floating point operations (FLOPs). Per token and per weight of a
matrix (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 1):

- 2 forward;
- 2 backward for the gradient of the activations, also through weights that are frozen;
- 2 backward for the gradient of the weight, only where it is trained.

So 6 for each weight that is trained, and 4 for each that is frozen (the base of an adapter).
Attention adds, per layer and token, 4 x width x context forward, and twice that backward, where
`width` is heads x head size (Chowdhery et al. 2022, "PaLM", appendix B), and the context of a
causal model is on average half the length of the text that it sees. What is done again to save
memory (gradient checkpointing) does not count: it brings nothing.

MFU (model FLOPs utilization, ibid.) is model FLOPs per second of training over those that the
machine can do. The latter is measured here, with matrix products, as what is in the data sheet
is not what a rented or shared machine gives.
"""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_CUDA_SIZE = 4096  # 32 MB a matrix in 16 bits; large enough for the full rate
_CPU_SIZE = 1024
_RUNS = 10  # that the time is divided into


def flops_per_token(model: Any, length: float) -> float:
    """FLOPs that one trained token takes in `model`, forward and backward.

    Args:
        model: a causal language model of transformers, with or without an adapter, quantized or
            not; of what is trained, `requires_grad` is true. Experts of which only some are used
            for a token are not known to be such: all that are linear layers count.
        length: tokens that see each other: of a sequence, or, where several documents share one
            without seeing each other, of a document, on average.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    total = 0.0
    for name, module in model.named_modules():
        # Of a layer that is trained in whole, PEFT keeps the original beside it, unused.
        if "original_module" in name:
            continue
        if isinstance(module, torch.nn.Linear):
            weights = module.in_features * module.out_features  # packed, if quantized
        elif isinstance(module, Conv1D):  # GPT-2's linear layer
            weights = module.weight.numel()
        else:
            continue
        total += (6 if module.weight.requires_grad else 4) * weights
    return total + 3 * _attention_forward(model, length)


def _attention_forward(model: Any, length: float) -> float:
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)
    size = getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1)
    return float(config.num_hidden_layers * 4 * heads * size * length / 2)


def matmul_rate(device: "torch.device | str", dtype: "torch.dtype", seconds: float = 0.3) -> float:
    """FLOPs per second that products of square matrices of `dtype` reach on `device`, measured.

    The best of several short runs within about `seconds`, since what else runs on the machine can
    only make it slower. Takes 100 MB of a GPU's memory.
    """
    import torch

    device = torch.device(device)
    size = _CUDA_SIZE if device.type == "cuda" else _CPU_SIZE
    # Of its own, so that a run draws the same numbers whether this was measured before it or not.
    random = torch.Generator(device).manual_seed(0)
    left = torch.randn(size, size, device=device, generator=random).to(dtype)
    right = torch.randn(size, size, device=device, generator=random).to(dtype)
    out = torch.empty_like(left)
    with torch.no_grad():
        torch.mm(left, right, out=out)  # kernels are chosen, or compiled, at the first
        elapsed = _timed(lambda: torch.mm(left, right, out=out), 1, device)
        repeats = max(1, int(seconds / _RUNS / elapsed))
        best, end = elapsed, time.perf_counter() + seconds
        while time.perf_counter() < end:
            each = _timed(lambda: torch.mm(left, right, out=out), repeats, device) / repeats
            best = min(best, each)
    return 2.0 * size**3 / best


def _timed(work: Any, repeats: int, device: "torch.device") -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return max(time.perf_counter() - start, 1e-9)
