"""The model repository as it is to be: its files, its card, and what the gate says of them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pipeline.asked import read_as_asked, recorded_prompts
from pipeline.errors import PipelineError
from pipeline.files import fingerprint, read_json_object
from pipeline.hub.books import BOOKS_FILE, TEXT, Book
from pipeline.hub.card import is_repo_id
from pipeline.hub.client import RepoType
from pipeline.hub.gate import Judgement, judge
from pipeline.hub.listing import Content, size_of
from pipeline.hub.making import without_path
from pipeline.hub.markdown import cell
from pipeline.hub.model_card import model_card
from pipeline.hub.model_files import PROOF, adapter_files, read_table
from pipeline.hub.provenance import (
    SETTINGS_FILE,
    Provenance,
    command_of,
    data_command,
    data_hash,
    missing_of,
    missing_texts,
    settings_file,
    settings_of,
    versions_of,
)
from pipeline.hub.publishing import lines_to_mend
from pipeline.hub.scanning import FindMentions, Found, Scan, documents_in, scan_text
from pipeline.hub.told import ADAPTER, MERGED, PICTURE, Told
from pipeline.hub.training_texts import Searched, TableWords, search_texts
from pipeline.workspace import Workspace

CARD, MODELFILE = "README.md", "Modelfile"
_KINDS = {"data": "text", "completion": "completion", "chat": "chat"}  # by folder of `4_dataset`
TOLD_STAGES = ("acquire", "preprocess", "chunk", "upload", "train", "quantize", "modelfile")
Copied = Callable[[Sequence[str]], Sequence[Mapping[str, Any]] | None]


@dataclass
class Model:
    """What stage 9 is to publish.

    `settings` are its options, `rules` those of stage 2 that are on by default, `table_words` reads
    tables that stage 3 did not write, and `copied` finds for each sample the longest stretches that
    stand in the training text. `merged` are the files of the merged model, once they are made, and
    `known` what the gate found in files earlier.
    """

    workspace: Workspace
    settings: Mapping[str, Any]
    find_mentions: FindMentions
    table_words: TableWords
    rules: Collection[str]
    copied: Copied
    merged: Mapping[str, Path] = field(default_factory=dict)
    known: dict[str, Scan] = field(default_factory=dict)
    stage = "publish"
    repo_type: ClassVar[RepoType] = "model"

    def __post_init__(self) -> None:
        records = {stage: self.workspace.record(stage) for stage in TOLD_STAGES}
        self.made_with = {stage: record.settings for stage, record in records.items() if record}
        train = records["train"]
        self.data = train.inputs if train else []
        # An adapter that came without its record says nothing of the data it is made from.
        self.is_of_own_data = train is not None and not train.settings.get("dataset")

    @cached_property
    def searched(self) -> Searched:
        """What the gate finds in the texts that were trained on. A dataset that lies elsewhere is
        for whoever published it to search."""
        dataset = self.made_with.get("train", {}).get("dataset")
        if dataset and not Path(dataset).exists():
            return Searched(files=len(self.data), missing=[fact.path for fact in self.data])
        return search_texts(
            self.workspace, self.data, self.find_mentions, self.table_words, self.known
        )

    @property
    def mark(self) -> str:
        """What the card tells about the stages before, in short."""
        return fingerprint([self.made_with, [fact.sha256 for fact in self.data]])

    @cached_property
    def proof(self) -> dict[str, Any]:
        """The proof of stage 7."""
        path = self.workspace.directory("quantize") / PROOF
        if not path.is_file():
            raise PipelineError(f"{path} is missing.", "Run `pipeline quantize` again.")
        return read_json_object(path)

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The scores and samples of stage 6; what stage 7 noted of them if they are gone, or if it
        was given another adapter than the one that stage 6 made."""
        path = self.workspace.directory("train") / "evaluation.json"
        if self.is_of_run and path.is_file():
            return read_json_object(path)
        return dict(self.proof.get("evaluation") or {})

    @property
    def is_of_run(self) -> bool:
        """Whether the model is what stage 6 made, and not a checkpoint or an adapter from
        elsewhere."""
        return (self.proof.get("source") or {}).get("kind", "run") == "run"

    def check_parts(self) -> None:
        """Raise PipelineError for a part that would not be of the model in the GGUFs."""
        for part in () if self.is_of_run else self.settings["include"]:
            raise PipelineError(
                f"--include {part}: the GGUFs were not made from the result of stage 6.",
                "Leave it out, or run `pipeline quantize` without --checkpoint and --adapter.",
            )

    @cached_property
    def run(self) -> dict[str, Any]:
        """The record of the training run."""
        import yaml

        path = self.workspace.directory("train") / "run.yaml"
        try:
            found = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
        except (yaml.YAMLError, ValueError) as error:
            raise PipelineError(f"{path} is damaged.", "Run `pipeline train` again.") from error
        return found if isinstance(found, dict) else {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What is known of each document that was trained on, from the table of books and from the
        data themselves; a document may have several rows. Of own data of several kinds only those
        of the kind that the run took."""
        table = self.workspace.directory("upload") / BOOKS_FILE
        kind = self.made_with.get("train", {}).get("kind") if self.is_of_own_data else None
        rows = read_table(table) if self.is_of_own_data and table.is_file() else []
        rows = [row for row in rows if kind in (None, row.get("kind") or "text")]
        for fact in self.data:
            path = self.workspace.root / fact.path
            is_other = kind is not None and _KINDS.get(path.parent.name, kind) != kind
            if path.suffix == ".parquet" and path.is_file() and not is_other:
                rows += documents_in(path)
        return rows

    @cached_property
    def books(self) -> list[Book]:
        """The documents as the card shows them."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            if name := str(row.get("document_id") or ""):
                known = found.setdefault(name, {})
                known |= {k: v for k, v in row.items() if k not in known and v not in (None, "", 0)}
        return [
            Book(
                id=name, title=row.get("title"), authors=_list(row.get("authors")),
                language=row.get("language"), rights=row.get("rights"),
                characters=row.get("characters") or 0, split=row.get("split") or "",
                kind=row.get("kind") or TEXT, records=row.get("records") or 0,
            )
            for name, row in found.items()
        ]  # fmt: skip

    @cached_property
    def samples(self) -> list[tuple[str, dict[str, str]]]:
        """Of each prompt what base and trained model wrote, and the GGUF of the first."""
        prompts = read_as_asked(self.evaluation) or [""]
        every = self.evaluation.get("all_samples") or {
            who: [text] for who, text in (self.evaluation.get("samples") or {}).items()
        }
        found = []
        for number, prompt in enumerate(prompts):
            texts = {
                {"base": "base model", "adapter": "trained model"}.get(who, who): str(each[number])
                for who, each in every.items()
                if isinstance(each, list) and number < len(each)
            }
            if number == 0:
                texts |= {
                    f"{name} (seed {file.get('seed')})": str(file["sample"])
                    for name, file in (self.proof.get("files") or {}).items()
                    if isinstance(file, dict) and file.get("sample")
                }
            found.append((str(prompt), texts))
        return found

    def copies(self) -> list[tuple[str, Mapping[str, Any]]] | None:
        """For each sample the longest stretches that stand in the training text."""
        if not self.is_of_own_data:
            return None
        named = [
            (f"{number}. {who}", text)
            for number, (_, texts) in enumerate(self.samples, 1) for who, text in texts.items()
        ]  # fmt: skip
        found = self.copied([text for _, text in named]) if named else None
        if found is None:
            return None
        return [(who, each) for (who, _), each in zip(named, found, strict=True)]

    def parts(self) -> dict[str, Content]:
        """The files but for the card: name in the repository -> what it is.

        Raises PipelineError if a part was asked for that there is not.
        """
        made, adapter = self.workspace.directory("quantize"), self.workspace.directory("train")
        about = self.proof.get("adapter")
        names = [*(self.proof.get("files") or {})]
        names += [str(about["file"])] if isinstance(about, dict) and about.get("file") else []
        files: dict[str, Content] = {
            name: made / name
            for name in dict.fromkeys(names)
            if name == Path(name).name and (made / name).is_file()
        }
        if not files:
            raise PipelineError(f"{made} has no GGUF.", "Run `pipeline quantize` first.")
        modelfile = self.workspace.directory("modelfile") / MODELFILE
        for path, name in ((modelfile, MODELFILE), (adapter / PICTURE, PICTURE)):
            if path.is_file():
                files[name] = path
        if ADAPTER in self.settings["include"]:
            files |= adapter_files(
                adapter, self.proof.get("base_model"), chat=bool(self.evaluation.get("chat"))
            )
        if MERGED in self.settings["include"]:
            files |= {f"{MERGED}/{name}": path for name, path in self.merged.items()}
        return files

    def contents(self) -> dict[str, Content]:
        """All files, by their names in the repository."""
        files = self.parts()
        provenance = self.provenance()
        files[SETTINGS_FILE] = provenance.settings.encode()
        return {**files, CARD: self.card(files, provenance).encode()}

    planned = contents

    def card(self, files: Mapping[str, Content], provenance: Provenance) -> str:
        """The text of the card. Samples that hold a reference of the gate's are left out."""
        dataset = self.made_with.get("train", {}).get("dataset")
        own = self.made_with.get("upload", {}).get("repo_id") if self.is_of_own_data else dataset
        modelfile = files.get(MODELFILE)
        return model_card(
            Told(
                name=self.settings["title"] or str(self.proof.get("name") or "model"),
                proof=self.proof,
                evaluation=self.evaluation | self._prompts_shown(),
                run=self.run,
                provenance=provenance,
                files={name: size_of(content) for name, content in files.items()},
                books=self.books,
                dataset=str(without_path(dataset)) if dataset else None,
                dataset_id=own if own and is_repo_id(own) else None,
                repo_id=self.settings["repo_id"],
                revision=self.settings["revision"],
                temperature=self.made_with.get("modelfile", {}).get("temperature"),
                licence=self.settings["licence"],
                samples=[
                    (self._shown(prompt) or "(left out)",
                     {who: self._shown(text) for who, text in texts.items()})
                    for prompt, texts in self.samples
                ],
                copied=self._copies_shown(),
                unsearched=self.searched.gap,
                modelfile=modelfile.read_text("utf-8") if isinstance(modelfile, Path) else None,
            )
        )  # fmt: skip

    def _prompts_shown(self) -> dict[str, str | None]:
        """A prompt for the card's commands, and the form of one, that hold no reference."""
        prompts = recorded_prompts(self.evaluation)
        in_template = self.evaluation.get("prompt_in_template")
        return {
            "prompt": next(filter(None, map(self._shown, prompts)), None),
            "prompt_in_template": self._shown(str(in_template)) if in_template else None,
        }

    def _shown(self, text: str | None) -> str | None:
        return None if text is None or self.find_mentions(text) else text

    def _copies_shown(self) -> list[tuple[str, Mapping[str, Any]]] | None:
        copies = self.copies()
        if copies is None:
            return None
        return [
            (who, found) for who, found in copies
            if not self.find_mentions(str((found.get("words") or {}).get("text") or ""))
        ]  # fmt: skip

    def provenance(self) -> Provenance:
        """How the model can be made again."""
        sections = settings_of(self.made_with, self.rules)
        if self.evaluation.get("prompts_from"):  # the defaults, which were not asked
            sections.get("train", {}).pop("sample-prompt", None)
        return Provenance(
            settings=settings_file(sections),
            command=command_of(sections),
            versions=versions_of(self.run),
            missing=[*missing_of(self.made_with.get("train", {})), *self._missing_texts()],
            data=data_hash(self.data),
            data_command=data_command(self.data),
            by_hand=list(self._by_hand()) if self.is_of_own_data else [],
        )

    def _missing_texts(self) -> list[str]:
        record = self.workspace.record("acquire")
        if record is None or not self.is_of_own_data:
            return []
        return missing_texts(record.settings, int(record.counts.get("of earlier runs", 0)))

    def _by_hand(self) -> Iterator[str]:
        """What people changed on the way, in a line for each stage."""
        for stage in TOLD_STAGES:
            if stage not in self.made_with:
                continue
            found = self.workspace.examine(stage)
            for verb in ("edited", "deleted", "added"):
                if number := len(getattr(found, verb)):
                    files = "1 file was" if number == 1 else f"{number:,} files were"
                    yield f"{self.workspace.directory(stage).name}: {files} {verb} by hand"

    def judgement(self, contents: Mapping[str, Content]) -> Judgement:
        """What the gate says of these files, and of the documents that were trained on: of their
        texts too, where they are on this disk."""
        allowed = set(self.settings["allow_mentions"])
        rows = {f"| {cell(name)} |" for name in allowed}
        found = self.searched.found | {
            name: each for name, content in contents.items()
            if (each := self._found(name, content, rows)).count
        }  # fmt: skip
        return judge(
            found, self.rows, self.find_mentions, allow_mentions=allowed,
            publish_copyrighted=self.settings["publish_copyrighted"],
        )  # fmt: skip

    def _found(self, name: str, content: Content, allowed_rows: Collection[str]) -> Found:
        """References in a text file of the repository; weights and tokenizers are not looked at."""
        found = Found()
        if name.startswith((f"{ADAPTER}/", f"{MERGED}/")):
            return found

        def shown(line: str) -> str:
            return "\n" if line.startswith(tuple(allowed_rows)) else line

        if isinstance(content, Path):
            return scan_text(content, self.find_mentions, shown)
        text = "".join(map(shown, content.decode().splitlines(keepends=True)))
        found.add((mention.line, mention.quote) for mention in self.find_mentions(text))
        return found

    def held_back(self, judgement: Judgement) -> list[str]:
        """The list of what must not be published, with the file to mend for each."""
        return lines_to_mend(self.workspace, self.stage, self.rows, judgement)


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value or ()]
