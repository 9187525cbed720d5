"""What a model card tells, and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.hub.books import TEXT, Book
from pipeline.hub.card import is_repo_id
from pipeline.hub.markdown import cell, one_line
from pipeline.hub.provenance import Provenance

PLACEHOLDER_REPO_ID = "your-name/your-model"
PICTURE = "loss.png"
ADAPTER, MERGED = "adapter", "merged"  # folders of the parts that can be included
BASE_CHANGES = "base_changes.json"  # beside an adapter: what of its base is otherwise
RECORDS = {
    "completion": ("prompt with its completion", "prompts with their completions"),
    "chat": ("chat", "chats"),
}  # kind -> what one is called, and several
_HUB = "Hugging Face Hub"


@dataclass(frozen=True)
class Told:
    """What a card tells. `proof`, `evaluation` and `run` are the files of stages 6 and 7 as they
    are; `files` the repository's with their sizes; `dataset` what was trained on if it is not the
    books, `dataset_id` where the data are on the Hub.

    `samples` has of each prompt what each model wrote, None for what is left out; `copied` the
    longest stretches that stand in the training text. `unsearched` says which of these texts the
    publish gate did not see, None if it saw all.
    """

    name: str
    proof: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    run: Mapping[str, Any]
    provenance: Provenance
    files: Mapping[str, int]
    books: Sequence[Book] = ()
    dataset: str | None = None
    dataset_id: str | None = None
    repo_id: str | None = None
    revision: str | None = None
    temperature: float | None = None
    licence: str | None = None
    samples: Sequence[tuple[str, Mapping[str, str | None]]] = ()
    copied: Sequence[tuple[str, Mapping[str, Any]]] | None = None
    modelfile: str | None = None
    unsearched: str | None = None
    settings: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.evaluation.get("settings") or self.run.get("settings") or {}
        object.__setattr__(self, "settings", settings)

    @property
    def base(self) -> Mapping[str, Any]:
        """What is known of the base model."""
        found = self.proof.get("base_model") or self.evaluation.get("base_model") or {}
        return found if isinstance(found, Mapping) else {"name": str(found)}

    @property
    def base_name(self) -> str:
        """The base model's name."""
        return str(self.base.get("name") or "an unknown model")

    @property
    def base_id(self) -> str | None:
        """The base model's id on the Hub, if it has one there."""
        name = self.base_name
        is_there = is_repo_id(name) or self.base_is_of_the_hub
        return name if is_there and not self.is_from_scratch else None

    @property
    def base_is_of_the_hub(self) -> bool:
        """Whether the training began with the weights that the Hub has under that name."""
        return self.base.get("source") == _HUB

    @property
    def is_from_scratch(self) -> bool:
        """Whether every weight began at random."""
        return bool(self.settings.get("from_scratch"))

    @property
    def is_chat(self) -> bool:
        """Whether the model was trained on chats."""
        return bool(self.evaluation.get("chat"))

    @property
    def kind(self) -> str:
        """What it was trained on: "text", "completion" or "chat"."""
        return "chat" if self.is_chat else str(self.evaluation.get("kind") or TEXT)

    @property
    def is_of_records(self) -> bool:
        """Whether the model was trained on prompts with completions, or on chats."""
        return self.kind in RECORDS

    @property
    def ggufs(self) -> list[str]:
        """The whole models among the files: those that were proven, in their order."""
        return [name for name in self.proof.get("files") or {}
                if name in self.files and name != self.adapter_gguf]  # fmt: skip

    @property
    def adapter_gguf(self) -> str | None:
        """The adapter as a GGUF of its own, if there is one."""
        about = self.proof.get("adapter")
        name = about.get("file") if isinstance(about, Mapping) else None
        return name if name in self.files else None

    def has(self, part: str) -> bool:
        """Whether the weights of `adapter` or `merged` are among the files."""
        return any(name.startswith(f"{part}/") for name in self.files)

    @property
    def shown_id(self) -> str:
        """The repository's name, or one to be replaced."""
        return self.repo_id if self.repo_id and is_repo_id(self.repo_id) else PLACEHOLDER_REPO_ID

    @property
    def data_in_words(self) -> str:
        """What was trained on, as Markdown."""
        if self.is_of_records and (counted := self._records_in_words()):
            return counted
        if not self.books:
            return f"the dataset {cell(self.dataset)}" if self.dataset else "texts without names"
        learned = [book for book in self.books if book.split != "validation"]
        characters = sum(book.characters for book in learned)
        held_out = len(self.books) - len(learned)
        more = f"; {held_out:,} more held out" if held_out else ""
        noun = "text" if len(learned) == 1 else "texts"
        return f"{len(learned):,} {noun} ({characters:,} characters{more})"

    def _records_in_words(self) -> str | None:
        """The records that were trained on, counted; None if the run's record does not tell."""
        data = self.run.get("data")
        data = data if isinstance(data, Mapping) else {}
        number, characters = data.get("examples"), data.get("characters")
        if type(number) is not int or type(characters) is not int:
            return None
        held_out = data.get("held_out")
        others = held_out.get("examples") if isinstance(held_out, Mapping) else None
        more = f"; {others:,} more held out" if type(others) is int and others else ""
        noun = RECORDS[str(self.kind)][number != 1]
        of = f" of the dataset {cell(self.dataset)}" if self.dataset and not self.books else ""
        return f"{number:,} {noun} ({characters:,} characters{more}){of}"

    @property
    def proof_level(self) -> str | None:
        """How much of a proof stage 7 made: "none" if it was switched off; None if unknown."""
        level = self.proof.get("proof")
        if isinstance(level, Mapping):
            level = level.get("level")
        return str(level) if level is not None else None

    @property
    def prompt(self) -> str:
        """A prompt to begin with: of a model of records as it is, since line breaks are part of its
        form, else on one line."""
        if self.is_of_records:
            return str(self.evaluation.get("prompt") or "Who are you?")
        return one_line(str(self.evaluation.get("prompt") or "It was a dark night"))
