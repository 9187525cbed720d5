"""Read back what a GGUF file says about itself, without loading a model."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.gguf_reading import open_reader

UNKNOWN_CONTEXT = 2048  # tokens, of a model that says nothing
# What the reader raises on bytes that make no sense.
_DAMAGE = (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError, struct.error)


@dataclass(frozen=True)
class Header:
    """What `read_header` finds: `metadata` by key, `tensors` as name -> quantization type."""

    architecture: str
    metadata: dict[str, Any]
    tensors: dict[str, str]
    parameters: int


def check_gguf(path: Path) -> None:
    """Raise a PipelineError unless there is a file that begins like a GGUF; takes no time."""
    if not path.is_file():
        raise PipelineError(f"There is no GGUF file {path}.", "Is the path right?")
    with path.open("rb") as source:
        if source.read(4) != b"GGUF":
            raise PipelineError(f"{path} is not a GGUF file.", "Is it the right file?")


def tensor_count(path: Path) -> int:
    """How many tensors a GGUF says it has; reads 16 bytes (magic, version, count)."""
    check_gguf(path)
    with path.open("rb") as source:
        start = source.read(16)
    if len(start) < 16:
        raise PipelineError(f"{path} is damaged or not whole: it has {len(start)} bytes.")
    return int(struct.unpack_from("<Q", start, 8)[0])


def read_header(path: Path) -> Header:
    """Read a GGUF's metadata and its list of tensors, and check that all their bytes are there.

    Raises:
        PipelineError: not there, not a GGUF, or shorter than its own header says.
    """
    check_gguf(path)
    try:
        reader = open_reader(path)
    except _DAMAGE as error:
        raise PipelineError(
            f"{path} is damaged or not whole: its {path.stat().st_size:,} bytes end before its"
            " header says so, or make no sense.",
            "Make or download it again.",
        ) from error
    architecture = reader.fields.get("general.architecture")
    if architecture is None or not reader.tensors:
        raise PipelineError(f"{path} is a GGUF file without a model in it.")
    return Header(
        architecture=str(architecture.contents()),
        metadata={
            key: field.contents()
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.") and field.data
        },
        tensors={str(t.name): t.tensor_type.name.lower() for t in reader.tensors},
        parameters=sum(int(t.n_elements) for t in reader.tensors),
    )


def metadata(path: Path) -> dict[str, Any]:
    """A GGUF's metadata as plain values; lists of more than 64 entries are left out."""
    return read_header(path).metadata


def trained_context(gguf: Path, proof: Mapping[str, Any]) -> int:
    """How many tokens a model was trained to see at once: by `proof`, stage 7's account of its
    files, if the GGUF is one of them, else by its own header, which has the base's."""
    context = proof.get("context")
    if gguf.name in proof.get("files", {}) and isinstance(context, int) and context > 0:
        return context
    header = metadata(gguf)
    trained = header.get(f"{header.get('general.architecture')}.context_length")
    return trained if isinstance(trained, int) and trained > 0 else UNKNOWN_CONTEXT
