"""Models that write: an adapter, a whole model or a GGUF, all asked in the same way."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pipeline import console
from pipeline.errors import PipelineError
from pipeline.export.header import metadata
from pipeline.export.session import Session, open_session
from pipeline.files import read_json_object
from pipeline.scoring.sampling import Answer, Sampling
from pipeline.training.saving import ADAPTER_CONFIG
from pipeline.training.scored_models import (
    Candidate,
    Loaded,
    find_candidate,
    free_memory,
    holds_model,
    load_for_scoring,
)
from pipeline.workspace import Workspace

EVALUATION = "evaluation.json"
PROOF = "proof.json"

OnText = Callable[[str], object]


def _ignore(text: str) -> None:
    """What is written is only wanted as a whole."""


@dataclass(frozen=True)
class Form:
    """How a prompt is put to a model: as it is, or as the first turn of a chat.

    `template` is in Jinja, None for the model's own; `ends` are texts that end an answer.
    """

    chat: bool
    template: str | None = None
    ends: tuple[str, ...] = ()


class Writer(Protocol):
    """A model that is loaded. `load_seconds` is how long that took."""

    @property
    def candidate(self) -> Candidate: ...

    @property
    def form(self) -> Form: ...

    @property
    def load_seconds(self) -> float: ...

    def write(
        self,
        prompt: str,
        sampling: Sampling,
        *,
        ignore_end: bool = False,
        on_text: OnText = _ignore,
    ) -> Answer:
        """Go on from `prompt`. Raises PipelineError for one that is empty or too long."""


@contextmanager
def open_writer(
    candidate: Candidate, cache: Path, form: Form | None = None, context: int = 0
) -> Iterator[Writer]:
    """Load a model; its memory is free afterwards.

    Args:
        cache: where base models are unpacked.
        form: how prompts are put to it; None is as it was trained, or as its files say.
        context: tokens that it sees at once; 0 is what it was trained for.

    Raises PipelineError, naming the model, if it cannot be loaded.
    """
    start = time.perf_counter()
    form = form or recorded_form(candidate)
    with _naming(candidate):
        if candidate.kind == "gguf":
            check_whole(Path(candidate.place))
            with open_session(Path(candidate.place)) as session:
                form = form or Form(chat=session.chat_template is not None)
                yield _GgufWriter(candidate, form, time.perf_counter() - start, session, context)
            return
        loaded = load_for_scoring(candidate, cache)
        form = form or Form(chat=bool(loaded.tokenizer.chat_template))
        try:
            yield _ModelWriter(candidate, form, time.perf_counter() - start, loaded, context)
        finally:
            del loaded
            free_memory()


def recorded_form(candidate: Candidate) -> Form | None:
    """How the model in a folder of stage 6 was trained to see prompts; None if nothing tells.

    An adapter that came without a record goes on from texts: that its base knows chats says
    nothing about it.
    """
    place = Path(candidate.place).expanduser()
    if candidate.kind == "gguf" or not place.is_dir():
        return None
    if not (place / EVALUATION).is_file():
        return Form(chat=False) if candidate.kind == "adapter" else None
    chat = read_json_object(place / EVALUATION).get("chat")
    if chat is None:
        return Form(chat=False)
    try:
        return Form(True, str(chat["template"]), tuple(map(str, chat["ends"])))
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{place / EVALUATION} is damaged: it does not say what chats look like."
        ) from error


@dataclass(frozen=True)
class _GgufWriter:
    candidate: Candidate
    form: Form
    load_seconds: float
    session: Session
    context: int

    def write(
        self,
        prompt: str,
        sampling: Sampling,
        *,
        ignore_end: bool = False,
        on_text: OnText = _ignore,
    ) -> Answer:
        return self.session.write(
            prompt, _with_ends(sampling, self.form), chat=self.form.chat,
            template=self.form.template, context=self.context, ignore_end=ignore_end,
            on_text=on_text,
        )  # fmt: skip


@dataclass(frozen=True)
class _ModelWriter:
    candidate: Candidate
    form: Form
    load_seconds: float
    loaded: Loaded
    context: int

    def write(
        self,
        prompt: str,
        sampling: Sampling,
        *,
        ignore_end: bool = False,
        on_text: OnText = _ignore,
    ) -> Answer:
        from pipeline.scoring.samples import text_ids
        from pipeline.scoring.streaming import stream
        from pipeline.training.chats import prompt_ids

        tokenizer = self.loaded.tokenizer
        if self.form.chat:
            ids = prompt_ids(tokenizer, self.form.template, prompt)
        else:
            ids = text_ids(tokenizer, prompt)
        return stream(
            self.loaded.model, tokenizer, ids, _with_ends(sampling, self.form),
            context=self.context or self.loaded.context, autocast=self.loaded.autocast,
            ignore_end=ignore_end, on_text=on_text,
        )  # fmt: skip


def _with_ends(sampling: Sampling, form: Form) -> Sampling:
    ends = form.ends if form.chat else ()
    return replace(sampling, stop=tuple(dict.fromkeys([*sampling.stop, *filter(None, ends)])))


@contextmanager
def _naming(candidate: Candidate) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        if candidate.name in error.message:
            raise
        raise PipelineError(f"{candidate.name}: {error.message}", error.hint) from error


# --- which model ------------------------------------------------------------------------------


def tuned_model(workspace: Workspace, name: str | None) -> Candidate:
    """The model of this name, or the most finished one in the data directory.

    That is the GGUF of stage 8, else that of stage 7, else what stage 6 trained.

    Raises PipelineError if there is none.
    """
    if name is not None:
        return find_candidate(name)
    gguf = finished_gguf(workspace)
    if gguf is not None:
        return find_candidate(str(gguf))
    folder = workspace.directory("train")
    if holds_model(folder) or (folder / ADAPTER_CONFIG).is_file():
        return find_candidate(str(folder))
    raise PipelineError(
        f"{workspace.directory('modelfile')} has no GGUF yet, and {folder} no adapter.",
        "Run `pipeline all` first, or name a model: --model smollm2-135m",
    )


def finished_gguf(workspace: Workspace) -> Path | None:
    """The GGUF of stage 8, else that of stage 7; of several the first that was asked for.

    Stage 7 may have made a GGUF of the adapter alone, and stage 8 may hold the base beside it: by
    stage 7's record neither is the model.
    """
    proof = proof_of(workspace)
    adapter = proof.get("adapter")
    not_whole = adapter.get("file") if isinstance(adapter, dict) else None
    for stage in ("modelfile", "quantize"):
        found = {path.name: path for path in workspace.files(stage, ["*.gguf"])}
        names = [name for name in proof.get("files", found) if name in found and name != not_whole]
        if names:
            return found[names[0]]
    return None


def check_whole(gguf: Path) -> None:
    """Raise PipelineError if a GGUF holds an adapter alone, or is damaged."""
    if metadata(gguf).get("general.type") == "adapter":
        raise PipelineError(
            f"{gguf} is an adapter, which llama.cpp cannot run without its base.",
            "Name the adapter's folder, such as 6_adapter, to `pipeline generate --model`.",
        )


def proof_of(workspace: Workspace) -> dict[str, Any]:
    """What stage 7 wrote about its GGUFs; {} if it has not run."""
    path = workspace.directory("quantize") / PROOF
    if not path.is_file():
        return {}
    proof = read_json_object(path)
    return proof if isinstance(proof.get("files"), dict) else {}


def base_of(workspace: Workspace, tuned: Candidate, name: str | None) -> Candidate:
    """The model to compare `tuned` with: the one named, else the one that it was made from.

    Raises PipelineError if nothing tells which that is.
    """
    if name is not None:
        return find_candidate(name)
    if tuned.base is not None:
        return find_candidate(tuned.base, revision=tuned.revision)
    if Path(tuned.place).expanduser().resolve().is_relative_to(workspace.root.resolve()):
        record, folder = workspace.record("train"), workspace.directory("train")
        settings = record.settings if record is not None else {}
        if settings.get("base_model") and not settings.get("from_scratch"):
            return find_candidate(settings["base_model"], revision=settings.get("revision"))
        if (folder / ADAPTER_CONFIG).is_file():
            adapter = find_candidate(str(folder))
            return find_candidate(adapter.base or "", revision=adapter.revision)
    raise PipelineError(
        f"Nothing says which model {tuned.name} was made from.", "Name it: --base smollm2-135m"
    )


def told(answer: Answer, name: str, seed: int) -> str:
    """The line about speed that ends an answer."""
    speed = f" ({answer.tokens_per_second:,.1f} tokens/s)" if answer.tokens_per_second else ""
    return (
        f"{name}: {answer.tokens:,} tokens in {console.duration(answer.seconds)}{speed}; prompt "
        f"{answer.prompt_tokens:,} tokens in {console.duration(answer.prompt_seconds)} "
        f"({answer.prompt_tokens_per_second:,.1f} tokens/s); seed {seed}"
    )


def as_line(value: dict[str, Any]) -> str:
    """Settings on one line: `temperature 0.6, top-k 40, ...`."""
    return ", ".join(
        f"{name.replace('_', '-')} {one if isinstance(one, int | float) else json.dumps(one)}"
        for name, one in value.items() if one != []
    )  # fmt: skip
