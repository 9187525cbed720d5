"""Read an adapter of PEFT as it lies in a folder, and refuse what is not understood."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object
from pipeline.tensor_files import Stored, first_line, read_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# Settings of PEFT that say how the adapter's tensors change the base, all understood here.
UNDERSTOOD = {
    "r",
    "target_modules",
    "exclude_modules",
    "target_parameters",
    "lora_alpha",
    "fan_in_fan_out",
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "trainable_token_indices",
    "ensure_weight_tying",
}
# Settings that only mattered in training, or say where things came from.
IRRELEVANT = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "init_lora_weights",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
}
# Ways to begin that leave the base as it was; others (PiSSA, OLoRA, LoftQ...) change it too.
HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """An adapter as it lies in a folder."""

    folder: Path
    settings: Any  # peft.LoraConfig
    tensors: dict[str, Stored]


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's settings and the header of its weights.

    Raises:
        PipelineError: a file is missing or damaged, or the adapter is of a kind that is not
            understood here; the message names the setting.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PipelineError(
                f"There is no whole adapter in {folder}: {name} is missing.",
                "Train first: pipeline train",
            )
    raw = read_json_object(folder / CONFIG)
    return Adapter(folder, _settings(raw, folder), read_file(folder / WEIGHTS, "adapter"))


def _settings(raw: dict[str, Any], folder: Path) -> Any:
    from peft import LoraConfig

    if raw.get("peft_type") != "LORA":
        raise not_understood(folder, "peft_type", raw.get("peft_type"))
    known = {field.name for field in fields(LoraConfig)}
    plain = LoraConfig()
    for name, value in raw.items():
        if name in UNDERSTOOD | IRRELEVANT:
            continue
        if value and (name not in known or value != getattr(plain, name)):
            raise not_understood(folder, name, value)
    if raw.get("init_lora_weights", True) not in HARMLESS_STARTS:
        raise not_understood(folder, "init_lora_weights", raw["init_lora_weights"])
    chosen = {name: raw[name] for name in UNDERSTOOD if name in raw}
    if not _are_tokens(chosen.get("trainable_token_indices")):
        raise PipelineError(f"{folder / CONFIG} is damaged: its trained tokens are no token ids.")
    try:
        # Its weights are not to be made up, and nothing is to be trained.
        return LoraConfig(
            task_type="CAUSAL_LM", init_lora_weights=False, inference_mode=True, **chosen
        )
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{folder / CONFIG} is damaged: {first_line(error)}.") from error


def _are_tokens(indices: Any) -> bool:
    lists = indices.values() if isinstance(indices, dict) else [indices or []]
    return all(
        isinstance(ids, list)
        and len(set(map(str, ids))) == len(ids)
        and all(type(index) is int and index >= 0 for index in ids)
        for ids in lists
    )


def not_understood(folder: Path, name: str, value: Any) -> PipelineError:
    """The refusal of an adapter with a setting of that value."""
    return PipelineError(
        f"The adapter in {folder} cannot be merged: its setting {name} is {str(value)[:80]!r}.",
        "Merged are LoRA, rsLoRA and DoRA adapters, with trained tokens and modules to save.",
    )
