"""The publish gate: what must not be published, found before anything is sent.

- References to Project Gutenberg in texts, records, titles and names: its licence asks whoever
  passes a book on without that licence to take them all out.
- Documents that are marked as under copyright.

Documents whose rights nobody stated are counted, and no more: most private texts are of that kind.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.console import many
from pipeline.hub.scanning import FindMentions, Found, shortened

SHOWN_DOCUMENTS = 20  # of each kind of trouble

_PUBLIC_DOMAIN = (
    r"(?:public[- ]?domain|gemeinfrei|domaine public|domin[ií]o p[úu]blico|pubblico dominio)"
)
# Words that hold "copyright" and tell that there is none; they are taken out first.
_NO_COPYRIGHT = re.compile(
    r"\b(?:not|never|no longer|no known|no|without|out of|free (?:of|from))\s+"
    r"(?:(?:in|under|protected by|subject to)\s+)?copyright(?:s|ed)?\b"
    r"(?![- ](?:free|infringement))|(?<!not )\bcopyright[- ]free\b"
    r"|\bcopyright\s*[:=]\s*(?:no|none|false)\b"
    r"|\bcopyrights? (?:(?:has|have|is|term|protection) )*(?:expired|lapsed|not renewed)\b"
    r"|\brightsstatements\.org/vocab/NoC\b", re.IGNORECASE
)  # fmt: skip
_NOT_STATED = re.compile(
    r"\bunknown copyright\b"
    r"|\bcopyright(?: status)?(?: is)?:? (?:unknown|undetermined|not evaluated)\b",
    re.IGNORECASE,
)
_NOT_OPEN = re.compile(
    rf"\b(?:not?|never|nicht|keine?|pas)\b(?: \w+){{0,3}} {_PUBLIC_DOMAIN}"
    rf"|\b{_PUBLIC_DOMAIN}(?:\s*\?|\W{{1,3}}(?:not?|never|unknown|unlikely|status)\b)",
    re.IGNORECASE,
)
_BEGINS_OPEN = re.compile(rf"\W*(?:in the )?{_PUBLIC_DOMAIN}\b", re.IGNORECASE)
_OPEN = re.compile(rf"\b{_PUBLIC_DOMAIN}\b", re.IGNORECASE)
# MIT, BSD and Apache are also names of publishers, universities and peoples.
_LICENCE = re.compile(
    r"(?<!not )(?<!no )(?<!not under )(?<!not under a )(?<!not a )(?<!without a )\b(?:"
    r"creative ?commons|cc0|cc[\W_]{0,2}(?:by|zero)|gfdl|gnu free documentation"
    r"|(?:mit|bsd|apache)(?:[- ,]+(?:\d[\w.-]*|version|style|clause|software))*[- ,]+licen[cs]e"
    r"|licen[cs]ed?:?\s+(?:under\s+)?(?:the\s+)?(?:mit|bsd|apache)(?!\s+press))", re.IGNORECASE
)  # fmt: skip
_RESERVED = re.compile(
    r"(?<!some )(?<!no )\brights (?:are )?reserved|\brechte vorbehalten|\brechten voorbehouden"
    r"|\bdroits r[ée]serv[ée]s|\bderechos reservados|\bdireitos reservados|\bdiritti riservati"
    r"|права защищены|\bproprietary\b", re.IGNORECASE
)  # fmt: skip
_PROTECTED = re.compile(
    r"copyright|©|[ⓒⒸ℗]|\(c\)|\burheberrechtlich gesch|\brightsstatements\.org/vocab/InC\b",
    re.IGNORECASE,
)


def state_of_rights(row: Mapping[str, Any]) -> str:
    """`protected`, `unknown` or `stated`, by what a row says under `rights` and `copyright`.

    A word of protection counts more than "public domain", unless the text begins with that; a
    notice of copyright (not "all rights reserved") may stand beside an open licence.
    """
    if isinstance(row.get("copyright"), bool):
        return "protected" if row["copyright"] else "stated"
    told = " ".join(unicodedata.normalize("NFC", str(row.get("rights") or "")).split())
    words = _NOT_STATED.sub(" ", _NO_COPYRIGHT.sub(" ", told))
    if _NOT_OPEN.search(words):
        return "protected"
    if _BEGINS_OPEN.match(words) or _LICENCE.match(words):
        return "stated"
    has_licence = bool(_LICENCE.search(words))
    if _RESERVED.search(words) or (_PROTECTED.search(words) and not has_licence):
        return "protected"
    is_open = has_licence or _OPEN.search(words) or _NO_COPYRIGHT.search(told)
    return "stated" if is_open else "unknown"


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
                lines.append(f"{path}: and {many(found.count - len(found.first), 'more place')}")
        for document, words in list(self.names.items())[:SHOWN_DOCUMENTS]:
            lines.append(f"{catalogue}: {document}: {words}")
        for document in self.protected[:SHOWN_DOCUMENTS]:
            name = files.get(document, document or "a file without document_id")
            lines.append(f"{name}: marked as under copyright")
        hidden = sum(
            max(len(each) - SHOWN_DOCUMENTS, 0)
            for each in (self.mentions, self.names, self.protected)
        )
        return [*lines, f"and {many(hidden, 'more document')}"] if hidden else lines

    def summary(self) -> tuple[str, str]:
        """One sentence on what is held back, and the way out."""
        parts, ways = [], []
        if both := self.mentions.keys() | self.names.keys():
            verb = "refers" if len(both) == 1 else "refer"
            parts.append(f"{_documents_named(sorted(both))} {verb} to Project Gutenberg")
            ways.append(
                "cut the references where they are listed, or pass --allow-mentions ID for a text "
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
    """Weigh what was found in the texts and what `rows` say of each document.

    A document may have several rows, of `documents.jsonl` and of the files that would be sent: one
    that protects it is enough, and its rights are unknown if no row states them.
    `allow_mentions` are the documents whose author really names Project Gutenberg.
    """
    allowed = set(allow_mentions)
    names: dict[str, str] = {}
    states: dict[str, set[str]] = {}
    for row in rows:
        document = str(row.get("document_id"))
        authors = row.get("authors") or ()
        about = [document, row.get("title"), *([authors] if isinstance(authors, str) else authors)]
        named = [shortened(str(words)) for words in about if words and find(str(words))]
        if named:
            names.setdefault(document, named[0])
        states.setdefault(document, set()).add(state_of_rights(row))
    protected = [document for document, each in states.items() if "protected" in each]
    unknown = sum(each == {"unknown"} for each in states.values())
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
