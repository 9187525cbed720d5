"""Linear layers with a LoRA adapter: four matrix products forward, and six backward.

PEFT turns the input into float32 and autocast turns it back, each adapted layer keeps a copy of
its own for the backward pass, and adding the adapter's part takes three passes over the output.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def fast_adapters(model: Any) -> Iterator[None]:
    """Within, plain adapted layers of `model` make gradients the faster way."""
    adapted = [module for module in model.modules() if _is_plain(module)]
    try:
        for module in adapted:
            module.forward = functools.partial(_forward, module, module.forward)
        yield
    finally:
        for module in adapted:
            vars(module).pop("forward", None)  # its class has the plain one


def _is_plain(module: Any) -> bool:
    """Without dropout, DoRA, biases that are trained, a quantized or transposed layer below."""
    import torch
    from peft.tuners.lora import Linear

    if type(module) is not Linear or type(module.base_layer) is not torch.nn.Linear:
        return False
    if len(module.active_adapters) != 1 or module.fan_in_fan_out or "forward" in vars(module):
        return False
    name = module.active_adapters[0]
    base = module.base_layer
    return (
        name in module.lora_A
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
        and type(module.lora_A[name]) is type(module.lora_B[name]) is torch.nn.Linear
        and module.lora_A[name].bias is module.lora_B[name].bias is None
        and not any(parameter.requires_grad for parameter in base.parameters())
        and (base.bias is None or base.bias.dtype == base.weight.dtype)
    )


def _forward(
    module: Any, plain: Callable[..., Any], x: "torch.Tensor", *args: Any, **rest: Any
) -> Any:
    import torch

    base, name = module.base_layer, module.active_adapters[0]
    if (
        args
        or rest
        or not torch.is_grad_enabled()
        or module.disable_adapters
        or module.merged
        or name not in module.lora_A
    ):
        return plain(x, *args, **rest)
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    # What PEFT computes in: without autocast, and with weights of two types, in both of them.
    cast = torch.is_autocast_enabled("cpu")
    types = {base.weight.dtype} | (
        {torch.get_autocast_dtype("cpu")} if cast else {x.dtype, a.dtype}
    )
    if len(types) > 1:
        return plain(x)
    return _function().apply(x, base.weight, base.bias, a, b, module.scaling[name])


@functools.cache
def _function() -> Any:
    import torch

    class Adapted(torch.autograd.Function):
        """x W' + bias + scale (x A') B', in the type of W; the gradients of A and B in theirs."""

        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
            dtype = weight.dtype
            rows = x.reshape(-1, x.shape[-1]).to(dtype)
            down, up = a.to(dtype), (b * scale).to(dtype)
            narrow = rows @ down.t()
            out = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
            out.addmm_(narrow, up.t())
            ctx.save_for_backward(rows, weight, down, up, narrow)
            ctx.scale, ctx.shape, ctx.dtypes = scale, x.shape, (x.dtype, a.dtype, b.dtype)
            return out.view(*x.shape[:-1], weight.shape[0])

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            rows, weight, down, up, narrow = ctx.saved_tensors
            of_x, of_a, of_b = ctx.dtypes
            gradient = upstream.reshape(-1, upstream.shape[-1]).to(weight.dtype)
            gradient_narrow = gradient @ up
            gradient_a = (gradient_narrow.t() @ rows).to(of_a)
            gradient_b = (gradient.t() @ narrow).to(of_b) * ctx.scale
            gradient_x = None
            if ctx.needs_input_grad[0]:  # the first layer's has nothing to learn before it
                gradient_x = (gradient @ weight).addmm_(gradient_narrow, down)
                gradient_x = gradient_x.view(ctx.shape).to(of_x)
            return gradient_x, None, None, gradient_a, gradient_b, None

    return Adapted
