"""The process that writes a GGUF adapter, or scores one: `python -m pipeline.export.adapter_worker
convert|score PLAN`, where PLAN is a JSON file (see `pipeline.export.as_adapter`).

The names and the order of rows are those of llama.cpp's own converter: each pair of matrices goes
through its code for the tensor that it belongs to.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.export.converter_configs import bridge
from pipeline.export.parent import follow_parent

if TYPE_CHECKING:
    import torch

CLOSE = 1e-4  # of the largest number: what float32 may lose in a product of a thousand terms


def main() -> int:
    """Do what is asked. What goes wrong ends it with a traceback, which is the log."""
    follow_parent()
    what, plan = sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8"))
    OPERATIONS[what](plan)
    return 0


# --- convert --------------------------------------------------------------------------------------


def convert(plan: dict[str, Any]) -> None:
    """Write the adapter. Raises ValueError if the converter knows no such model or matrix."""
    import gguf
    import numpy as np
    import torch
    from safetensors import safe_open

    with torch.inference_mode():
        converter = _converter(Path(plan["base"]), Path(plan["out"]))
        writer = gguf.GGUFWriter(plan["out"], gguf.MODEL_ARCH_NAMES[converter.model_arch])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, plan["alpha"])
        _describe(writer, plan)
        kinds: set[str] = set()
        with safe_open(plan["weights"], framework="pt") as tensors:
            for pair in plan["pairs"]:
                a, b = (tensors.get_tensor(pair[name]).float() for name in ("a", "b"))
                kind = re.sub(r"\d+", "", pair["key"])
                made = through_converter(
                    converter, pair["key"], a, b * pair["factor"], pair["transposed"],
                    check=kind not in kinds,
                )  # fmt: skip
                kinds.add(kind)
                for name, matrix in made:
                    numbers = _numbers(matrix, plan["outtype"], pair["key"])
                    writer.add_tensor(name, np.ascontiguousarray(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _converter(base: Path, out: Path) -> Any:
    """llama.cpp's converter for the base's architecture. It reads only names of the weights."""
    import gguf
    from conversion import (  # type: ignore[import-untyped]
        ModelBase,
        ModelType,
        get_model_architecture,
        get_model_class,
    )

    bridge()
    hparams = ModelBase.load_hparams(base, False)
    architecture = get_model_architecture(hparams, ModelType.TEXT)
    return get_model_class(architecture)(base, gguf.LlamaFileType.ALL_F32, out, dry_run=True)


def _describe(writer: Any, plan: dict[str, Any]) -> None:
    import gguf

    overrides = Path(sys.argv[2]).with_name("metadata.json")
    overrides.write_text(json.dumps(plan["metadata"]), encoding="utf-8")
    metadata = gguf.Metadata.load(overrides, None, plan["name"])
    metadata.license = plan["metadata"].get("general.license")
    metadata.set_gguf_meta_model(writer)


def _numbers(matrix: "torch.Tensor", outtype: str, key: str) -> Any:
    import torch

    numbers = matrix.to(torch.float16 if outtype == "f16" else torch.float32)
    if not numbers.isfinite().all():
        raise ValueError(f"numbers of {key} are too large, or not finite")
    return numbers.numpy()


def through_converter(
    converter: Any, key: str, a: "torch.Tensor", b: "torch.Tensor", transposed: bool, *, check: bool
) -> "Iterator[tuple[str, torch.Tensor]]":
    """The two matrices, under the names and in the order of rows that the converter gives the
    tensor `key` of the base, which their product is added to.

    The converter moves rows (those of a head, say) and knows nothing of products. So it is given
    matrices of the tensor's own shape whose columns are those of B. With `check` the product is
    put through as well, and must be the same: ValueError if it is not.
    """
    import torch

    rows, rank = b.shape
    columns = a.shape[1]
    parts: dict[str, list[torch.Tensor]] = {}
    for start in range(0, rank, columns):
        part = b[:, start : start + columns]
        padded = torch.zeros(rows, columns)
        padded[:, : part.shape[1]] = part
        for name, made in _modified(converter, key, padded, transposed):
            parts.setdefault(name, []).append(made[:, : part.shape[1]])
    moved = {name: torch.cat(pieces, dim=1) for name, pieces in parts.items()}
    if not moved:
        raise ValueError(f"llama.cpp has no tensor of its own for {key}")
    if check:
        for name, product in _modified(converter, key, b @ a, transposed):
            own = moved[name] @ a if name in moved else None
            limit = CLOSE * float(product.abs().max())
            if own is None or own.shape != product.shape or (own - product).abs().max() > limit:
                raise ValueError(f"llama.cpp changes {key} in a way that no adapter can follow")
    for name, matrix in moved.items():
        yield f"{name}.lora_a", a
        yield f"{name}.lora_b", matrix


def _modified(
    converter: Any, key: str, matrix: "torch.Tensor", transposed: bool
) -> "list[tuple[str, torch.Tensor]]":
    block = next((int(part) for part in key.split(".") if part.isdecimal()), None)
    item = converter.filter_tensors((key, lambda: matrix))
    if item is None:
        return []
    matrix = matrix.T.contiguous() if transposed else matrix
    return [(name, made.float()) for name, made in converter.modify_tensors(matrix, item[0], block)]


# --- score ----------------------------------------------------------------------------------------


def score(plan: dict[str, Any]) -> None:
    """Print the nats of each window."""
    import ctypes

    import llama_cpp

    from pipeline.export import llama_engine as engine

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # llama.cpp may print to stdout
    engine.log_to_stderr()
    model = engine.Model(Path(plan["base"]))
    length = max(map(len, plan["windows"]))
    batch = engine.scoring_batch(model)
    with engine.Context(
        model, length, threads=plan["threads"], batch=batch, all_logits=True
    ) as context:
        if plan["adapter"]:
            adapter = llama_cpp.llama_adapter_lora_init(model.handle, os.fsencode(plan["adapter"]))
            if not adapter:
                raise ValueError(f"{plan['adapter']} does not fit {plan['base']}")
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
            llama_cpp.llama_set_adapters_lora(context.handle, adapters, 1, (ctypes.c_float * 1)(1))
        for window, mask in zip(plan["windows"], plan["masks"], strict=True):
            nats = sum(part for part, _ in engine.window_nats(context, window, mask))
            answers.write(f"{nats!r}\n")
            answers.flush()


OPERATIONS = {"convert": convert, "score": score}

if __name__ == "__main__":
    sys.exit(main())
