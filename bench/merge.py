"""The merge beside PEFT's own, on a model made for it, each in a process of its own.

    python -m bench.merge [--gigabytes 2] [--max-memory 4294967296] [--only-ours] [--folder PLACE]

The model is a Llama of that size in bfloat16 with random weights, the adapter a LoRA of rank 16 on
all its linear layers. PEFT's way is `merge_and_unload` and `save_pretrained`; ours does the same
and copies no tokenizer, since there is none. Both begin with the files in the disk's cache. Memory
is the peak of the process (ru_maxrss); the floor is what the libraries take once imported.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.table import print_ratios

RANK = 16
SHAPES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32,
              "num_key_value_heads": 4, "vocab_size": 32_000},
    "large": {"hidden_size": 4096, "intermediate_size": 14_336, "num_attention_heads": 32,
              "num_key_value_heads": 8, "vocab_size": 128_256},
}  # fmt: skip


def make_model(folder: Path, gigabytes: float) -> None:
    """Write a model of about that size with random weights, and an adapter beside it."""
    from transformers import LlamaConfig

    shape = SHAPES["large" if gigabytes >= 8 else "small"]
    layers = 1
    while parameters(shape, layers) * 2 < gigabytes * 0.97e9:
        layers += 1
    config = LlamaConfig(**shape, num_hidden_layers=layers, dtype="bfloat16")
    config.architectures = ["LlamaForCausalLM"]
    write_llama(folder, config)


def write_llama(folder: Path, config: Any) -> None:
    """Write a model of that configuration to `folder`/base, the same random numbers over and over,
    and a LoRA adapter to `folder`/adapter: quick, and in little memory."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from pipeline.tensor_files import Planned, as_matrix, write_folder

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    base, adapter = folder / "base", folder / "adapter"
    config.save_pretrained(base)
    noise = (torch.randn(4_000_037) * 0.02).bfloat16()

    def pieces(tensor: Planned) -> Iterator[Callable[[], torch.Tensor]]:
        left = tensor.size // 2
        while left:
            piece = noise[: min(left, len(noise))]
            left -= len(piece)
            yield partial(torch.Tensor.clone, piece)

    weights = dict(model.named_parameters())  # a tied one is there only once
    planned = [Planned(name, "BF16", tuple(w.shape)) for name, w in weights.items()]
    write_folder(base, planned, pieces)

    LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM",
               base_model_name_or_path=str(base)).save_pretrained(str(adapter))  # fmt: skip
    tensors = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            rows, columns = module.weight.shape
            prefix = f"base_model.model.{name}"
            tensors.append(Planned(f"{prefix}.lora_A.weight", "F32", (RANK, columns)))
            tensors.append(Planned(f"{prefix}.lora_B.weight", "F32", (rows, RANK)))

    def factors(tensor: Planned) -> Iterator[Callable[[], torch.Tensor]]:
        yield lambda: torch.randn(*as_matrix(tensor.shape)) * 0.02

    write_folder(adapter, tensors, factors)
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")


def parameters(shape: dict[str, Any], layers: int) -> int:
    """How many numbers a Llama of that shape has, but for its norms."""
    hidden = shape["hidden_size"]
    shared = shape["num_key_value_heads"] / shape["num_attention_heads"]
    layer = hidden * hidden * (2 + 2 * shared) + 3 * hidden * shape["intermediate_size"]
    return round(layers * layer + 2 * shape["vocab_size"] * hidden)


def ours(folder: Path, max_memory: int) -> None:
    """The pipeline's merge."""
    from pipeline.export.merge import merge_adapter

    merge_adapter(folder / "base", folder / "adapter", folder / "ours", max_memory=max_memory)


def pefts(folder: Path, _: int) -> None:
    """What PEFT's documentation says."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(model, folder / "adapter").merge_and_unload()
    merged.save_pretrained(folder / "peft")


def floor(_folder: Path, _: int) -> None:
    """Only the libraries."""
    from peft import PeftModel  # noqa: F401
    from transformers import LlamaForCausalLM  # noqa: F401


WAYS = {"floor": floor, "peft": pefts, "ours": ours}


def measure(way: str, folder: Path, max_memory: int) -> tuple[float, int]:
    """(seconds without imports, peak memory in bytes) of one way, in a process of its own."""
    command = [sys.executable, "-m", "bench.merge", "--worker", way, "--folder", str(folder)]
    command += ["--max-memory", str(max_memory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result["seconds"], result["peak"]


def work(way: str, folder: Path, max_memory: int) -> None:
    """What the process does."""
    floor(folder, 0)
    start = time.perf_counter()
    WAYS[way](folder, max_memory)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak}) + "\n")


def compare(folder: Path, max_memory: int, ways: list[str]) -> None:
    """Measure each way and print the table."""
    size = sum(file.stat().st_size for file in (folder / "base").iterdir())
    results = {way: measure(way, folder, max_memory) for way in ways}
    least = results["floor"][1]
    sys.stdout.write(f"model of {size / 1e9:.2f} GB\n")
    for way, (seconds, peak) in results.items():
        sys.stdout.write(
            f"{way:<6} {seconds:8.2f} s  {peak / 1e6:8,.0f} MB"
            f"  {(peak - least) / 1e6:8,.0f} MB beyond the floor\n"
        )
    if "peft" in results:
        print_ratios({way: results[way][0] for way in ("peft", "ours")}, [("peft", "ours")])
        memory = [(results[way][1] - least) / 1e6 for way in ("peft", "ours")]
        sys.stdout.write(f"memory beyond the floor, peft / ours: {memory[0] / memory[1]:.1f}\n")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--max-memory", type=int, default=4 * 2**30)
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--worker", choices=WAYS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.folder, options.max_memory)
        return
    ways = ["floor", "ours"] if options.only_ours else ["floor", "peft", "ours"]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_model(folder, options.gigabytes)
        compare(folder, options.max_memory, ways)


if __name__ == "__main__":
    main()
