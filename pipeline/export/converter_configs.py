"""Models whose config.json llama.cpp's pinned converter does not read as transformers gives it."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object

_THETA = 10_000.0  # which llama.cpp takes where a header says nothing
# Types of whose rotary positions the converter writes neither base nor scaling, and those whose
# layers it takes for four times as wide inside: by which name, of what, and the usual width.
_PLAIN_ROPE = ("gpt_neox", "phi", "gemma", "gemma2", "stablelm", "falcon")
_FOURFOLD = {
    "gpt2": ("n_inner", "n_embd", 768),
    "phi": ("intermediate_size", "hidden_size", 2048),
    "falcon": ("ffn_hidden_size", "hidden_size", 4544),
}


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
    kind = str(config.get("model_type"))
    if kind in _FOURFOLD:
        inside, outside, usual = _FOURFOLD[kind]
        inner, width = config.get(inside), config.get(outside, usual)
        if inner is not None and inner != 4 * width:
            raise PipelineError(
                f"llama.cpp's converter writes a model of the type {kind} with layers of 4 *"
                f" {outside} inside only, and {inside} is {inner} with {outside} {width} in {path}."
            )
    if kind in _PLAIN_ROPE:
        scaling, theta = _rope_of(config)
        if theta != _THETA or scaling != "default":
            raise PipelineError(
                f"llama.cpp's converter writes a model of the type {kind} with the usual RoPE only,"
                f" and {path} has the type {scaling} with a base of {theta}.",
                "Train without --rope-scaling, or from another base model.",
            )


def _rope_of(config: dict[str, Any]) -> tuple[Any, Any]:
    """Type and base of rotary positions, under the names of both old and new configurations."""
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        given = config.get(name)
        found |= given if isinstance(given, dict) else {}
    at_top = config.get("rope_theta", config.get("rotary_emb_base", _THETA))
    return found.get("rope_type", found.get("type", "default")), found.get("rope_theta", at_top)
