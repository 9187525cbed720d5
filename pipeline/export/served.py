"""What a Modelfile or a server speaks of: a GGUF of stage 7, or its adapter and a base model."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import PipelineError, UsageError
from pipeline.export.header import metadata
from pipeline.export.ollama import ModelName, parse_name
from pipeline.export.quantizations import check_quantization
from pipeline.files import read_json_object

ARCHITECTURE = "general.architecture"
_PROOF = "proof.json"


class Parts(NamedTuple):
    """What a Modelfile speaks of: a GGUF, or an adapter and its base, a GGUF or Ollama's own."""

    gguf: Path | None
    adapter: Path | None = None
    model: ModelName | None = None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.gguf, self.adapter) if path is not None]


def read_proof(inputs: list[Path]) -> dict[str, Any]:
    """The proof of stage 7."""
    path = next((path for path in inputs if path.name == _PROOF), None)
    if path is None:
        raise PipelineError(
            f"{inputs[0].parent} has no {_PROOF}.", "Run `pipeline quantize` first."
        )
    return read_json_object(path)


def chat_ends(gguf: Path, proof: Mapping[str, Any]) -> tuple[str, ...]:
    """What ends an answer of a model that was trained on chats, besides its end tokens.

    It stands in the proof.json beside the GGUF, else in `proof`, stage 7's account of its files;
    () where neither tells of this file, or it does not go on from chats.
    """
    beside: dict[str, Any] = {}
    with suppress(PipelineError, OSError):  # a stranger's file need not be what its name says
        beside = read_json_object(gguf.parent / _PROOF)
    for told in (beside, proof):
        if gguf.name in _mapping(told.get("files")):
            ends = _mapping(_mapping(told.get("evaluation")).get("chat")).get("ends")
            known = ends if isinstance(ends, list) else []
            return tuple(end for end in known if isinstance(end, str) and end)
    return ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def choose_parts(
    inputs: list[Path], proof: dict[str, Any], gguf: str | None, base: str | None
) -> Parts:
    """The GGUF that was asked for, the first if none was; or the adapter, if a base is named.

    Raises:
        UsageError: there is none of that type or name; an adapter without a base, or the reverse.
        PipelineError: there is none at all, or base and adapter are of different architectures.
    """
    by_name = {path.name: path for path in inputs}
    adapter = by_name.get((proof.get("adapter") or {}).get("file", ""))
    whole = [by_name[name] for name in proof.get("files", {}) if name in by_name]
    whole = [path for path in whole if path != adapter]
    if base is not None:
        if gguf is not None:
            raise UsageError("--gguf chooses a whole model, and --from the base of an adapter.")
        return _with_base(adapter, base, inputs[0].parent)
    if gguf is not None:
        found = [path for path in whole if path.name == gguf]
        if not found:
            ending = f"-{check_quantization(gguf).name}.gguf"
            found = [path for path in whole if path.name.lower().endswith(ending)]
        if not found:
            there = ", ".join(path.name for path in whole) or "none"
            raise UsageError(
                f"{inputs[0].parent} has no GGUF of the type {gguf} (it has: {there}).",
                f"Run `pipeline quantize --quantization {gguf}` first.",
            )
        return Parts(found[0])
    if whole:
        return Parts(whole[0])
    if adapter is not None:
        raise UsageError(
            f"{adapter.name} is an adapter: Ollama needs its base model,"
            f" {name_of(proof['adapter'].get('base_model') or proof['base_model'])}, too.",
            "Say --from NAME as `ollama list` has it, or --from with the path of its GGUF.",
        )
    raise PipelineError(f"{inputs[0].parent} has no GGUF.", "Run `pipeline quantize` first.")


def _with_base(adapter: Path | None, base: str, directory: Path) -> Parts:
    """The adapter and its base: a GGUF file where `base` looks like one, else a model's name."""
    if adapter is None:
        raise UsageError(
            f"--from is for an adapter, and {directory} has none.",
            "`pipeline quantize --as-adapter` makes one.",
        )
    path = Path(base).expanduser()
    if not (base.lower().endswith(".gguf") or path.is_file()):
        return Parts(None, adapter, parse_name(base, "--from"))
    kinds = [metadata(file).get(ARCHITECTURE) for file in (path, adapter)]
    if kinds[0] != kinds[1]:
        raise PipelineError(f"{path} is a {kinds[0]} model, but the adapter is for {kinds[1]}.")
    if path.name == adapter.name:
        raise UsageError(f"{path} has the name of the adapter.", "Give the base another name.")
    return Parts(path, adapter)


def name_of(base: Any) -> str:
    """A base model's name, also where all about it is recorded."""
    return str(base["name"] if isinstance(base, dict) else base)
