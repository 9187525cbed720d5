"""What `pipeline inspect` prints: lines of text and tables, or one JSON object."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.corpus.statistics import SPLITS, Distribution
from pipeline.inspection.accounts import (
    accounts_section,
    document_accounts,
    ledger_section,
    ledger_total,
)
from pipeline.inspection.lengths import CHARACTERS_PER_TOKEN
from pipeline.inspection.search import Search
from pipeline.inspection.survey import DocumentFigures, Inspection
from pipeline.inspection.tables import Section, aligned, bar, number, shortened, visible
from pipeline.training.settings import TrainSettings

_LISTED = 6  # languages, sources or works named before "and so many more"
_HOW_COUNTED = {
    "tokenizer": "counted with the tokenizer of {name}",
    "column": "counted by stage 3, chunk by chunk, and an end token for each document",
    "estimate": f"estimated at {CHARACTERS_PER_TOKEN} characters a token; --tokenizer counts them",
}


def sections(
    found: Inspection, settings: TrainSettings, *, documents: bool = False, width: int = 80
) -> Iterator[Section]:
    """The report, piece by piece: a text of one or several lines, or a table.

    `documents` adds the table of all documents, `width` is that of the terminal in characters.
    """
    yield from _overview(found)
    if found.documents:
        yield from _sizes(found, width)
        yield "\n" + "\n".join(_training(found, settings))
        yield from _contents(found, width)
    if found.ledger:
        yield from ledger_section(found)
    if documents:
        yield "\nDocuments"
        yield _documents(found)
        yield from accounts_section(found)
    yield from _samples(found, width)
    for search in found.searches:
        yield from _search(search, width)


def as_json(
    found: Inspection, settings: TrainSettings, *, documents: bool = False
) -> dict[str, Any]:
    """The report as plain values; `documents` adds one entry for each."""
    value: dict[str, Any] = {
        "place": str(found.place),
        "splits": {
            split: {
                "documents": len(_in_split(found, split)),
                "chunks": found.chunk_sizes[split].count,
                "characters": _characters(found, split),
                "tokens": found.chunk_tokens[split].total,
            }
            for split in SPLITS
        },
        "records": found.records,
        "chunk_characters": found.sizes().as_dict(),
        "chunk_tokens": found.token_counts().as_dict(),
        "document_characters": _of_documents(found, lambda d: d.total).as_dict(),
        "document_tokens": _of_documents(found, lambda d: d.tokens).as_dict(),
        "unit": found.unit,
        "minimum": _minimum(found),
        "histogram": [list(one) for one in _measured(found).bins()],
        "tokens_are": found.tokens,
        "tokenizer": found.tokenizer,
        "training": None,
        "languages": dict(_counted(found, "language")),
        "sources": dict(_counted(found, "collection")),
        "works": len({d.work or name for name, d in found.documents.items()}),
        "contamination": found.contamination,
        "ledger": ledger_total(found),
        "boundaries": [vars(boundary) for boundary in found.boundaries],
        "searches": [search.as_dict() for search in found.searches],
    }
    if found.training:
        length = found.training.length
        value["training"] = {
            "sequences": found.training.sequences, "steps": length.steps, "epochs": length.epochs,
            "tokens": length.tokens, "sequence_length": settings.sequence_length,
            "batch_size": settings.sequences_per_step,
        }  # fmt: skip
    if documents:
        accounts = {row["document_id"]: row for row in document_accounts(found)}
        value["documents"] = [
            {"document_id": name, **vars(d), "split": d.split, "ledger": accounts.get(name)}
            for name, d in found.documents.items()
        ]
    return value


def _overview(found: Inspection) -> Iterator[Section]:
    sizes = found.sizes()
    if found.documents:
        yield (
            f"{found.place}: {number(len(found.documents), 'document')}, "
            f"{number(sizes.count, 'chunk')}, {_characters(found):,} characters"
        )
        columns = ["split", "documents", "chunks", "characters", "share", "tokens"]
        rows = []
        for split in SPLITS:
            share = _characters(found, split) / max(_characters(found), 1)
            rows.append(
                [split, f"{len(_in_split(found, split)):,}", f"{found.chunk_sizes[split].count:,}",
                 f"{_characters(found, split):,}", f"{share:.1%}",
                 f"{found.chunk_tokens[split].total:,}"]
            )  # fmt: skip
        yield aligned(columns, rows)
    for kind, splits in found.records.items():
        parts = ", ".join(f"{count:,} in {split}" for split, count in splits.items())
        yield f"Records ({kind}): {parts}"


def _sizes(found: Inspection, width: int) -> Iterator[Section]:
    sizes, tokens = found.sizes(), found.token_counts()
    rows = [
        _figures("chunk, characters", sizes),
        _figures("document, characters", _of_documents(found, lambda d: d.total)),
        _figures("chunk, tokens", tokens),
        _figures("document, tokens", _of_documents(found, lambda d: d.tokens)),
    ]
    yield "\nSizes"
    yield aligned(["of a", "least", "mean", "median", "most", "in all"], rows)
    yield "Tokens: " + _HOW_COUNTED[found.tokens].format(name=found.tokenizer) + "."
    measured = _measured(found)
    minimum = _minimum(found)
    if minimum:
        below = measured.below(minimum)
        yield (
            f"Chunks below the minimum of {minimum:,} {found.unit}: {below:,} of "
            f"{measured.count:,} ({below / max(measured.count, 1):.1%})."
        )
    yield f"\nChunks by size ({found.unit})"
    bins = measured.bins()
    most = max(count for *_, count in bins)
    labels = [f"{first:,} to {last:,}" for first, last, _ in bins]
    longest = max(map(len, labels))
    room = max(10, min(60, width - longest - 10))
    yield "\n".join(
        f"  {label:>{longest}}  {bar(count / most, room)} {count:,}"
        for label, (*_, count) in zip(labels, bins, strict=True)
    )


def _figures(what: str, values: Distribution) -> list[str]:
    middle = [values.minimum, round(values.mean), round(values.median), values.maximum]
    return [what, *(f"{value:,}" for value in (*middle, values.total))]


def _training(found: Inspection, settings: TrainSettings) -> Iterator[str]:
    training = found.training
    if training is None:
        yield f"Training: {found.no_training}"
        return
    about = "" if found.tokens == "tokenizer" else "about "
    batch = settings.sequences_per_step
    yield (
        f"Training: {about}{number(training.length.steps, 'step')} for "
        f"{number(settings.epochs or 1.0, 'epoch')} "
        f"({training.sequences:,} sequences of up to {settings.sequence_length:,} tokens, "
        f"{batch:,} a step)."
    )
    if training.held_out:
        yield (
            f"  There is no validation split: `pipeline train` will hold out "
            f"{number(training.held_out, 'document')}."
        )


def _contents(found: Inspection, width: int) -> Iterator[Section]:
    works = Counter(d.work for d in found.documents.values() if d.work)
    lines = []
    for label, name in (("Languages", "language"), ("Sources", "collection")):
        counted = _counted(found, name)
        # A source of one document each, or one for all, says nothing.
        if name == "language" or 1 < len(counted) < len(found.documents):
            shown = [f"{value} {count:,}" for value, count in counted[:_LISTED]]
            more = len(counted) - len(shown)
            rest = f" and {more} more" if more else ""
            lines.append(f"{label} (documents): {', '.join(shown)}{rest}")
    if works:
        several = sum(count > 1 for count in works.values())
        lines.append(f"Works: {len(works):,}, {several or 'none'} of them in several documents")
    if found.contamination:
        passages, again = (found.contamination[key] for key in ("passages", "in_training"))
        lines.append(f"Held-out passages that the training text has too: {again} of {passages}")
    if lines:
        yield "\n".join(shortened(visible(line), width) for line in lines)


def _counted(found: Inspection, name: str) -> list[tuple[str, int]]:
    values = (getattr(document, name) or "unknown" for document in found.documents.values())
    return Counter(values).most_common()


def _documents(found: Inspection) -> Section:
    columns = ["document", "title", "split", "chunks", "characters", "tokens"]
    rows = [
        [name, visible(d.title or ""), d.split, f"{d.chunks:,}", f"{d.total:,}", f"{d.tokens:,}"]
        for name, d in found.documents.items()
    ]
    return aligned(columns, rows, words=("document", "title", "split"))


def _samples(found: Inspection, width: int) -> Iterator[Section]:
    if found.boundaries:
        yield "\nWhere chunks end and begin (↵ is a line end)"
    room = max(20, min(80, width - 4))
    for one in found.boundaries:
        place = f"chunk {one.chunk - 1} | {one.chunk}, character {one.place:,}"
        before, after = visible(one.before), visible(one.after)
        yield (
            f"\n{shortened(_named(one.document_id, one.title), max(20, width - len(place) - 2))}, "
            f"{place}\n  … {before[-room:]}\n  | {after[:room]}"
        )


def _search(search: Search, width: int) -> Iterator[Section]:
    where = f" in {number(len(search.documents), 'document')}" if search.hits else ""
    yield f"\nSearch for {visible(search.sought)!r}: {number(search.hits, 'hit')}{where}"
    for hit in search.first:
        place = f"chunk {hit.chunk} + {hit.offset:,}, character {hit.place:,}"
        name = shortened(_named(hit.document_id, hit.title), max(20, width - len(place) - 4))
        found = visible(hit.found)
        room = max(10, (width - len(found) - 6) // 2)
        yield (
            f"\n{name}, {place}\n"
            f"  {visible(hit.before)[-room:]}[{found}]{visible(hit.after)[:room]}"
        )
    if search.hits > len(search.first):
        yield f"\nand {search.hits - len(search.first):,} more (--hits shows them)"


def _named(document_id: str, title: str | None) -> str:
    return visible(f"{document_id} ({title})" if title and title != document_id else document_id)


def _in_split(found: Inspection, split: str) -> list[str]:
    return [name for name, d in found.documents.items() if split in d.characters]


def _characters(found: Inspection, split: str | None = None) -> int:
    documents = found.documents.values()
    return sum(d.total if split is None else d.characters.get(split, 0) for d in documents)


def _of_documents(found: Inspection, figure: Callable[[DocumentFigures], int]) -> Distribution:
    return Distribution(map(figure, found.documents.values()))


def _measured(found: Inspection) -> Distribution:
    """The sizes of chunks in what stage 3 measured them in."""
    return found.token_counts() if found.unit == "tokens" else found.sizes()


def _minimum(found: Inspection) -> int | None:
    minimum = found.settings.get("minimum_size")
    return minimum if isinstance(minimum, int) else None
