"""What cleaning cut from one text: where, by which rule, as a person reads it."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.books.decoding import decode
from pipeline.books.document import Rejected, clean_document
from pipeline.console import few, many
from pipeline.errors import UsageError
from pipeline.preprocessing.recipe import Task, judge

# Changes to the white space of nearly every line: told in figures only.
_QUIET_STEPS = {"whitespace", "unwrap"}
# For a screen: the others are counted.
_WHOLE_CUT = 8  # lines of a cut that are shown whole; of a longer one its first and last
_ENDS = 3
_MANY = 12  # cuts of a rule that are shown
_SHOWS_ALL = "--all shows them"
_FAR = 40  # lines that may be new in a change before the next line that stayed
_SAME = 2  # lines in a row that must be equal for texts to go on together

Line = tuple[str, str]  # a style of `printing.print_diff` and a line


@dataclass(frozen=True)
class Change:
    """Lines that a step took out, those that it put in, and the number of the first of them in
    the file (the first line is 1)."""

    line: int
    before: tuple[str, ...]
    after: tuple[str, ...]


def find_text(wanted: str, catalog: dict[str, dict[str, Any]], paths: Sequence[Path]) -> Path:
    """The one file that `wanted` names: by its name, its id, or a part of its title.

    Raises UsageError if there is none, or several: then they are listed.
    """
    word = wanted.strip().lower()
    texts = [path for path in paths if path.suffix == ".txt"]
    for path in texts:
        if word in (path.name.lower(), path.stem.lower()) or Path(wanted) == path:
            return path
    about = {path: catalog.get(path.name, {}) for path in texts}
    found = [p for p in texts if word == str(about[p].get("id", "")).lower()]
    found = found or [p for p in texts if word == p.stem.lower().partition("-")[0]]
    found = found or [
        p
        for p in texts
        if word in str(about[p].get("title") or "").lower() or word in p.stem.lower()
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"--show {wanted}: no text of that name, id or title in 1_raw.")
    names = few([path.name for path in found], 10)
    raise UsageError(f"--show {wanted}: {len(found)} texts match.", f"Name one: {names}.")


def show_text(task: Task, folder: Path, *, whole: bool = True) -> Iterator[Line]:
    """The account of cleaning a text anew, line by line, and whether it would be left out.
    `folder` is where the result of the last run lies, perhaps edited by hand. Unless it is to be
    `whole`, of many places the first are told and of long cuts the ends, and the rest is counted.
    """
    path, recipe = task.path, task.recipe
    cleaned, note = folder / path.name, folder / "rejected" / path.name
    raw = path.read_bytes()
    steps: list[tuple[str, str, str]] = []
    yield "title", str(path)
    try:
        document = clean_document(
            raw, unwrap=recipe.unwrap, rules=recipe.rules,
            watch=lambda *step: steps.append(step),
        )  # fmt: skip
    except Rejected as error:
        yield "removed", f"It is rejected: {error.reason}."
        return
    origins = list(range(1, decode(raw).text.count("\n") + 2))
    for name, before, after in steps:
        changes, origins = compare(before, after, origins)
        yield from _step(name, before, after, changes, whole)
    for warning in document.warnings:
        yield "note", f"warning: {warning}"
    share = document.characters_out / max(1, document.characters_in)
    yield (
        "title",
        f"{many(document.characters_in, 'character')} in, {document.characters_out:,} out "
        f"({share:.1%})",
    )
    if cleaned.is_file():
        yield from _by_hand(document.text, cleaned, whole)
    _, _, reason = judge(document, task)
    if reason:
        yield "removed", f"It is left out: {reason}."
    if note.is_file():
        yield "note", f"{note}: {note.read_text('utf-8', 'replace').strip()}"


def compare(before: str, after: str, origins: Sequence[int]) -> tuple[list[Change], list[int]]:
    """The changes between two texts, line by line, and where the lines of `after` come from.
    `origins` are the numbers in the file of the lines of `before`.

    A line goes with the next equal one; no attempt is made at the smallest difference, which
    takes minutes for a book of which every second line was changed.
    """
    old, new = before.split("\n"), after.split("\n")
    places: dict[str, list[int]] = {}
    for number, line in enumerate(old):
        places.setdefault(line, []).append(number)
    changes: list[Change] = []
    come_from: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and old[i] == new[j]:
            come_from.append(origins[i])
            i, j = i + 1, j + 1
            continue
        next_i, next_j = _meet(old, new, places, i, j)
        while next_i > i and next_j > j and old[next_i - 1] == new[next_j - 1]:
            next_i, next_j = next_i - 1, next_j - 1
        place = origins[min(i, len(origins) - 1)]
        changes.append(Change(place, tuple(old[i:next_i]), tuple(new[j:next_j])))
        come_from += [origins[min(i + k, len(origins) - 1)] for k in range(next_j - j)]
        i, j = next_i, next_j
    return changes, come_from


def _meet(
    old: list[str], new: list[str], places: dict[str, list[int]], i: int, j: int
) -> tuple[int, int]:
    """The nearest lines at or after `i` and `j` from which both texts go on alike."""
    best: tuple[int, int, int] | None = None
    for ahead in range(min(_FAR, len(new) - j)):
        if best and ahead >= best[0]:
            break
        line = new[j + ahead]
        candidates = places.get(line, [])
        first = bisect_left(candidates, i)
        for at in candidates[first : first + _FAR]:
            cost = ahead + (at - i)
            if best and cost >= best[0]:
                break
            is_only = bool(line.strip()) and len(candidates) == 1
            if is_only or _go_on_alike(old[at : at + _SAME], new[j + ahead : j + ahead + _SAME]):
                best = (cost, at, j + ahead)
                break
    return (best[1], best[2]) if best else (len(old), len(new))


def _go_on_alike(old: list[str], new: list[str]) -> bool:
    return old == new and (any(line.strip() for line in old) or len(old) < _SAME)


def _step(name: str, before: str, after: str, changes: list[Change], whole: bool) -> Iterator[Line]:
    size = len(before) - len(after)
    taken = many(size, "character") if size >= 0 else f"{many(-size, 'character')} more"
    yield "heading", f"{name}: {many(len(changes), 'place')}, {taken}"
    if name not in _QUIET_STEPS:
        yield from _changes(changes, whole)


def _by_hand(made: str, cleaned: Path, whole: bool) -> Iterator[Line]:
    text = cleaned.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n")
    if text == made:
        return
    changes, _ = compare(made, text, range(1, made.count("\n") + 2))
    places = many(len(changes), "place")
    yield "heading", f"by hand, or made with other settings, in {cleaned}: {places}"
    yield from _changes(changes, whole)


def _changes(changes: list[Change], whole: bool) -> Iterator[Line]:
    for change in changes if whole else changes[:_MANY]:
        yield "place", f"@ line {change.line:,}"
        yield from _lines("removed", "- ", change.before, whole)
        yield from _lines("added", "+ ", change.after, whole)
    if not whole and len(changes) > _MANY:
        yield "note", f"  ... and {many(len(changes) - _MANY, 'more place')}; {_SHOWS_ALL}"


def _lines(style: str, sign: str, lines: Sequence[str], whole: bool) -> Iterator[Line]:
    if whole or len(lines) <= _WHOLE_CUT:
        yield from ((style, sign + line) for line in lines)
        return
    yield from ((style, sign + line) for line in lines[:_ENDS])
    yield "note", f"  ... {many(len(lines) - 2 * _ENDS, 'more line')}; {_SHOWS_ALL}"
    yield from ((style, sign + line) for line in lines[-_ENDS:])
