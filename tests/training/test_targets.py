"""Which layers get an adapter: found for every architecture, or named and checked."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3Config, LlamaForCausalLM

from pipeline.errors import PipelineError, UsageError
from pipeline.training.configs import meta_model
from pipeline.training.targets import find_targets, has_fused_experts, linear_layers
from tests.training.architectures import KINDS, tiny_config

LLAMA_ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
LLAMA_MLP = ["down_proj", "gate_proj", "up_proj"]
ATTENTION = {
    **dict.fromkeys(KINDS, LLAMA_ATTENTION),
    "phi": ["dense", "k_proj", "q_proj", "v_proj"],
    "gpt_neox": ["dense", "query_key_value"],
    "gpt2": ["attn.c_proj", "c_attn"],
}
MLP = {
    **dict.fromkeys(KINDS, LLAMA_MLP),
    "phi": ["fc1", "fc2"],
    "gpt_neox": ["dense_4h_to_h", "dense_h_to_4h"],
    "gpt2": ["c_fc", "mlp.c_proj"],
    "mixtral": [],  # its experts are no linear layers
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_linear_layers_are_found_and_never_the_head(kind: str) -> None:
    model = meta_model(tiny_config(kind))
    found = find_targets(model)
    both = ["c_attn", "c_fc", "c_proj"] if kind == "gpt2" else sorted(ATTENTION[kind] + MLP[kind])
    assert found.linear == both
    assert found.whole == []
    assert find_targets(model, ("all-linear",)) == found


@pytest.mark.parametrize("kind", KINDS)
def test_attention_and_mlp_are_told_apart_by_the_classes_around_a_layer(kind: str) -> None:
    model = meta_model(tiny_config(kind))
    assert find_targets(model, ("attention",)).linear == ATTENTION[kind]
    if MLP[kind]:
        assert find_targets(model, ("mlp",)).linear == MLP[kind]
    else:
        with pytest.raises(UsageError, match="mlp: mixtral has no layers that are known to be"):
            find_targets(model, ("mlp",))


def test_routers_are_left_out_unless_they_are_named() -> None:
    model = meta_model(tiny_config("qwen2_moe"))
    assert not [name for name in linear_layers(model) if name.endswith("gate")]
    assert find_targets(model, ("shared_expert_gate",)).linear == ["shared_expert_gate"]


@pytest.mark.parametrize(
    ("kind", "fused"), [("mixtral", True), ("qwen2_moe", True), ("llama", False)]
)
def test_experts_that_no_adapter_reaches_are_noticed(kind: str, fused: bool) -> None:
    assert has_fused_experts(meta_model(tiny_config(kind))) is fused


def test_names_come_one_by_one_or_with_commas() -> None:
    model = meta_model(tiny_config("llama"))
    assert find_targets(model, ("q_proj, v_proj", "up_proj,")).linear == [
        "q_proj", "up_proj", "v_proj"
    ]  # fmt: skip
    assert find_targets(model, ("attention", "up_proj")).linear == sorted(
        [*LLAMA_ATTENTION, "up_proj"]
    )


def test_one_layer_can_be_meant_by_more_of_its_name() -> None:
    model = meta_model(tiny_config("llama"))
    assert find_targets(model, ("1.self_attn.q_proj",)).linear == ["1.self_attn.q_proj"]
    assert find_targets(model, ("layers.0.mlp.up_proj", "1.mlp.up_proj")).linear == ["up_proj"]


def test_norms_and_embeddings_are_trained_whole_beside_an_adapter() -> None:
    model = meta_model(tiny_config("llama"))
    found = find_targets(model, ("attention", "embed_tokens", "norm"))
    assert found.linear == LLAMA_ATTENTION
    # Not "norm" alone: PEFT would take input_layernorm for it, too.
    assert found.whole == ["embed_tokens", "model.norm"]
    assert find_targets(model, ("q_proj,input_layernorm",)).whole == ["input_layernorm"]
    with pytest.raises(UsageError, match="norm names no linear layer, and an adapter needs one"):
        find_targets(model, ("norm",))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("q_porj", "Did you mean q_proj?"),
        ("atention", "Did you mean attention?"),
        ("zzz", "It has"),
    ],
)
def test_a_layer_that_is_not_there_is_refused_with_the_nearest(name: str, hint: str) -> None:
    model = meta_model(tiny_config("llama"))
    with pytest.raises(UsageError, match=f"--target-modules {name}: llama has no layer") as caught:
        find_targets(model, (name,))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


def test_what_can_take_no_adapter_is_refused() -> None:
    model = meta_model(tiny_config("llama"))
    with pytest.raises(UsageError, match=r"model.layers.0.self_attn is a LlamaAttention"):
        find_targets(model, ("self_attn",))


def test_a_picture_encoder_is_left_out() -> None:
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 8, "patch_size": 4,
    }  # fmt: skip
    text = tiny_config("gemma3_text").to_dict()
    model = meta_model(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))
    names = linear_layers(model)
    assert any("vision" in name for name, _ in model.named_modules())
    assert len(names) == 14
    assert not [name for name in names if "vision" in name]
    # Its q_proj must not be meant by the name of the text's.
    targets = find_targets(model, ("attention",)).linear
    meant = [n for n, _ in model.named_modules() if any(n.endswith(f".{t}") for t in targets)]
    assert sorted(meant) == sorted(n for n in names if "self_attn" in n)


def test_a_model_without_linear_layers_is_refused() -> None:
    model = LlamaForCausalLM(tiny_config("llama", num_hidden_layers=0))
    with pytest.raises(PipelineError, match="llama has no linear layers"):
        find_targets(model)


def test_a_model_of_names_only_takes_no_memory() -> None:
    model = meta_model(tiny_config("llama"))
    assert {p.device for p in model.parameters()} == {torch.device("meta")}
    real = AutoModelForCausalLM.from_config(tiny_config("llama"))
    assert [n for n, _ in model.named_modules()] == [n for n, _ in real.named_modules()]
