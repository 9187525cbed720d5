"""What a model repository is made from, as the stages before left it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object
from pipeline.hub.card import is_repo_id
from pipeline.hub.listing import Content
from pipeline.hub.making import without_path
from pipeline.hub.told import ADAPTER, BASE_CHANGES, MERGED
from pipeline.workspace import Workspace, changed_inputs

PROOF = "proof.json"
MADE_FROM_EACH_OTHER = ("train", "quantize", "modelfile")
CHAT_TEMPLATE = "chat_template.jinja"
# Of an adapter's folder: what loads it, and not the accounts of its training.
ADAPTER_FILES = (
    "adapter_model.safetensors", "adapter_config.json", BASE_CHANGES, "tokenizer*",
    "special_tokens_map.json", CHAT_TEMPLATE, "vocab*", "merges.txt",
)  # fmt: skip


def check_current(workspace: Workspace) -> None:
    """Raise PipelineError if a model, its proof or its Modelfile is not made from what is there
    now: the card would tell of other data or other scores than the files have."""
    for stage in MADE_FROM_EACH_OTHER:
        record = workspace.record(stage)
        if record is None:
            continue
        own = [fact for fact in record.inputs if not Path(fact.path).is_absolute()]
        now = [
            workspace.fact(path) for fact in own if (path := workspace.root / fact.path).is_file()
        ]
        there = {fact.path for fact in now}
        why = changed_inputs([fact for fact in own if fact.path in there], now)
        if why:
            raise PipelineError(
                f"{workspace.directory(stage)} was not made from what is there now: {why[0]}.",
                f"Run `pipeline {stage}` first, and what follows it.",
            )


def adapter_files(folder: Path, base: Any, *, chat: bool) -> dict[str, Content]:
    """An adapter's files by their names in the repository. Its configuration names the base model
    by its name, and not by where it lay on this disk. Unless it is a `chat` model it has no chat
    template: that of its base would be misleading.

    Raises PipelineError if there is no adapter.
    """
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise PipelineError(
            f"{folder} has no adapter: the whole model was trained.", "Take --include merged."
        )
    found: dict[str, Content] = {
        f"{ADAPTER}/{path.name}": path
        for pattern in ADAPTER_FILES for path in sorted(folder.glob(pattern))
        if path.is_file() and (chat or path.name != CHAT_TEMPLATE)
    }  # fmt: skip
    about = read_json_object(config)
    place = about.get("base_model_name_or_path")
    name = base.get("name") if isinstance(base, dict) else None
    if not (isinstance(place, str) and is_repo_id(place)):
        about["base_model_name_or_path"] = name or without_path(place)
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    found[f"{ADAPTER}/{config.name}"] = text.encode()
    return found


def remove_empty_parts(directory: Path) -> None:
    """Remove the folders of parts that are no longer included, once nothing is left in them."""
    for part in (ADAPTER, MERGED):
        with suppress(OSError):  # it is not there, or somebody keeps something in it
            (directory / part).rmdir()


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of the table of books. Raises PipelineError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise PipelineError(f"{path} cannot be read.", "Run `pipeline upload` again.") from error
    return rows
