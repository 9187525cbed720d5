"""An adapter as a GGUF adapter: a base with it is the merged model, in llama.cpp itself."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.export.as_adapter import (
    Pair,
    as_adapter,
    check_as_adapter,
    common_alpha,
    score_with_adapter,
)
from pipeline.export.gguf import convert
from pipeline.gguf_reading import open_reader
from tests.export.architectures import save_model
from tests.export.conftest import save_adapter

WINDOWS = [[7, 1301, 45, 2, 30011, 512, 99, 1024, 6, 6, 781], list(range(900, 960))]


def merged_by_peft(base: Path, adapter: Path, out: Path) -> Path:
    """PEFT's own merge, in float32, so that nothing is rounded."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
    for path in base.glob("*token*"):
        shutil.copyfile(path, out / path.name)
    return out


@pytest.fixture(scope="module")
def base_gguf(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base-gguf")
    convert(base, folder / "base.gguf", folder / "log", "f32")
    return folder / "base.gguf"


@pytest.mark.slow
def test_base_and_adapter_are_the_merged_model(base: Path, base_gguf: Path, tmp_path: Path) -> None:
    ranks = {"rank_pattern": {"q_proj": 4, "down_proj": 2}, "alpha_pattern": {"k_proj": 3}}
    adapter = save_adapter(base, tmp_path / "a", 0.02, use_rslora=True, lora_alpha=12, **ranks)
    log = tmp_path / "log"
    merged = tmp_path / "merged.gguf"
    convert(merged_by_peft(base, adapter, tmp_path / "merged"), merged, log, "f32")
    wanted = score_with_adapter(merged, None, WINDOWS, log)
    plain = score_with_adapter(base_gguf, None, WINDOWS, log)
    assert abs(plain - wanted) > 1, "the adapter does something"
    about = {"general.license": "cc0-1.0", "general.author": "A\x00 “B”\nC", "general.tags": ["x"]}
    for outtype, tolerance in (("f32", 1e-5), ("f16", 1e-4)):
        out = tmp_path / f"{outtype}.gguf"
        header = as_adapter(base, adapter, out, log, outtype=outtype, name="Mine", metadata=about)
        assert score_with_adapter(base_gguf, out, WINDOWS, log) == pytest.approx(
            wanted, rel=tolerance
        )
    assert header.architecture == "llama"
    told = header.metadata
    assert told["general.type"] == "adapter"
    assert told["adapter.type"] == "lora"
    assert told["adapter.lora.alpha"] == pytest.approx(12 * 8**0.5)
    assert (told["general.name"], told["general.author"]) == ("Mine", "A “B” C")
    assert (told["general.license"], told["general.tags"]) == ("cc0-1.0", ["x"])
    assert "blk.1.ffn_down.weight.lora_b" in header.tensors
    assert out.stat().st_size < base_gguf.stat().st_size / 10


@pytest.mark.parametrize(
    "name", ["mistral", "qwen2", "qwen3", "gemma2", "gpt2", "gpt-neox", "phi3"]
)
def test_every_architecture_has_its_rows_where_llama_cpp_has_them(
    name: str, tmp_path: Path
) -> None:
    """The product of the two matrices is what the converter makes of PEFT's own update."""
    from pipeline.export.adapter_worker import _converter, _modified, convert

    base = save_model(name, tmp_path / "base", torch.float32)
    transposed = name == "gpt2"
    adapter = save_adapter(base, tmp_path / "adapter", fan_in_fan_out=transposed)
    pairs = check_as_adapter(base, adapter)
    plan: dict[str, Any] = {
        "base": str(base), "weights": str(adapter / "adapter_model.safetensors"),
        "out": str(tmp_path / "out.gguf"), "outtype": "f32", "alpha": common_alpha(pairs),
        "name": "x", "metadata": {},
        "pairs": [
            {"key": p.key, "a": p.a, "b": p.b, "transposed": p.transposed, "factor": 1.0}
            for p in pairs
        ],
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["", "convert", str(tmp_path / "plan.json")])
        convert(plan)
    written = {
        str(t.name): torch.from_numpy(t.data.copy())
        for t in open_reader(tmp_path / "out.gguf").tensors
    }
    converter = _converter(base, tmp_path / "x.gguf")
    from safetensors.torch import load_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    products = {}
    for pair in pairs:
        for tensor, product in _modified(
            converter, pair.key, tensors[pair.b] @ tensors[pair.a], pair.transposed
        ):
            products[tensor] = product
    assert products and len(written) == 2 * len(products)
    for tensor, product in products.items():
        own = written[f"{tensor}.lora_b"] @ written[f"{tensor}.lora_a"]
        torch.testing.assert_close(own, product, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_dora": True}, "it is a DoRA"),
        ({"trainable_token_indices": [5, 6]}, "it trains rows of model.embed_tokens"),
        (
            {"target_modules": ["q_proj"], "modules_to_save": ["norm"]},
            "it has all of model.layers.0.input_layernorm anew",
        ),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "it changes the embedding"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_in_one_sentence(
    base: Path, tmp_path: Path, settings: dict[str, Any], why: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapter = save_adapter(base, tmp_path / "adapter", **settings)
    with pytest.raises(PipelineError, match=f"cannot be a GGUF adapter: {why}") as refused:
        as_adapter(base, adapter, tmp_path / "out.gguf", tmp_path / "log")
    assert "Leave out --as-adapter" in str(refused.value.hint)
    assert not (tmp_path / "log").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"extra_tokens": ["Nyar"]}, "1 new tokens"), ({"head_dim": 16}, "stretches the positions")],
)
def test_what_training_changed_of_the_base_is_refused(
    base: Path, adapter: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    (copy / "base_changes.json").write_text(json.dumps(changes))
    with pytest.raises(PipelineError, match=why):
        check_as_adapter(base, copy)


def test_the_alpha_is_that_of_most_matrices() -> None:
    pairs = [Pair("k", "a", "b", rank, scale, False) for rank, scale in ((8, 2), (8, 2), (4, 1))]
    assert common_alpha(pairs) == 16


def test_an_adapter_of_numbers_too_large_for_the_type_leaves_no_file(
    base: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(base, tmp_path / "a", 1e6, target_modules=["q_proj"])
    with pytest.raises(PipelineError, match=r"numbers of .*q_proj\.weight are too large"):
        as_adapter(base, adapter, tmp_path / "out.gguf", tmp_path / "log")
    assert not (tmp_path / "out.gguf").exists()
