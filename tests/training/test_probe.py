"""How many sequences fit at once is tried, and the trial leaves no trace."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.errors import PipelineError
from pipeline.training import probe
from pipeline.training.probe import largest_divisor, largest_micro_batch, step_fits


def llama(**options: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, attention_dropout=0.5, **options,
        )
    )  # fmt: skip


class Narrow(torch.nn.Module):
    """A model of which a GPU would hold so many sequences at once."""

    def __init__(self, holds: int, *, fails_backward: bool = False) -> None:
        super().__init__()
        self.model = llama()
        self.holds = holds
        self.fails_backward = fails_backward
        self.tried: list[tuple[int, ...]] = []

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        self.tried.append(tuple(input_ids.shape))
        found = self.model(input_ids=input_ids, **options)
        if len(input_ids) > self.holds:
            if not self.fails_backward:
                raise torch.OutOfMemoryError("CUDA out of memory")
            found.loss.register_hook(self._fail)
        return found

    @staticmethod
    def _fail(gradient: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")


def state(model: torch.nn.Module) -> tuple[Any, ...]:
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return torch.get_rng_state(), gradients, model.training


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return (
        torch.equal(one[0], other[0])
        and one[2] == other[2]
        and all(
            (a is None and b is None) or torch.equal(a, b)
            for a, b in zip(one[1], other[1], strict=True)
        )
    )


def test_on_a_cpu_one_sequence_is_computed_at_a_time_and_nothing_is_tried() -> None:
    model = Narrow(8)
    assert largest_micro_batch(model, 16, 8, 32, None) == 1
    assert model.tried == []


@given(n=st.integers(1, 200), holds=st.integers(0, 250))
def test_the_largest_divisor_that_fits_is_found(n: int, holds: int) -> None:
    divisors = [k for k in range(1, n + 1) if n % k == 0 and k <= holds]
    assert largest_divisor(n, lambda size: size <= holds) == (max(divisors) if divisors else None)


def test_nothing_larger_is_tried_than_the_first_that_does_not_fit() -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= 3

    largest_divisor(24, fits)
    assert tried == [1, 2, 3, 4]


@pytest.mark.parametrize("fails_backward", [False, True])
def test_a_step_fits_or_does_not(fails_backward: bool) -> None:
    model = Narrow(2, fails_backward=fails_backward)
    assert step_fits(model, 2, 16, 32, torch.bfloat16)
    assert not step_fits(model, 3, 16, 32, torch.bfloat16)
    assert model.tried == [(2, 16), (3, 16)]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("has_gradients", [False, True])
def test_gradients_random_state_and_mode_are_left_as_they_were(
    size: int, has_gradients: bool
) -> None:
    model = Narrow(2, fails_backward=True).eval()
    if has_gradients:
        ids = torch.arange(8)[None]
        model(input_ids=ids, labels=ids).loss.backward()
    before = state(model)
    step_fits(model, size, 16, 32, None)
    assert same(state(model), before)


def test_another_fault_than_too_little_memory_is_not_hidden() -> None:
    with pytest.raises(IndexError):
        step_fits(llama(), 1, 64, 1000, None)  # ids that the model does not have


def test_a_gpu_that_cannot_take_one_sequence_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        def parameters(self) -> Any:
            return iter([SimpleNamespace(device=torch.device("cuda"))])

        def get_input_embeddings(self) -> Any:
            return torch.nn.Embedding(32, 4)

    monkeypatch.setattr(probe, "largest_divisor", lambda n, fits: None)
    with pytest.raises(PipelineError, match="too small for one sequence of 4,096 tokens"):
        largest_micro_batch(OnGpu(), 4096, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_what_is_found_really_trains() -> None:
    model: Any = llama(max_position_embeddings=4096)
    model.cuda()
    before = state(model)
    size = largest_micro_batch(model, 1024, 8, 32, torch.bfloat16)
    assert size in (1, 2, 4, 8)
    assert same(state(model), before)
    assert step_fits(model, size, 1024, 32, torch.bfloat16)
