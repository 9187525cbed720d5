"""Labels stand where they should, padding is known by lengths, and packed rows are alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from pipeline.errors import PipelineError
from pipeline.training.batches import (
    IGNORED,
    TOKENS,
    Collator,
    check_isolation,
    sequences_of,
)
from tests.tiny_models import tiny_llama

X = IGNORED
EOS = 2


def sequence(*rows: list[int], trained: list[list[bool] | None] | None = None) -> dict[str, Any]:
    masks = trained or [None] * len(rows)
    return {
        "rows": [
            (np.array(row, "<u2"), None if mask is None else np.array(mask))
            for row, mask in zip(rows, masks, strict=True)
        ]
    }


@pytest.mark.parametrize("pad_id", [0, EOS])
@pytest.mark.parametrize("packed", [True, False])
def test_padding_is_never_trained_and_the_end_token_always_is(pad_id: int, packed: bool) -> None:
    batch = Collator(pad_id, packed=packed)(
        [sequence([5, 6, 7, 8, EOS]), sequence([0, 6, EOS]), sequence([5, 9]), sequence([7])]
    )
    p = pad_id
    assert batch["input_ids"].tolist() == [
        [5, 6, 7, 8, EOS], [0, 6, EOS, p, p], [5, 9, p, p, p], [7, p, p, p, p],
    ]  # fmt: skip
    assert batch["labels"].tolist() == [
        [X, 6, 7, 8, EOS], [X, 6, EOS, X, X], [X, 9, X, X, X], [X, X, X, X, X],
    ]  # fmt: skip
    assert batch[TOKENS] == 11
    assert ("attention_mask" in batch) is not packed
    if not packed:
        assert batch["attention_mask"].sum(1).tolist() == [5, 3, 2, 1]


def test_rows_that_share_a_sequence_begin_anew_each() -> None:
    batch = Collator(0, packed=True)([sequence([5, 6, EOS], [7], [8, EOS]), sequence([5] * 8)])
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert batch["labels"][0].tolist() == [X, 6, EOS, X, X, EOS, X, X]
    assert "attention_mask" not in batch


def test_only_what_is_trained_has_a_label() -> None:
    one, two = [False, False, True, True], [False, True, False]
    batch = Collator(0, packed=True)([sequence([4, 5, 6, EOS], [7, 8, 9], trained=[one, two])])
    assert batch["labels"].tolist() == [[X, X, 6, EOS, X, 8, X]]


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from("ab")), max_size=40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_sequence_with_rows_of_its_group_only(
    rows: list[tuple[int, str]], packing: bool
) -> None:
    lengths, groups = [n for n, _ in rows], [group for _, group in rows]
    found = sequences_of(lengths, 12, groups, packing=packing)
    assert Counter(row for each in found for row in each) == Counter(range(len(rows)))
    assert all(sum(lengths[row] for row in each) <= 12 for each in found)
    assert all(len({groups[row] for row in each}) == 1 for each in found)
    assert [each[0] for each in found] == sorted(each[0] for each in found)


def test_rows_of_full_length_stay_as_they_are_and_short_ones_fill_up() -> None:
    assert sequences_of([8, 3, 8, 5, 8], 8, [None] * 5, packing=True) == [[0], [1, 3], [2], [4]]


SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5, layer_types=["sliding_attention",
                         "full_attention"], pad_token_id=0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_packed_logits_are_those_of_each_row_alone(name: str, attention: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.set_attn_implementation(attention)
    rows = [torch.randint(0, 60, (n,)).tolist() for n in (7, 1, 12, 4)]
    batch = Collator(0, packed=True)([sequence(*rows), sequence(rows[2], rows[0])])
    batch.pop(TOKENS)
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits
        alone = [model(torch.tensor([row])).logits[0] for row in rows]
    assert torch.allclose(packed[0], torch.cat(alone), atol=1e-5)
    assert torch.allclose(packed[1, :19], torch.cat([alone[2], alone[0]]), atol=1e-5)
    assert not torch.allclose(packed[0, 8:20], packed[0, 7:19], atol=1e-2), "else it shows nothing"
    check_isolation(model)


def test_a_model_that_lets_rows_see_each_other_is_refused() -> None:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, state_size=4)

    class Recurrent(MambaForCausalLM):
        def forward(self, *args: Any, position_ids: Any = None, **rest: Any) -> Any:
            return super().forward(*args, **rest)

    with pytest.raises(PipelineError, match="Recurrent cannot keep documents apart") as caught:
        check_isolation(Recurrent(config))
    assert caught.value.hint == "Add --no-packing."


@pytest.mark.parametrize("packed", [True, False])
def test_a_sequence_in_a_batch_costs_what_it_costs_alone(tmp_path: Path, packed: bool) -> None:
    base = tiny_llama(tmp_path / "model", pad="</s>")
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    rows = [sequence(list(range(3, n))) for n in (40, 17, 9)]
    collate = Collator(EOS, packed=packed)

    def nats(sequences: list[dict[str, Any]]) -> float:
        batch = collate(sequences)
        batch.pop(TOKENS)
        trained = (batch["labels"] != IGNORED).sum()
        with torch.no_grad():
            return (model(**batch).loss * trained).item()

    assert nats(rows) == pytest.approx(sum(nats([row]) for row in rows), rel=1e-5)
