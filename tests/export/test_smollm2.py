"""The whole way with the real SmolLM2-135M: adapter, merge, GGUF, quantize, score, complete."""

import math
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pipeline.export.gguf import convert, quantize
from pipeline.export.llama import complete, score
from pipeline.export.merge import merge_adapter
from tests.export.conftest import save_adapter
from tests.export.test_llama import PROMPT, torch_nats
from tests.tiny_models import TALE


@pytest.mark.slow
def test_real_model_all_the_way(smollm2_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    adapter = save_adapter(smollm2_dir, tmp_path / "adapter", strength=0.002)
    merge_adapter(smollm2_dir, adapter, tmp_path / "merged")
    convert(tmp_path / "merged", tmp_path / "bf16.gguf", log)
    quantize(tmp_path / "bf16.gguf", tmp_path / "q4_k_m.gguf", "q4_k_m", log)
    assert (tmp_path / "q4_k_m.gguf").stat().st_size < 0.45 * (
        tmp_path / "bf16.gguf"
    ).stat().st_size

    ids = AutoTokenizer.from_pretrained(smollm2_dir)(TALE * 2)["input_ids"]
    windows = [ids[start : start + 64] for start in range(0, 192, 64)]
    tokens = sum(len(window) - 1 for window in windows)
    expected = torch_nats(tmp_path / "merged", windows)

    def bits_per_token_off(gguf: str) -> float:
        return (score(tmp_path / gguf, windows, log) - expected) / tokens / math.log(2)

    assert abs(bits_per_token_off("bf16.gguf")) < 0.005
    assert abs(bits_per_token_off("q4_k_m.gguf")) < 0.3

    done = complete(tmp_path / "q4_k_m.gguf", PROMPT, max_tokens=40, seed=1, log=log)
    assert len(done.text.split()) > 10
