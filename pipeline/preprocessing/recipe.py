"""What is to be done to every text of stage 2, and what becomes of one: the work of a process."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.books.cleaning import Rule, choose_rules
from pipeline.books.document import NO_MARKERS, CleanDocument, Rejected, clean_document
from pipeline.books.languages import detect_language
from pipeline.books.mentions import Mention, find_mentions
from pipeline.books.quality import Limits, Quality, complaint, measure
from pipeline.books.sketches import sketch
from pipeline.errors import UsageError
from pipeline.files import fingerprint, sha256_bytes
from pipeline.preprocessing.language_codes import short_code

FROM_CATALOG = (
    "title", "authors", "languages", "rights", "source", "collection", "weight", "segment",
)  # fmt: skip
# What the catalogue alone decides, also by saying nothing.
_CATALOG_ONLY = ("rights", "weight", "segment")
_NO_LIMITS = Limits(
    minimum_words=0, maximum_symbol_share=1, maximum_repeated_lines=1, minimum_wordlike=0
)
DUPLICATES = ("drop", "keep", "off")
_QUOTED = 3  # mentions of Project Gutenberg that a warning quotes, for each text


@dataclass(frozen=True)
class Recipe:
    """How texts are cleaned and which of them are kept. `limits` None: quality is not looked at;
    `languages` empty: all are kept; `duplicates`: one of `DUPLICATES`."""

    unwrap: bool = True
    skip: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    limits: Limits | None = field(default_factory=Limits)
    duplicates: str = "drop"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The cleaning rules that are on."""
        return choose_rules(self.skip, self.extra)


@dataclass(frozen=True)
class Task:
    """A text to clean: a file of `1_raw` and what stage 1 knows of it."""

    path: Path
    about: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Result:
    """What became of a text: its row for the report, and if it is kept its bytes (or the file that
    they were written to) and its sketch."""

    row: dict[str, Any] = field(default_factory=dict)
    data: bytes | Path | None = None
    sha256: str = ""
    sketch: bytes = b""
    warnings: tuple[str, ...] = ()


def read_languages(words: str | None) -> tuple[str, ...]:
    """The codes in a text with commas, sorted, of two letters where the language has such a code.
    Raises UsageError for what is no ISO 639 code."""
    codes = set()
    for word in (words or "").split(","):
        if not word.strip():
            continue
        code = short_code(word) if word.strip().isalpha() else None
        if code is None:
            raise UsageError(
                f"--keep-languages {word.strip()}: no code of a language.", "For example: en,fr"
            )
        codes.add(code)
    return tuple(sorted(codes))


def facts_of(known: dict[str, Any]) -> dict[str, Any]:
    """What the catalogue's row says that the report repeats, and that the outputs depend on.

    A person may have written it: one name is a list of one, and titles and rights are words.
    """
    facts = {key: known.get(key) for key in FROM_CATALOG}
    for key in ("title", "rights"):
        facts[key] = None if facts[key] is None else str(facts[key])
    for key in ("authors", "languages"):
        value = facts[key]
        if value is not None:
            several = value if isinstance(value, list) else [value]
            facts[key] = [str(each) for each in several if each is not None]
    return facts


def clean_text(task: Task) -> Result:
    """Clean, measure and sketch one text. A pure function of the file and the task."""
    raw = task.path.read_bytes()
    row: dict[str, Any] = {"file": task.path.name, "document_id": task.path.stem}
    recipe, about = task.recipe, task.about
    try:
        document = clean_document(raw, unwrap=recipe.unwrap, rules=recipe.rules)
    except Rejected as error:
        return Result(row | from_catalog(about) | rejection(error.reason, error.characters_in))
    language, quality, reason = judge(document, task)
    row |= _description(document, about, language) | {"quality": quality.as_dict()}
    if reason:
        return Result(row | rejection(reason, document.characters_in))
    data = document.text.encode()
    mentions, warnings = describe_mentions(task.path.name, document.mentions)
    # A text of one's own has no markers: that is for the report, and nothing to be warned of.
    told = [warning for warning in document.warnings if warning != NO_MARKERS]
    warnings = [f"{task.path.name}: {warning}." for warning in told] + warnings
    row |= {"mentions": mentions}
    made = sketch(document.text).to_bytes() if recipe.duplicates != "off" else b""
    return Result(row, data, sha256_bytes(data), made, tuple(warnings))


def judge(document: CleanDocument, task: Task) -> tuple[str | None, Quality, str | None]:
    """A cleaned text's language and quality, and the reason why it is left out, if it is."""
    wanted, limits = task.recipe.languages, task.recipe.limits or _NO_LIMITS
    language = _language(document, task.about, wanted)
    quality = measure(document.text)
    reason = complaint(quality, language, limits, wanted)
    if not is_unicode(task.path.name):  # a document bears the name of its file in every table
        reason = "its file name is not UTF-8: give it another"
    return language, quality, reason


def is_unicode(name: str) -> bool:
    """Whether a file name can be written as UTF-8: on Linux it may be any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def sketch_text(path: Path) -> Result:
    """Sketch a text of `2_preprocessed` as it is, and look for mentions in it."""
    data = path.read_bytes()
    text = data.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    mentions, warnings = describe_mentions(path.name, find_mentions(text))
    made = sketch(text).to_bytes()
    return Result({"mentions": mentions}, None, sha256_bytes(data), made, tuple(warnings))


def work_on(job: Task | Path, folder: Path | None = None) -> Result:
    """Clean a text of `1_raw`, or look at one of `2_preprocessed`.

    With a `folder` the clean text is written to a file there: its bytes need not go from process to
    process. To wait until it is on the disk is for whoever gives it its name.
    """
    result = clean_text(job) if isinstance(job, Task) else sketch_text(job)
    if folder is None or not isinstance(job, Task) or not isinstance(result.data, bytes):
        return result
    path = folder / fingerprint(job.path.name)
    path.write_bytes(result.data)
    return replace(result, data=path)


def describe_mentions(name: str, found: Sequence[Mention]) -> tuple[int, list[str]]:
    """How often a text of `2_preprocessed` speaks of Project Gutenberg, and a warning for each of
    the first few places."""
    warnings = [
        f'{name}:{mention.line}: speaks of Project Gutenberg: "{mention.quote}"'
        for mention in found[:_QUOTED]
    ]
    if len(found) > _QUOTED:
        warnings.append(f"{name}: and {len(found) - _QUOTED} more such places.")
    return len(found), warnings


def rejection(reason: str, characters_in: int) -> dict[str, Any]:
    """What the report says of a text that is left out, besides what is known of it."""
    return {
        "verdict": "rejected", "reason": reason,
        "characters_in": characters_in, "characters_out": 0, "removed": {},
    }  # fmt: skip


def from_catalog(about: dict[str, Any]) -> dict[str, Any]:
    """What the report repeats of the catalogue."""
    row = {key: about[key] for key in FROM_CATALOG if key != "languages"}
    return row | {"authors": about["authors"] or [], "language": _catalog_language(about)}


def brought_up_to_date(
    row: dict[str, Any], about: dict[str, Any], wanted: Collection[str] = ()
) -> dict[str, Any]:
    """The row of a document that is not made again, with what the catalogue says of it now.
    `wanted` are languages of which one is enough."""
    now = from_catalog(about) | {"language": _catalog_language(about, wanted)}
    return row | {key: value for key, value in now.items() if value or key in _CATALOG_ONLY}


def _description(
    document: CleanDocument, about: dict[str, Any], language: str | None
) -> dict[str, Any]:
    """The report's row of a kept text. The catalogue knows better than the header does."""
    return from_catalog(about) | {
        "verdict": "kept",
        "reason": None,
        "title": about["title"] or document.title,
        "authors": about["authors"] or ([document.author] if document.author else []),
        "language": language,
        "encoding": document.encoding,
        "characters_in": document.characters_in,
        "characters_out": document.characters_out,
        "removed": document.removed,
        "warnings": document.warnings,
    }


def _language(
    document: CleanDocument, about: dict[str, Any], wanted: Collection[str]
) -> str | None:
    """A text's language: what the catalogue says (of several the one that is asked for), else
    its header, else its words."""
    given = _catalog_language(about, wanted)
    return given or document.language or detect_language(document.text)


def _catalog_language(about: dict[str, Any], wanted: Collection[str] = ()) -> str | None:
    codes = [code for code in map(short_code, about["languages"] or []) if code]
    return next((code for code in codes if code in wanted), codes[0] if codes else None)
