"""Adapted layers give what PEFT's own code gives, and what is not plain is left to it."""

from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear

from pipeline.training.fast.adapters import fast_adapters
from tests.training.fast.steps import BF16, adapted, batch, distance, step


def layer(dtype: torch.dtype = torch.float32, *, bias: bool = True, **lora: Any) -> Linear:
    torch.manual_seed(0)
    base = torch.nn.Linear(24, 16, bias=bias, dtype=dtype).requires_grad_(False)
    asked = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, **lora}
    return Linear(base, "default", LoraConfig(**asked), **asked)


def run(module: Any, x: torch.Tensor, autocast: Any = None) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of both factors."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        out = module(x)
    factors = [module.lora_A["default"].weight, module.lora_B["default"].weight]
    return [out, *torch.autograd.grad(out.float().square().sum(), [x, *factors])]


def is_fast(module: Any) -> bool:
    return "forward" in vars(module)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rslora", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 5, 24)])
def test_in_float32_output_and_gradients_are_pefts(
    bias: bool, rslora: bool, shape: tuple[int, ...]
) -> None:
    module, x = layer(bias=bias, use_rslora=rslora), torch.randn(shape)
    wanted = run(module, x)
    with fast_adapters(module):
        assert is_fast(module)
        found = run(module, x)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("x_dtype", [torch.float32, BF16])
def test_under_autocast_they_are_no_further_from_exact_ones_than_pefts(x_dtype: Any) -> None:
    module, x = layer(BF16), torch.randn(64, 24).to(x_dtype)
    for name in ("lora_A", "lora_B"):
        getattr(module, name).float()
    plain = run(module, x, BF16)
    with fast_adapters(module):
        found = run(module, x, BF16)
    exact = run(module.float(), x.float())
    for one, other, right in zip(found, plain, exact, strict=True):
        assert one.dtype == other.dtype
        error, usual = ((each.float() - right).norm() / right.norm() for each in (one, other))
        assert error < 1.2 * usual + 1e-4


@pytest.mark.parametrize(
    ("dtype", "autocast"), [(torch.float32, BF16), (BF16, None)], ids=["cast", "two types"]
)
def test_types_that_are_not_one_are_left_to_peft(dtype: Any, autocast: Any) -> None:
    module, x = layer(dtype), torch.randn(8, 24).to(dtype)
    for name in ("lora_A", "lora_B"):
        getattr(module, name).float()
    plain = run(module, x, autocast)
    with fast_adapters(module):
        assert all(map(torch.equal, run(module, x, autocast), plain))


@pytest.mark.parametrize(
    "lora", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}], ids=str
)
def test_other_kinds_keep_their_own_code(lora: Any) -> None:
    model = adapted(**lora)
    with fast_adapters(model):
        assert not any(map(is_fast, model.modules()))


def test_layers_with_trained_biases_keep_their_own_code() -> None:
    model = adapted("gpt_neox", bias="all")
    with fast_adapters(model):
        assert not any(map(is_fast, model.modules()))


def test_trained_rows_beside_the_adapter_learn_as_ever() -> None:
    model = adapted(trainable_token_indices={"embed_tokens": [5, 6], "lm_head": [5, 6]})
    inputs = batch(packed=True)
    inputs["input_ids"][0, 2:4] = inputs["labels"][0, 2:4] = 5
    _, wanted = step(model, inputs)
    with fast_adapters(model):
        _, found = step(model, inputs)
    assert any("token_adapter" in name and grad.any() for name, grad in found.items())
    assert distance(found, wanted) < 1e-5


def test_without_gradients_it_is_pefts_own_code() -> None:
    model = adapted(dtype=BF16)
    inputs = batch(packed=False)
    with torch.no_grad(), torch.autocast("cpu", BF16):
        wanted = model(**inputs, use_cache=False).logits
        with fast_adapters(model):
            assert torch.equal(model(**inputs, use_cache=False).logits, wanted)


def test_an_adapter_that_is_off_is_off() -> None:
    module, x = layer(), torch.randn(5, 24)
    with fast_adapters(module):
        module.enable_adapters(False)
        assert torch.equal(module(x), module.base_layer(x))
        module.enable_adapters(True)
        assert not torch.allclose(module(x), module.base_layer(x))
        module.merge()
        assert torch.equal(module(x), module.base_layer(x))


def test_afterwards_every_layer_has_its_own_code_again() -> None:
    model = adapted()
    plain = {name: vars(part).keys() for name, part in model.named_modules()}
    state = model.state_dict().keys()
    with pytest.raises(KeyError), fast_adapters(model):
        assert sum(map(is_fast, model.modules())) == 14
        assert model.state_dict().keys() == state
        raise KeyError
    assert {name: vars(part).keys() for name, part in model.named_modules()} == plain
