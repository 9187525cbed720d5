"""Models whose config.json llama.cpp's pinned converter does not read as transformers gives it."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object

_THETA = 10_000.0  # which llama.cpp takes where a header says nothing


def bridge() -> None:
    """Have the converter find the keys that it asks for. For the process that it runs in."""
    from conversion import ModelBase  # type: ignore[import-untyped]

    original = ModelBase.load_hparams

    def load_hparams(model_dir: Path, is_mistral_format: bool) -> dict[str, Any]:
        return bridged(original(model_dir, is_mistral_format))

    ModelBase.load_hparams = staticmethod(load_hparams)


def bridged(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as transformers gives it, with the names that it had before as well."""
    if config.get("model_type") == "gpt2" and "n_positions" in config:
        config.setdefault("n_ctx", config["n_positions"])
    if config.get("model_type") == "gpt_neox":
        share = (config.get("rope_parameters") or {}).get("partial_rotary_factor", 0.25)
        config.setdefault("rotary_pct", share)
    return config


def check_config(model_dir: Path) -> None:
    """Raise PipelineError for a model of which the converter would write something else."""
    path = model_dir / "config.json"
    if not path.is_file():
        return
    config = read_json_object(path)
    if config.get("model_type") == "gpt2":
        inner, width = config.get("n_inner"), config.get("n_embd", 768)
        if inner is not None and inner != 4 * width:
            raise PipelineError(
                f"llama.cpp's converter writes a GPT-2 with layers of 4 * n_embd inside only, and"
                f" n_inner is {inner} with n_embd {width} in {path}."
            )
    if config.get("model_type") == "gpt_neox":
        rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
        theta = rope.get("rope_theta", config.get("rotary_emb_base", _THETA))
        kind = rope.get("rope_type", rope.get("type", "default"))
        if theta != _THETA or kind != "default":
            raise PipelineError(
                f"llama.cpp's converter writes a GPT-NeoX with the usual RoPE only, and {path} has"
                f" the type {kind} with a base of {theta:g}.",
                "Train without --rope-scaling, or from another base model.",
            )
