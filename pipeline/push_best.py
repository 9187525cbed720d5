"""`pipeline train --push-to`: what goes to the Hub while training is under way, and at its end.

with pushing(workspace, "ada/horror-adapter", public=False, overwrite=False) as push:
    if push: push.tell(settings, inputs)        # before any model is loaded
    ... train(..., publisher=push and push.publisher)
    if push: push.result(run)                   # when the stage is complete
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.books.mentions import find_mentions
from pipeline.console import say
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, link_or_copy, read_json_object
from pipeline.hub.adapter_repository import AdapterRepository
from pipeline.hub.books import BOOKS_FILE
from pipeline.hub.gate import Judgement, judge
from pipeline.hub.model_files import read_table
from pipeline.hub.provenance import settings_file, settings_of
from pipeline.hub.publishing import PUSHED
from pipeline.hub.scanning import Found, documents_in
from pipeline.hub.training_card import Texts
from pipeline.run import StageRun
from pipeline.training.news import News
from pipeline.training.publishing_best import BestPublisher
from pipeline.training.scratch import scratch_folder
from pipeline.workspace import Workspace

END_SECONDS = 900.0  # for the result to arrive


@dataclass
class Push:
    """One repository, and the runs of one data directory that push to it."""

    workspace: Workspace
    repository: AdapterRepository
    folder: Path  # for what is on its way
    publisher: BestPublisher = field(init=False)
    settings: str = ""
    texts: Texts = field(default_factory=Texts)

    def __post_init__(self) -> None:
        self.publisher = BestPublisher(self, self.folder)

    # --- what the training asks of it; see `publishing_best.Place` ---

    @property
    def shown(self) -> str:
        """Its address."""
        return self.repository.url

    def begin(self, run: str) -> int | None:
        """See `AdapterRepository.begin`."""
        return self.repository.begin(run)

    def send(self, folder: Path, news: News) -> None:
        """See `AdapterRepository.send`."""
        self.repository.send(folder, news, self.settings, self.texts)

    # --- what the stage asks of it ---

    def tell(self, settings: Mapping[str, Any], inputs: Sequence[Path]) -> None:
        """Open the repository, and say what goes there and what of it nobody has checked.

        `settings` are the stage's. Raises PipelineError: it must not be written to, or is public
        and what is known of the texts forbids that.
        """
        self.settings = settings_file(settings_of({"train": settings}, ()))
        self.repository.open()
        judgement, documents = self._judged(inputs, of_own_data=not settings.get("dataset"))
        self.texts = Texts(
            documents, len(judgement.protected), judgement.unknown, len(judgement.names)
        )
        if not self.repository.is_private and judgement.holds_back:
            message, _ = judgement.summary()
            raise PipelineError(
                message,
                "Push to a private repository; `pipeline publish` lists them, and publishes the "
                "result.",
            )
        whole = settings.get("method") == "full" or settings.get("from_scratch")
        what = "the model" if whole else "the adapter"
        when = (
            f"Whenever a score is the best so far, and at the end, {what}"
            if settings.get("keep_best", True)
            else f"At the end, {what}"
        )
        place = "private" if self.repository.is_private else "public"
        new = "made just now, " if self.repository.is_new else ""
        say(
            f"{when}, tokenizer, settings and card go to {self.shown} ({new}{place}), in one "
            f"commit. Not checked: {self.texts}; they are not searched for references to Project "
            "Gutenberg."
        )

    def _judged(self, inputs: Sequence[Path], *, of_own_data: bool) -> tuple[Judgement, int]:
        """What the publish gate says of what is known before there is a model, and of how many
        documents that is."""
        table = self.workspace.directory("upload") / BOOKS_FILE
        rows = read_table(table) if of_own_data and table.is_file() else []
        for path in inputs:
            if path.suffix == ".parquet":
                rows += documents_in(path)
        rows = [row for row in rows if row.get("document_id")]
        # The settings hold the prompts and the names of what was trained on.
        found = Found()
        found.add((mention.line, mention.quote) for mention in find_mentions(self.settings))
        named = {"settings.yaml": found} if found.count else {}
        return judge(named, rows, find_mentions), len({row["document_id"] for row in rows})

    def result(self, run: StageRun) -> None:
        """Push what the stage came to, and wait for it.

        Raises PipelineError if it does not arrive.
        """
        news = result_of(run, self.publisher.run)
        if not self.publisher.run:  # nothing was to be trained
            self.publisher.begin(news.run)
        self.publisher.offer(linked(run.directory), news)
        outcome = self.publisher.finish(END_SECONDS)
        if not outcome.ok:
            raise PipelineError(
                f"{outcome}.",
                f"Here they are, in {run.directory}: the same command sends them, and trains "
                "nothing again.",
            )
        say(f"{outcome}.")


def check(push_to: str | None, *, public: bool) -> None:
    """Raise PipelineError or UsageError for what can be refused without asking the Hub: no name of
    a repository, no token, several processes."""
    if push_to is None:
        if public:
            raise UsageError("--push-public is for --push-to: give a repository, too.")
        return
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UsageError(
            "--push-to is for training in one process, and several were started.",
            "Leave it out: `pipeline publish` pushes the result.",
        )
    AdapterRepository(push_to, Path()).check()


@contextmanager
def pushing(
    workspace: Workspace, push_to: str | None, *, public: bool, overwrite: bool
) -> Iterator[Push | None]:
    """A push to this repository while the block runs; None if there is to be none."""
    if push_to is None:
        yield None
        return
    known = workspace.cache / PUSHED
    repository = AdapterRepository(push_to, known, public=public, overwrite=overwrite)
    with scratch_folder(workspace.cache, "pushing") as folder:
        push = Push(workspace, repository, folder)
        with push.publisher:
            yield push


def result_of(run: StageRun, name: str) -> News:
    """What there is to tell of the stage's result; `name` is that of the run, if it is known."""
    evaluation = read_json_object(run.directory / "evaluation.json")
    settings, bits = evaluation["settings"], evaluation["bits_per_byte"]
    weights = [run.workspace.fact(path).sha256 for path in run.directory.glob("*.safetensors")]
    return News(
        run=name or str(run.counts.get("run") or fingerprint(sorted(weights))),
        step=evaluation["step"],
        steps=run.counts["steps"],
        bits_per_byte=bits["adapter"],
        before=bits["base"],
        held_out_bytes=evaluation["held_out"]["bytes"],
        base=evaluation["base_model"],
        method=settings["method"],
        kind=evaluation["kind"],
        from_scratch=bool(settings.get("from_scratch")),
        finished=True,
    )


def linked(directory: Path) -> Callable[[Path], None]:
    """What puts the files of a stage's directory into a folder, taking no room where the disk can
    do that."""

    def write(folder: Path) -> None:
        for path in sorted(directory.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                link_or_copy(path, folder / path.name)

    return write
