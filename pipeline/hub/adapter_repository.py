"""A model repository that a training run pushes to: an adapter, or a whole model, under way.

    repository = AdapterRepository("ada/horror-adapter", known=cache / "pushed.json")
    repository.open()                  # it is there, and may be written to
    repository.begin(run)              # and what is in it is this run's, or nobody's
    repository.send(folder, news, settings, texts)

A push is one commit of weights, tokenizer, settings and card. `push.json` in it says which run it
is of: whoever goes on with that run, on whatever machine, goes on with the repository as well.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, UsageError
from pipeline.files import encode_json, read_json_object, write_bytes
from pipeline.hub.card import is_repo_id
from pipeline.hub.client import (
    check_repo_id,
    find_token,
    push_folder,
    repeatedly,
    talking_to_hub,
)
from pipeline.hub.listing import list_files
from pipeline.hub.making import without_path
from pipeline.hub.model_files import CHAT_TEMPLATE
from pipeline.hub.provenance import SETTINGS_FILE
from pipeline.hub.pushed import Pushed
from pipeline.hub.training_card import Texts, Trained, training_card

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

MARK, CARD = "push.json", "README.md"
# Of a folder with weights, what loads them; not the accounts of their training.
FILES = (
    "*.safetensors", "*.safetensors.index.json", "adapter_config.json", "base_changes.json",
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab*", "merges.txt", CHAT_TEMPLATE,
)  # fmt: skip
_WEIGHTS = ("adapter_model.safetensors", "model.safetensors")
_PLACES = {"adapter_config.json": "base_model_name_or_path", "config.json": "_name_or_path"}
_LARGEST_MARK = 1_000_000  # bytes
_MOST_OTHERS = 3  # files of another's making that are named


def _may_be_ours(path: str) -> bool:
    """Whether a file of the repository bears a name that one of a training's does."""
    return any(fnmatchcase(path, pattern) for pattern in FILES) and "/" not in path


@dataclass
class AdapterRepository:
    """The repository `repo_id` of the Hub.

    `known` is the file that knows what was pushed from this data directory; `overwrite` lets files
    of another's making be replaced; `public` allows a repository that others can see.
    """

    repo_id: str
    known: Path
    public: bool = False
    overwrite: bool = False
    is_new: bool = False
    is_private: bool = True

    @property
    def url(self) -> str:
        """Its address."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repo_id}"

    def check(self) -> None:
        """Raise PipelineError if it cannot be the name of a repository, or there is no token. Asks
        nobody."""
        check_repo_id(self.repo_id)
        find_token()

    def open(self) -> None:
        """See to it that it is there, private if it is made now, and may be written to.

        Raises PipelineError if it must not be written to, and UsageError if it is public and must
        not be.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        def ask(api: "HfApi", where: dict[str, Any]) -> Any:
            try:
                return repeatedly(lambda: api.repo_info(**where))
            except RepositoryNotFoundError:
                repeatedly(lambda: api.create_repo(**where, private=True, exist_ok=True))
                self.is_new = True
                return repeatedly(lambda: api.repo_info(**where))

        self.is_private = self._talk(ask).private is not False
        if not self.is_private and not self.public:
            raise UsageError(
                f"{self.repo_id} is there already, and public, and nobody has checked what the "
                "training is to push.",
                "Take another name, make it private in its settings on the Hub, or add "
                "--push-public.",
            )
        self._talk(lambda api, where: repeatedly(lambda: api.auth_check(**where, write=True)))

    def begin(self, run: str) -> int | None:
        """The step of this run's weights that are there; None if it has none there.

        What the run pushed from another machine counts as pushed from here. Raises UsageError:
        it holds what somebody else put there, or a published model.
        """

        def look(api: "HfApi", where: dict[str, Any]) -> tuple[list["RepoFile"], Mapping[str, Any]]:
            there = repeatedly(lambda: list_files(api, where))
            return there, repeatedly(lambda: self._mark(api, where, there))

        there, mark = self._talk(look)
        is_ours = bool(run) and mark.get("run") == run
        if is_ours:
            texts = mark.get("texts")
            hashes = texts if isinstance(texts, dict) else {}
            own = [
                item for item in there
                if item.path == MARK or hashes.get(item.path) == item.blob_id
                or (item.lfs is not None and _may_be_ours(item.path))
            ]  # fmt: skip
            self._pushed.keep(own, {item.path: b"" for item in own})
        self._check_others(there)
        step = mark.get("step") if is_ours else None
        return step if type(step) is int else None

    def _check_others(self, there: list["RepoFile"]) -> None:
        """Raise PipelineError for what would be replaced and is not ours, before hours of work."""
        if self.overwrite:
            return
        ggufs = [item.path for item in there if item.path.lower().endswith(".gguf")]
        if ggufs:
            raise UsageError(
                f"{self.repo_id} holds a published model ({ggufs[0]}), which the training would "
                "take the place of.",
                "Push to another repository, or add --overwrite-edited.",
            )
        names = {CARD, MARK, SETTINGS_FILE, *_WEIGHTS}
        self._pushed.check(there, dict.fromkeys(names, b""))

    def send(self, folder: Path, news: Trained, settings: str, texts: Texts) -> None:
        """Make it hold the weights and the tokenizer of `folder`, with `settings` and a card, in
        one commit; unchanged files are not sent. The folder is changed for that.

        Raises PipelineError as `push_folder` does.
        """
        prepare(folder, news, settings, training_card(news, self.repo_id, texts))
        state = "the result" if news.finished else "the best so far"
        push_folder(
            folder, self.repo_id, repo_type="model", private=self.is_private, pushed=self._pushed,
            message=f"Step {news.step} of {news.steps}, {state}: {news.bits_per_byte:.4f} bits per "
            "byte",
        )  # fmt: skip

    @property
    def _pushed(self) -> Pushed:
        return _Ours(self.known, "model", self.repo_id, overwrite=self.overwrite)

    def _talk(self, ask: Callable[["HfApi", dict[str, Any]], Any]) -> Any:
        from huggingface_hub import HfApi

        api = HfApi(token=find_token(), library_name="bookshelf-llm")
        with talking_to_hub(api, self.repo_id):
            return ask(api, {"repo_id": self.repo_id, "repo_type": "model"})

    @staticmethod
    def _mark(api: "HfApi", where: dict[str, Any], there: list["RepoFile"]) -> Mapping[str, Any]:
        """What the last push says of itself; nothing if it cannot be understood."""
        if not any(item.path == MARK and item.size <= _LARGEST_MARK for item in there):
            return {}
        with tempfile.TemporaryDirectory() as place:
            path = api.hf_hub_download(**where, filename=MARK, local_dir=place)
            with suppress(PipelineError, UnicodeDecodeError, RecursionError):
                return read_json_object(Path(path))
        return {}


class _Ours(Pushed):
    """The same, for a command whose options have other names."""

    def _refuse(self, others: list[str]) -> None:
        named = ", ".join(others[:_MOST_OTHERS]) + (", ..." if len(others) > _MOST_OTHERS else "")
        raise UsageError(
            f"The training would replace what it did not push to {self._repo_id}: {named}.",
            "Push to another repository, or add --overwrite-edited.",
        )


def prepare(folder: Path, news: Trained, settings: str, card: str) -> None:
    """Turn a folder with weights into a repository: with settings, card and mark, and without what
    is of no use there, or tells where things lie on this disk. Done twice, it changes nothing."""
    keep = {path for pattern in FILES for path in folder.glob(pattern)}
    for path in sorted(folder.iterdir()):
        is_misleading = path.name == CHAT_TEMPLATE and news.kind != "chat"
        if path.is_file() and (path not in keep or is_misleading):
            path.unlink()
    for name, key in _PLACES.items():
        if (folder / name).is_file():
            _without_place(folder / name, key, news)
    # Written anew, and never in place: the files may be other names of those of a stage.
    write_bytes(folder / SETTINGS_FILE, settings.encode())
    write_bytes(folder / CARD, card.encode())
    texts = {
        path.name: hashlib.sha1(b"blob %d\0" % path.stat().st_size + path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix != ".safetensors"
    }  # as git does
    mark = {"run": news.run, "step": news.step, "finished": news.finished, "texts": texts}
    write_bytes(folder / MARK, encode_json(mark, indent=2) + b"\n")


def _without_place(path: Path, key: str, news: Trained) -> None:
    """Name the base model by its name, and not by where it lay on this disk."""
    about = read_json_object(path)
    place = about.get(key)
    if isinstance(place, str) and place and not is_repo_id(place):
        about[key] = news.base.get("name") or without_path(place)
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        write_bytes(path, text.encode())
