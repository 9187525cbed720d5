"""Blocked attention sees what torch's own sees, and leaves to it what it cannot do."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.integrations import sdpa_attention

from pipeline.training.fast import attention
from pipeline.training.fast.attention import NAME, blocked_attention, fast_attention
from tests.training.architectures import KINDS
from tests.training.fast.steps import BF16, adapted

sdpa_attention_forward = sdpa_attention.sdpa_attention_forward


def heads(
    length: int, *, groups: int = 3, batch: int = 1, values: int = 16, dtype: Any = torch.float32
) -> list[torch.Tensor]:
    """Queries of 2 * groups heads, keys and values of two."""
    torch.manual_seed(0)
    shapes = [(2 * groups, 16), (2, 16), (2, values)]
    return [torch.randn(batch, n, length, width).to(dtype) for n, width in shapes]


def run(
    function: Any, given_heads: list[torch.Tensor], mask: Any = None, **rest: Any
) -> list[torch.Tensor]:
    """The output, and the gradients of queries, keys and values."""
    given_heads = [x.clone().requires_grad_() for x in given_heads]
    groups = given_heads[0].shape[1] // given_heads[1].shape[1]
    layer = SimpleNamespace(is_causal=True, num_key_value_groups=groups, training=True)
    out, _ = function(layer, *given_heads, mask, **rest)
    of_heads = torch.autograd.grad(out.float().square().sum(), given_heads)
    return [out, *of_heads]


def calls_of_sdpa(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def counted(*args: Any, **rest: Any) -> Any:
        calls.append(args)
        return sdpa_attention_forward(*args, **rest)

    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", counted)
    return calls


def packed(*lengths: int) -> torch.Tensor:
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    same = document[:, None] == document[None]
    return (same & torch.ones_like(same).tril())[None, None]


@settings(max_examples=40)
@given(
    length=st.integers(2, 40), groups=st.integers(1, 3), batch=st.integers(1, 2),
    values=st.sampled_from([8, 16]), masked=st.booleans(), scaling=st.sampled_from([None, 0.3]),
    block=st.integers(1, 17),
)  # fmt: skip
def test_output_and_gradients_equal_torchs(
    length: int, groups: int, batch: int, values: int, masked: bool, scaling: Any, block: int
) -> None:
    mask = None
    if masked:  # whatever is before, but each token sees itself
        mask = (torch.rand(batch, 1, length, length) < 0.5).tril()
        mask |= torch.eye(length, dtype=torch.bool)
    given_heads = heads(length, groups=groups, batch=batch, values=values)
    wanted = run(sdpa_attention_forward, given_heads, mask, scaling=scaling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "DTYPES", ("torch.float32",))
        patch.setattr(attention, "BLOCK", block)
        calls = calls_of_sdpa(patch)
        found = run(blocked_attention, given_heads, mask, scaling=scaling)
    assert not calls
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [127, 129, 300])
def test_in_bfloat16_it_is_near_the_exact_result(length: int) -> None:
    given_heads = heads(length, dtype=BF16)
    found = run(blocked_attention, given_heads)
    exact = run(sdpa_attention_forward, [x.float() for x in given_heads])
    for one, right in zip(found, exact, strict=True):
        assert one.dtype == BF16
        assert (one.float() - right).norm() < 0.01 * right.norm()


def test_documents_in_one_sequence_do_not_see_each_other() -> None:
    together = heads(300, dtype=BF16)
    parts = (slice(0, 100), slice(100, 300))
    mask = packed(100, 200)
    found = run(blocked_attention, together, mask)[0]
    for part in parts:
        others = [x.clone() for x in together]
        for x in others:
            x[:, :, [i for i in range(300) if not part.start <= i < part.stop]] = 9
        assert torch.equal(run(blocked_attention, others, mask)[0][:, part], found[:, part])


def test_no_token_sees_a_later_one() -> None:
    query, key, value = heads(200, dtype=BF16)
    before = run(blocked_attention, [query, key, value])[0]
    value[:, :, 150:] += 1
    after = run(blocked_attention, [query, key, value])[0]
    assert torch.equal(before[:, :150], after[:, :150])
    assert not torch.equal(before[:, 150:], after[:, 150:])


def test_a_row_that_sees_nothing_is_still_a_number() -> None:
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    mask[..., 0, :] = False
    assert all(x.isfinite().all() for x in run(blocked_attention, heads(4, dtype=BF16), mask))


CAUSAL = torch.ones(1, 1, 200, 200, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    ("mask", "rest"),
    [
        (torch.zeros(1, 1, 200, 200, dtype=BF16), {}),
        (torch.ones_like(CAUSAL), {}),
        (CAUSAL[..., :1, :], {}),
        (None, {"is_causal": False}),
        (None, {"dropout": 1e-9}),
        (None, {"position_bias": torch.zeros(1, 6, 200, 200, dtype=BF16)}),
    ],
    ids=["added", "both ways", "one row for all", "not causal", "dropout", "bias"],
)
def test_what_it_cannot_do_is_torchs(mask: Any, rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of_sdpa(monkeypatch)
    run(blocked_attention, heads(200, dtype=BF16), mask, **rest)
    assert len(calls) == 1


def test_without_gradients_and_with_a_cache_it_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of_sdpa(monkeypatch)
    query, key, value = heads(20, dtype=BF16)
    with torch.no_grad():
        blocked_attention(SimpleNamespace(num_key_value_groups=3), query, key, value, None)
    run(blocked_attention, [query[:, :, :1], key, value])
    run(blocked_attention, [query[:, :, :3], key, value])
    run(blocked_attention, heads(20))
    assert len(calls) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_leave_attention_to_others_take_it(kind: str) -> None:
    model = adapted(kind)
    before = model.config._attn_implementation
    with fast_attention(model, None):
        assert model.config._attn_implementation == NAME
    assert model.config._attn_implementation == before == "sdpa"


def test_models_with_another_attention_keep_it() -> None:
    model = adapted()
    model.set_attn_implementation("eager")
    with fast_attention(model, None):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "eager"


def test_a_model_whose_code_goes_by_names_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted()
    layer = type(model.get_base_model().model.layers[0].self_attn)
    plain = layer.forward

    def by_name(self: Any, *args: Any, **rest: Any) -> Any:
        out, weights = plain(self, *args, **rest)
        return (out if self.config._attn_implementation == "sdpa" else out + 1), weights

    monkeypatch.setattr(layer, "forward", by_name)
    with fast_attention(model, None):
        assert model.config._attn_implementation == "sdpa"


def test_a_model_that_cannot_be_asked_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: Any, **rest: Any) -> Any:
        raise TypeError

    model = adapted()
    monkeypatch.setattr(type(model.get_base_model()), "forward", refuses)
    with fast_attention(model, None):
        assert model.config._attn_implementation == "sdpa"


def test_it_is_put_back_after_an_error() -> None:
    model = adapted()
    with pytest.raises(KeyError), fast_attention(model, None):
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
