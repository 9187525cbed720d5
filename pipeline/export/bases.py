"""The tensors of a base model as an adapter meets them."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.export.packed import unpacked
from pipeline.tensor_files import Source, read_folder


def read_base(base_dir: Path, config: dict[str, Any]) -> dict[str, Source]:
    """The base's tensors by name, those in four bits unpacked. Reads headers only.

    Raises PipelineError: they are not whole, or quantized in another way.
    """
    stored = read_folder(base_dir, "base model")
    packing = config.get("quantization_config")
    if not isinstance(packing, dict):
        return dict(stored)
    bits = packing.get("load_in_4bit") or packing.get("_load_in_4bit")
    if packing.get("quant_method") != "bitsandbytes" or not bits:
        raise PipelineError(
            f"The base model in {base_dir} is stored quantized"
            f" ({str(packing.get('quant_method'))[:40]}); an adapter is merged into 16-bit"
            " weights, or into 4-bit ones of bitsandbytes.",
            "Give the 16-bit original of the model with --merge-base.",
        )
    return unpacked(stored, base_dir)
