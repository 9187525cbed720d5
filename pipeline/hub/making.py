"""What a card tells about the making of a dataset, out of the records of the stages before.

A card is public and a record is not: of stage 1 only what chose the books is told, and of a path on
somebody's disk only its last name.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pipeline.storage.urls import redact

_CHOICE_OF_BOOKS = (
    "topic", "search", "ids", "languages", "author_year_start", "author_year_end", "copyright",
    "sort", "num_records", "limit", "fraction", "seed",
)  # fmt: skip
_MERELY_DEFAULT: tuple[Any, ...] = (None, "", [], {})
_EVERYTHING = {"fraction": 1.0}


def shown_settings(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, object]]:
    """The settings of the stages (name -> settings) as the card shows them."""
    shown: dict[str, dict[str, object]] = {}
    for stage, settings in records.items():
        told = {
            name: without_path(value)
            for name, value in settings.items()
            if value not in (*_MERELY_DEFAULT, _EVERYTHING.get(name))
            and (stage != "acquire" or name in _CHOICE_OF_BOOKS)
        }
        if told:
            shown[stage] = told
    return shown


def ledger_rows(
    ledger: Mapping[str, Any], removed: Mapping[str, Any], held: str = "chunks"
) -> dict[str, object]:
    """What became of every character, line by line: label -> number.

    `ledger` is that of stage 3. Without one only what stage 2 `removed` by each rule is told.
    `held` names what they are in now: chunks, records, or both.
    """
    total = ledger.get("total") or {}
    rows: dict[str, object] = {}
    if "characters_in" in total:
        rows["characters in the sources"] = total["characters_in"]
    for rule, cut in (total.get("removed") or removed).items():
        number = cut.get("characters") if isinstance(cut, Mapping) else cut
        if number:
            rows[f"characters removed ({rule})"] = number
    if total.get("by_hand"):
        rows["characters added by hand (below zero: taken away)"] = total["by_hand"]
    for name, label in (("in_chunks", f"in {held}"), ("train", "in train"),
                        ("validation", "in validation")):  # fmt: skip
        if name in total:
            rows[f"characters {label}"] = total[name]
    return rows


def without_path(value: Any) -> Any:
    """A setting as others may see it: of a path its last name, of an address no password."""
    if isinstance(value, list):
        return ", ".join(str(without_path(item)) for item in value)
    if isinstance(value, str) and "://" in value:
        return redact(value)
    is_path = isinstance(value, str) and (value.startswith(("/", "~", "\\")) or value[1:2] == ":")
    return PurePath(value.replace("\\", "/")).name if is_path else value
