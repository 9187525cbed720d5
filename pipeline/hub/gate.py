"""The publish gate: what must not be published, found before anything is sent.

- References to Project Gutenberg in texts, records, titles and names: its licence asks whoever
  passes a book on without that licence to take them all out.
- Documents that are marked as under copyright.

Documents whose rights nobody stated are counted, and no more: most private texts are of that kind.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.hub.scanning import FindMentions, Found, shortened

SHOWN_DOCUMENTS = 20  # of each kind of trouble

_OPEN_LICENCE = re.compile(
    r"public domain|creative commons|\bcc0\b|\bcc[- ]by\b|\b(?:mit|apache|bsd|gfdl)\b"
    r"|\b(?:not|never|no longer|no known) (?:(?:in|under|protected by) )?copyright", re.IGNORECASE
)  # fmt: skip
_PROTECTED = re.compile(
    r"\b(?:under|in|protected by) copyright|\bcopyrighted\b|all rights reserved|©"
    r"|\bcopyright (?:\(c\) |by )?\d{4}|\(c\) \d{4}", re.IGNORECASE
)  # fmt: skip


def state_of_rights(row: Mapping[str, Any]) -> str:
    """`protected`, `unknown` or `stated`, by what a row says under `rights` and `copyright`."""
    if isinstance(row.get("copyright"), bool):
        return "protected" if row["copyright"] else "stated"
    words = str(row.get("rights") or "").strip()
    if words.lower() in ("", "unknown", "none"):
        return "unknown"
    if _PROTECTED.search(words) and not _OPEN_LICENCE.search(words):
        return "protected"
    return "stated"


@dataclass
class Judgement:
    """What the gate found; the numbers of what was allowed count as well."""

    mentions: dict[str, Found]
    names: dict[str, str]  # document -> title or author that holds a reference
    protected: list[str]
    unknown: int
    allowed_mentions: list[str]
    allowed_protected: int

    @property
    def holds_back(self) -> bool:
        """Whether something must not be published."""
        return bool(self.mentions or self.names or self.protected)

    def counts(self) -> dict[str, Any]:
        """For the record of the stage."""
        return {
            "mentions": sum(found.count for found in self.mentions.values()) + len(self.names),
            "documents_with_mentions": len(self.mentions.keys() | self.names.keys()),
            "mentions_allowed_in": self.allowed_mentions,
            "under_copyright": len(self.protected),
            "under_copyright_allowed": self.allowed_protected,
            "rights_unknown": self.unknown,
        }

    def lines(self, files: Mapping[str, Path], catalogue: Path) -> list[str]:
        """The list of what is held back, a line each: file to mend, line, words.

        `files` are the documents' files in `2_preprocessed`, `catalogue` that of stage 1.
        """
        lines = []
        for document, found in list(self.mentions.items())[:SHOWN_DOCUMENTS]:
            path = files.get(document, document)
            lines += [f"{path}:{line}: {quote}" for line, quote in found.first]
            if found.count > len(found.first):
                lines.append(f"{path}: and {found.count - len(found.first):,} more places")
        for document, words in list(self.names.items())[:SHOWN_DOCUMENTS]:
            lines.append(f"{catalogue}: {document}: {words}")
        for document in self.protected[:SHOWN_DOCUMENTS]:
            lines.append(f"{files.get(document, document)}: marked as under copyright")
        hidden = sum(
            max(len(each) - SHOWN_DOCUMENTS, 0)
            for each in (self.mentions, self.names, self.protected)
        )
        return [*lines, f"and {hidden:,} more documents"] if hidden else lines

    def summary(self) -> tuple[str, str]:
        """One sentence on what is held back, and the way out."""
        parts, ways = [], []
        if both := self.mentions.keys() | self.names.keys():
            verb = "refers" if len(both) == 1 else "refer"
            parts.append(f"{_documents_named(sorted(both))} {verb} to Project Gutenberg")
            ways.append(
                "cut the references in 2_preprocessed, or pass --allow-mentions ID for a text "
                "whose author says so"
            )
        if self.protected:
            verb = "is" if len(self.protected) == 1 else "are"
            parts.append(f"{_documents_named(self.protected)} {verb} marked as under copyright")
            ways.append(
                "delete them in 2_preprocessed, or pass --publish-copyrighted if the rights are "
                "yours"
            )
        hint = "; ".join(ways)
        return f"Not to be published: {' and '.join(parts)}.", f"{hint[:1].upper()}{hint[1:]}."


def judge(
    found: Mapping[str, Found],
    rows: Iterable[Mapping[str, Any]],
    find: FindMentions,
    *,
    allow_mentions: Collection[str] = (),
    publish_copyrighted: bool = False,
) -> Judgement:
    """Weigh what was found in the texts and what `rows` (of `documents.jsonl`) say of each.

    `allow_mentions` are the documents whose author really names Project Gutenberg.
    """
    allowed = set(allow_mentions)
    names: dict[str, str] = {}
    protected: list[str] = []
    unknown = 0
    for row in rows:
        document = str(row.get("document_id"))
        about = [row.get("title"), *(row.get("authors") or ())]
        named = [shortened(str(words)) for words in about if words and find(str(words))]
        if named:
            names[document] = named[0]
        state = state_of_rights(row)
        unknown += state == "unknown"
        if state == "protected":
            protected.append(document)
    return Judgement(
        mentions={name: each for name, each in found.items() if name not in allowed},
        names={name: words for name, words in names.items() if name not in allowed},
        protected=[] if publish_copyrighted else protected,
        unknown=unknown,
        allowed_mentions=sorted(allowed & (found.keys() | names.keys())),
        allowed_protected=len(protected) if publish_copyrighted else 0,
    )


def _documents_named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names):,} {'text' if len(names) == 1 else 'texts'} ({shown})"
