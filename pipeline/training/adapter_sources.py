"""Where the adapter comes from that stage 7 ships: stage 6, a checkpoint, a folder, the Hub, a URL.

    source = find_source(workspace, adapter="org/name")
    taken = source.take(scratch)       # a folder that stock PEFT loads, and the base that it is for

What comes from elsewhere is hostile: only files of known names are taken, none of them can run
code, and each is looked into before it is used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import PipelineError, UsageError
from pipeline.files import read_json_object
from pipeline.storage.urls import redact
from pipeline.training.adapter_fetch import fetch_hub, fetch_url
from pipeline.training.base_model import (
    DEFAULT_BASE_MODEL,
    HUB_ID,
    SMOLLM2_PACKAGE,
    BaseModel,
    check_base_model,
    resolve_base_model,
)
from pipeline.training.checkpoint_model import (
    Weights,
    describe_checkpoint,
    find_weights,
    save_checkpoint,
)
from pipeline.training.saving import ADAPTER_CONFIG, HUB
from pipeline.training.scored_models import check_adapter, holds_model
from pipeline.training.sources import is_address
from pipeline.workspace import STAGES, Workspace

Kind = Literal["run", "checkpoint", "folder", "hub", "url"]
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation.json"
ELSEWHERE = "Name the base model with --adapter-base."

Named = tuple[str, str | None]  # a base model and its revision, as `resolve_base_model` takes them


@dataclass(frozen=True)
class Taken:
    """An adapter, or a whole model, ready for stage 7: its folder, and the base that it is for.

    `origin` says where it came from, for the proof and the model card; no path of this machine.
    `evaluation` is what was measured of it in training, if that is known.
    """

    folder: Path
    base: BaseModel
    origin: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None


@dataclass(frozen=True)
class Source:
    """Something found, with everything on this disk that decides it: `inputs` are its files, and
    `settings` how it was asked for. See `find_source`."""

    kind: Kind
    shown: str
    folder: Path
    named: Named
    inputs: list[Path]
    workspace: Workspace
    revision: str | None = None
    weights: Weights | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """For the stage's record."""
        return {"adapter": None if self.kind == "run" else self.shown, "revision": self.revision}

    def take(self, scratch: Path, endpoint: str | None = None) -> Taken:
        """Have the adapter in a folder; of a checkpoint it is made in `scratch`.

        Raises PipelineError: the base cannot be had, or the two do not belong together.
        """
        base = resolve_base_model(
            self.named[0], self.workspace.cache / "base", self.named[1], endpoint
        )
        folder = self.folder
        origin: dict[str, Any] = {"kind": self.kind}
        if self.weights is not None:
            folder = scratch / "adapter"
            self._make(self.weights, base, folder)
            origin |= {"step": self.weights.step, "run": self.weights.checkpoint.about.get("run")}
        elif self.kind in ("hub", "url"):
            origin |= {"place": self.shown, "revision": self.revision}
        return Taken(folder, base, origin, read_evaluation(folder))

    def _make(self, weights: Weights, base: BaseModel, folder: Path) -> None:
        finished = self.workspace.directory("train")
        record = self.workspace.record("train")
        settings = save_checkpoint(
            weights, base, folder, self.workspace.cache / "tokenizers", finished / "config.json"
        )
        describe_checkpoint(
            weights, settings, base, folder, finished=finished,
            kind=record.settings.get("kind") if record else None,
        )  # fmt: skip


def find_source(
    workspace: Workspace,
    adapter: str | None = None,
    *,
    checkpoint: str | None = None,
    revision: str | None = None,
    base_model: str | None = None,
    endpoint: str | None = None,
) -> Source:
    """Find what is to be shipped, and have it on this disk; checkpoints are only looked at.

    Args:
        adapter: a folder, a Hub id, or the URL of a folder; None for what stage 6 made.
        checkpoint: "latest", "best", a step, or the folder of a checkpoint; see `find_weights`.
        revision: branch, tag or commit of an adapter on the Hub.
        base_model: in place of the base that the adapter names, as `resolve_base_model` takes it.

    Raises:
        UsageError: the options do not go together.
        PipelineError: it is not there, not whole, or its base is not to be had.
    """
    if adapter is not None and checkpoint is not None:
        raise UsageError("Give --adapter or --checkpoint, not both.")
    given = (base_model, None) if base_model else None
    if checkpoint is not None:
        return _checkpoint(workspace, checkpoint, given)
    if adapter is None:
        folder = workspace.directory("train")
        inputs = workspace.inputs("quantize")
        return Source("run", str(folder), folder, given or base_for(folder), inputs, workspace)
    path = Path(adapter).expanduser()
    is_here = bool(adapter.strip()) and path.is_dir()
    if revision is not None and (is_here or is_address(adapter)):
        raise UsageError("--adapter-revision is for an adapter from the Hub.")
    if is_here:
        if not holds_model(path):
            check_adapter(path)
        path = path.resolve()
        return Source("folder", str(path), path, given or base_for(path), files_of(path), workspace)
    if path.is_file():
        raise PipelineError(f"{adapter} is a file.", "Give the folder of an adapter.")
    if is_address(adapter):
        path = fetch_url(adapter, workspace.cache)
        named = given or base_for(path, trusted=False)
        return Source(
            "url", redact(adapter), path, named, files_of(path), workspace, revision=path.name
        )
    path = fetch_hub(adapter, revision, endpoint)
    named = given or base_for(path, trusted=False)
    return Source("hub", adapter, path, named, files_of(path), workspace, revision=path.name)


def _checkpoint(workspace: Workspace, which: str, given: Named | None) -> Source:
    weights = find_weights(workspace.directory("train") / CHECKPOINTS, which)
    place = weights.checkpoint.path
    inputs = sorted({weights.path, place / "COMPLETE.json"})
    if given is None:
        names = [*_recorded(workspace.directory("train")), *_identified(weights)]
        given = _first_there(names, f"The checkpoint {place}")
    return Source(
        "checkpoint", str(weights.path), place, given, inputs, workspace,
        revision=str(weights.step), weights=weights,
    )  # fmt: skip


def files_of(folder: Path) -> list[Path]:
    """The files of an adapter's folder that stage 7 takes."""
    found = {path for name in STAGES["quantize"].takes for path in folder.glob(name)}
    return sorted(path for path in found if path.is_file())


# --- the base that belongs to it ------------------------------------------------------------------


def base_for(folder: Path, *, trusted: bool = True) -> Named:
    """The base model that an adapter was made for, the first that is to be had of those that its
    files name: the record of stage 6, its adapter_config.json, its evaluation.json.

    A whole model that names none is its own. What is not `trusted` may name no folder of this
    machine: a stranger's path means nothing here.

    Raises PipelineError if there is none.
    """
    names = list(_recorded(folder)) if trusted else []
    if (folder / ADAPTER_CONFIG).is_file():
        config = read_json_object(folder / ADAPTER_CONFIG)
        name, revision = config.get("base_model_name_or_path"), config.get("revision")
        if isinstance(name, str) and name.strip():
            known = revision if isinstance(revision, str) else None
            names += [hub_name(name) or (name, known)]
    elif trusted:
        names.append((str(folder), None))
    names += _measured(folder)
    if not trusted:
        names = [named for named in names if named[0] == DEFAULT_BASE_MODEL or _is_id(named[0])]
    return _first_there(names, f"The adapter in {folder}")


def _is_id(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _recorded(folder: Path) -> Iterator[Named]:
    """What the record of stage 6 says, which knows how the base was asked for."""
    path = folder / "stage.json"
    settings = read_json_object(path).get("settings") if path.is_file() else None
    if isinstance(settings, dict) and isinstance(settings.get("base_model"), str):
        revision = settings.get("revision")
        yield settings["base_model"], revision if isinstance(revision, str) else None


def _measured(folder: Path) -> Iterator[Named]:
    evaluation = read_evaluation(folder) or {}
    base = evaluation.get("base_model")
    if not isinstance(base, dict):
        return
    name, source, revision = (base.get(key) for key in ("name", "source", "revision"))
    yield from _known_as(name, revision, is_hub=source == HUB)


def _identified(weights: Weights) -> Iterator[Named]:
    """What a checkpoint's own account of its run says: the name, and the commit of the Hub."""
    name, _, revision = str(weights.identity.get("base_model", "")).rpartition(" ")
    is_commit = len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)
    yield from _known_as(name, revision, is_hub=is_commit)


def _known_as(name: Any, revision: Any, *, is_hub: bool) -> Iterator[Named]:
    if isinstance(revision, str) and revision.startswith(f"{SMOLLM2_PACKAGE}=="):
        yield DEFAULT_BASE_MODEL, None
    elif is_hub and isinstance(name, str) and HUB_ID.fullmatch(name):
        yield name, revision if isinstance(revision, str) else None


def hub_name(path: str) -> Named | None:
    """The model on the Hub that a folder of the Hub's cache is a copy of, and the commit.

    An adapter that was trained on such a copy names its folder, which another machine has not.
    """
    parts = Path(path).parts
    if len(parts) < 3 or parts[-2] != "snapshots" or not parts[-3].startswith("models--"):
        return None
    return parts[-3].removeprefix("models--").replace("--", "/"), parts[-1]


def _first_there(names: list[Named], what: str) -> Named:
    failure = None
    for name, revision in names:
        try:
            check_base_model(name, revision)
        except PipelineError as error:
            failure = failure or error
        else:
            return name, revision
    if failure is None:
        raise PipelineError(f"{what} does not say for which model it was made.", ELSEWHERE)
    raise PipelineError(
        f"{what} was made for {names[0][0]!r}, which is not to be had: {failure.message}", ELSEWHERE
    )


# --- what was measured ----------------------------------------------------------------------------


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """What training measured, if the folder tells and it is of the form that stage 7 relies on."""
    path = folder / EVALUATION
    if not path.is_file():
        return None
    found = read_json_object(path)
    chat = found.get("chat")
    is_sound = (
        isinstance(found.get("prompt"), str)
        and type(found.get("sequence_length")) is int
        and isinstance(found.get("bits_per_byte"), dict)
        and (chat is None or (isinstance(chat, dict) and isinstance(chat.get("template"), str)))
    )
    return found if is_sound else None
