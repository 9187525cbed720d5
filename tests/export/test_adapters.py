"""What an adapter changes is understood in full, or the adapter is refused."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.export.merge import merge_adapter
from tests.export.architectures import save_model
from tests.export.conftest import save_adapter
from tests.export.test_names import assert_same, pefts, state

TIED, UNTIED = "llama-tied", "llama"


@pytest.mark.filterwarnings("ignore:Model (with|has) `tie_word")
@pytest.mark.parametrize("name", [TIED, UNTIED])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"modules_to_save": ["lm_head", "norm"]},
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": [99, 3, 17]},
        {"trainable_token_indices": {"embed_tokens": [5], "lm_head": [6, 7]}},
        {"r": 4, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 32}},
        {"target_modules": r".*\.1\..*_proj", "exclude_modules": ["o_proj"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    ],
    ids=["embedding", "both ends", "saved head", "saved input", "tokens", "tokens at both ends",
         "patterns", "expression", "one layer"],
)  # fmt: skip
def test_every_kind_of_change_is_merged_as_peft_does(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    if name == TIED and isinstance(settings.get("trainable_token_indices"), dict):
        pytest.skip("PEFT trains other tokens at the two ends only where they are not tied")
    base = save_model(name, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter", **settings)
    merge_adapter(base, adapter, tmp_path / "merged")
    expected = pefts(base, adapter, torch.bfloat16)
    if name == TIED:
        expected = untied(base, adapter, expected)
    assert_same(tmp_path / "merged", expected)


def untied(base: Path, adapter: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """PEFT's own merge changes both ends of a tie in float32 where the adapter has one only; what
    it computes with the adapter is the base's end where the adapter says nothing of it."""
    original = state(base)
    keys = " ".join(load_file(adapter / "adapter_model.safetensors"))
    if "trainable_tokens" in keys:
        return expected
    for end in ("model.embed_tokens", "lm_head"):
        if end not in keys:
            expected[f"{end}.weight"] = original[f"{end}.weight"]
    if "embed_tokens.lora" in keys and "lm_head.lora" in keys:
        lora = {k: v.double() for k, v in load_file(adapter / "adapter_model.safetensors").items()}
        start = "base_model.model."
        weight = original["lm_head.weight"].double()
        ends = (f"{start}model.embed_tokens.lora_embedding_", f"{start}lm_head.lora_")
        update = (lora[f"{ends[0]}B"] @ lora[f"{ends[0]}A"]).T
        expected["model.embed_tokens.weight"] = (weight + update).bfloat16()
        update = lora[f"{ends[1]}B.weight"] @ lora[f"{ends[1]}A.weight"]
        expected["lm_head.weight"] = (weight + update).bfloat16()
    return expected


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({}, True),
        ({"trainable_token_indices": [4, 5]}, True),
        ({"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}, True),
        ({"modules_to_save": ["lm_head"]}, False),
    ],
    ids=["elsewhere", "tokens", "both saved as one", "head alone"],
)
@pytest.mark.filterwarnings("ignore:Model (with|has) `tie_word")
def test_tie_is_kept_unless_its_ends_become_different(
    settings: dict[str, Any], stays: bool, tmp_path: Path
) -> None:
    base = save_model(TIED, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter", **settings)
    merge_adapter(base, adapter, tmp_path / "merged")
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    assert ("lm_head.weight" not in stored) is stays
    config = json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))
    assert config["tie_word_embeddings"] is stays


def grow(base: Path, folder: Path, tokens: int, indices: Any, **settings: Any) -> Path:
    """Save an adapter that was trained after the vocabulary had grown."""
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model.resize_token_embeddings(tokens, mean_resizing=False)
        config = LoraConfig(
            task_type="CAUSAL_LM", target_modules=["q_proj"], trainable_token_indices=indices
        )
        adapted = get_peft_model(model, config)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter))
        adapted.save_pretrained(str(folder), **settings)
        merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
    save_file(
        {k: v.bfloat16().contiguous() + 0 for k, v in merged.state_dict().items()},
        folder / "expected.safetensors",
    )
    return folder


@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize(
    ("name", "indices"),
    [
        (TIED, [100, 101, 102]),
        (TIED, [7, 102, 100, 101]),
        (TIED, {"model.embed_tokens": [100, 101, 102]}),
        (UNTIED, {"embed_tokens": [100, 101, 102], "lm_head": [100, 101, 102]}),
        ("phi", {"embed_tokens": [100, 101, 102], "lm_head": [100, 101, 102]}),
    ],
)
def test_new_tokens_make_the_embedding_longer(
    name: str, indices: Any, save: bool, tmp_path: Path
) -> None:
    base = save_model(name, tmp_path / "base")
    adapter = grow(base, tmp_path / "adapter", 103, indices, save_embedding_layers=save)
    merge_adapter(base, adapter, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))
    assert config["vocab_size"] == 103
    assert config["tie_word_embeddings"] is (name == TIED)
    assert_same(tmp_path / "merged", load_file(adapter / "expected.safetensors"))


def test_new_tokens_with_no_row_at_the_output_are_refused(tmp_path: Path) -> None:
    base = save_model(UNTIED, tmp_path / "base")
    adapter = grow(base, tmp_path / "adapter", 103, [100, 101, 102], save_embedding_layers=False)
    with pytest.raises(PipelineError, match=r"trained with 103 tokens.*new in lm_head\.weight"):
        merge_adapter(base, adapter, tmp_path / "merged")


def test_gap_among_the_new_tokens_is_refused(tmp_path: Path) -> None:
    base = save_model(TIED, tmp_path / "base")
    adapter = grow(base, tmp_path / "adapter", 103, [100, 102], save_embedding_layers=False)
    with pytest.raises(PipelineError, match=r"trained with 103 tokens.*embed_tokens"):
        merge_adapter(base, adapter, tmp_path / "merged")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and an adapter that fits it."""
    folder = tmp_path_factory.mktemp("whole")
    base = save_model(TIED, folder / "base")
    return base, save_adapter(base, folder / "adapter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peft_type", "LOHA"),
        ("peft_type", None),
        ("bias", "all"),
        ("lora_bias", True),
        ("init_lora_weights", "pissa"),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("use_qalora", True),
        ("alora_invocation_tokens", [1]),
        ("something_of_next_year", {"strength": 2}),
    ],
)
def test_setting_that_is_not_understood_is_named(
    name: str, value: Any, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(whole[1], tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps(config | {name: value}), "utf-8")
    with pytest.raises(PipelineError, match=f"cannot be merged: its setting {name} is"):
        merge_adapter(whole[0], adapter, tmp_path / "merged")


@pytest.mark.parametrize("ids", [[-1], [1, 1], ["1"], [True], 7, {"lm_head": [2.0]}])
def test_tokens_that_are_no_token_ids_are_refused(
    ids: Any, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(whole[1], tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    text = json.dumps(config | {"trainable_token_indices": ids})
    (adapter / "adapter_config.json").write_text(text, "utf-8")
    with pytest.raises(PipelineError, match=r"adapter_config\.json is damaged"):
        merge_adapter(whole[0], adapter, tmp_path / "merged")


def test_unknown_setting_that_is_off_does_not_matter(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(whole[1], tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    off: dict[str, Any] = {"something_of_next_year": None, "use_dora": False, "another": []}
    (adapter / "adapter_config.json").write_text(json.dumps(config | off), "utf-8")
    merge_adapter(whole[0], adapter, tmp_path / "merged")
    assert_same(tmp_path / "merged", pefts(whole[0], whole[1], torch.bfloat16))


def test_target_that_the_model_does_not_have_is_refused(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(whole[1], tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    text = json.dumps(config | {"target_modules": ["c_attn"]})
    (adapter / "adapter_config.json").write_text(text, "utf-8")
    with pytest.raises(PipelineError, match=r"does not fit the base model .*c_attn"):
        merge_adapter(whole[0], adapter, tmp_path / "merged")


def test_adapter_of_another_architecture_is_refused(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    other = save_model("gpt2", tmp_path / "other")
    with pytest.raises(PipelineError, match="does not fit the base model"):
        merge_adapter(other, whole[1], tmp_path / "merged")


def test_wrong_scale_would_be_noticed(whole: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(whole[1], tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    text = json.dumps(config | {"lora_alpha": config["lora_alpha"] * 1.1})
    (adapter / "adapter_config.json").write_text(text, "utf-8")
    merge_adapter(whole[0], adapter, tmp_path / "merged")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "merged", pefts(whole[0], whole[1], torch.bfloat16))


def test_layer_of_a_kind_that_is_not_merged_is_named(tmp_path: Path) -> None:
    base = save_model("lfm2", tmp_path / "base")
    adapter = save_adapter(
        base, tmp_path / "adapter", r=32, target_modules=["conv.conv", "in_proj"]
    )
    with pytest.raises(PipelineError, match=r"layers\.0\.conv\.conv, which is of a kind.*Conv1d"):
        merge_adapter(base, adapter, tmp_path / "merged")


def test_experts_named_one_by_one_are_refused_and_not_left_out(tmp_path: Path) -> None:
    base = save_model("mixtral", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    path = adapter / "adapter_model.safetensors"
    place = "base_model.model.model.layers.0.block_sparse_moe.experts.0.w1"
    older = {
        f"{place}.lora_A.weight": torch.ones(8, 32),
        f"{place}.lora_B.weight": torch.ones(48, 8),
    }
    save_file(load_file(path) | older, path)
    with pytest.raises(PipelineError, match=r"2 of its tensors have no place there.*experts\.0"):
        merge_adapter(base, adapter, tmp_path / "merged")
