"""The fast loss is the cross entropy with its gradient, and only for models whose loss that is."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from pipeline.training.batches import IGNORED
from pipeline.training.fast import loss as module
from pipeline.training.fast.loss import fast_loss_of, summed_cross_entropy
from tests.training.architectures import KINDS, tiny_config
from tests.training.fast.steps import adapted, batch, plain_loss, step

PLAIN = {"llama", "mistral", "qwen3", "gemma3_text", "gpt_neox", "gpt2"}


@settings(max_examples=60)
@given(
    st.integers(1, 3), st.integers(1, 40), st.integers(2, 30), st.integers(1, 8),
    st.integers(0, 99), st.floats(0, 1),
)  # fmt: skip
def test_loss_and_gradient_equal_torchs(
    batch_size: int, length: int, vocabulary: int, width: int, seed: int, share: float
) -> None:
    torch.manual_seed(seed)
    hidden = (3 * torch.randn(batch_size, length, width)).requires_grad_()
    weight = torch.randn(vocabulary, width)
    targets = torch.randint(vocabulary, (batch_size, length))
    targets[torch.rand(targets.shape) < share] = IGNORED
    logits = (hidden @ weight.t()).flatten(0, 1)
    wanted = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")
    (of_wanted,) = torch.autograd.grad(wanted, hidden)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", 7)
        found = summed_cross_entropy(hidden, weight, targets)
    (of_found,) = torch.autograd.grad(2 * found, hidden)

    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert torch.allclose(of_found, 2 * of_wanted, rtol=1e-4, atol=1e-5)


def test_rows_of_tokens_that_do_not_count_get_no_gradient() -> None:
    hidden = torch.randn(6, 4, requires_grad=True)
    targets = torch.tensor([1, IGNORED, 2, IGNORED, IGNORED, 0])
    summed_cross_entropy(hidden, torch.randn(5, 4), targets).backward()
    assert hidden.grad is not None
    assert torch.equal(hidden.grad.any(-1), targets != IGNORED)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_losses_are_told_from_others(kind: str) -> None:
    assert (fast_loss_of(adapted(kind), None) is not None) == (kind in PLAIN)


def test_a_scaled_or_capped_loss_is_none_of_this() -> None:
    sizes = tiny_config("llama").to_dict()
    del sizes["model_type"], sizes["architectures"]
    scaled = GraniteForCausalLM(GraniteConfig(**{**sizes, "logits_scaling": 8.0}))
    assert fast_loss_of(scaled.requires_grad_(False), None) is None
    uncapped = adapted("gemma2", told={"final_logit_softcapping": None})
    assert fast_loss_of(uncapped, None) is not None


def test_a_head_that_is_trained_is_left_to_the_library() -> None:
    whole = AutoModelForCausalLM.from_config(tiny_config("llama"))
    assert fast_loss_of(whole, None) is None
    assert fast_loss_of(whole.requires_grad_(False), None) is not None
    rows = adapted(told={"tie_word_embeddings": True}, trainable_token_indices=[5, 6])
    assert fast_loss_of(rows, None) is None
    on_head = get_peft_model(whole, LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"]))
    assert fast_loss_of(on_head, None) is None


def test_adapters_that_change_the_forward_pass_are_left_to_the_library() -> None:
    base = AutoModelForCausalLM.from_config(tiny_config("llama"))
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    assert fast_loss_of(get_peft_model(base, prompt), None) is None
    assert fast_loss_of(torch.nn.Linear(2, 2), None) is None


class WithMore(type(AutoModelForCausalLM.from_config(tiny_config("llama")))):  # type: ignore[misc]
    """A model of a person's own, whose loss has a second part."""

    def forward(self, *args: Any, **rest: Any) -> Any:
        out = super().forward(*args, **rest)
        if out.loss is not None:
            out.loss += 1e-3 * out.logits.logsumexp(-1).square().mean()
        return out


class WithNoise(WithMore.__base__):  # type: ignore[misc, name-defined]
    """A model that does something before its decoder."""

    def forward(self, input_ids: Any, **rest: Any) -> Any:
        return super().forward(input_ids=input_ids.flip(1), **rest)


@pytest.mark.parametrize("cls", [WithMore, WithNoise])
def test_code_around_decoder_and_head_is_noticed(cls: Any) -> None:
    model = cls(tiny_config("llama")).requires_grad_(False)
    assert fast_loss_of(model, None) is None


def test_asking_leaves_the_model_as_it_was() -> None:
    model = adapted()
    model.base_model.model.model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    loss = model.get_base_model().loss_function
    random = torch.get_rng_state()
    assert fast_loss_of(model, None) is not None
    assert [part.training for part in model.modules()] == modes
    assert model.get_base_model().loss_function is loss
    assert not any(part._forward_hooks for part in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_wrapper_around_the_model_is_left_to_the_library() -> None:
    model = adapted()
    fast_loss = fast_loss_of(model, None)
    assert fast_loss is not None
    assert fast_loss(torch.nn.DataParallel(model), batch(packed=True), 1) is None


@pytest.mark.parametrize("packed", [True, False])
def test_the_sum_is_divided_by_what_counts_in_the_step_or_else_in_the_batch(packed: bool) -> None:
    model, inputs = adapted(), batch(packed=packed)
    fast_loss = fast_loss_of(model, None)
    for items in (None, 50, torch.tensor(50)):
        assert step(model, inputs, fast_loss, items=items)[0] == pytest.approx(
            plain_loss(model, inputs, items).item(), rel=1e-5
        )


def test_a_step_with_nothing_to_learn_has_no_loss_and_no_gradient() -> None:
    model, inputs = adapted(), batch(packed=True)
    inputs["labels"][:] = IGNORED
    for items in (None, torch.tensor(0)):
        loss, gradients = step(model, inputs, fast_loss_of(model, None), items=items)
        assert loss == 0
        assert not any(gradient.any() for gradient in gradients.values())
