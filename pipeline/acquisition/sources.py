"""What people write behind --source and --series: where text is, and how much of it counts.

~/my-novels                          a folder, a file, a glob
letters.jsonl.gz=0.3                 three tenths of the tokens that are trained
test-set=0                           never trained on: evaluation only
s3://bucket/train.{1..32}.jsonl.gz   any address that fsspec knows
user/dataset                         a dataset of the Hugging Face Hub
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.books.naming import slug
from pipeline.corpus.hub_rows import is_dataset_id
from pipeline.errors import UsageError
from pipeline.storage.urls import redact

Kind = Literal["files", "hub", "series"]

RESERVED = ("gutenberg",)  # the collection of books from the catalogue
_SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder
WEIGHTS = "A weight is a number, 0 or more, such as 0.3 in my-novels=0.3"
_WEIGHT = re.compile(r"(?P<place>.+)=(?P<weight>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """One --source or --series.

    `place` is the path, address, pattern or dataset id; `collection` a short name that no other
    source has; `weight` its share of the trained tokens, relative to the others: 0 holds all of it
    out for evaluation, None (in all of them) leaves every text as it is.
    """

    place: str
    collection: str
    kind: Kind
    weight: float | None = None
    alias: str = ""

    @property
    def shown(self) -> str:
        """The place as messages and records may have it: without passwords and signatures."""
        return redact(self.place)

    @property
    def identity(self) -> str:
        """What is the same in every run for the same place, however it was spelled."""
        if self.alias:
            return self.alias
        if self.kind == "series" or "://" in self.place:
            return self.place
        if self.kind == "hub" and not _is_there(self.place):
            return self.place
        # Not resolve(): patterns keep their signs, links the names that they were given.
        return os.path.abspath(os.path.expanduser(self.place))  # noqa: PTH100, PTH111


def parse_sources(
    source: Iterable[str], series: Iterable[str] = (), *, alone: bool = True
) -> list[Source]:
    """The sources in the order given, those of --series last.

    Raises UsageError for a source that is given twice, for weights that some have and some have
    not (a weight of 0 apart, which takes a source out of training altogether), and, if nothing else
    comes with them (`alone`), for sources that all have the weight 0.
    """
    parsed = [(*split_weight(text), "--source") for text in source]
    parsed += [(*split_weight(text), "--series") for text in series]
    twice = [place for place, n in Counter(place for place, _, _ in parsed).items() if n > 1]
    if twice:
        raise UsageError(f"{redact(twice[0])} is given twice.", "Name every source once.")
    _check_weights([(redact(place), weight) for place, weight, _ in parsed], alone)
    names = _collections([place for place, _, _ in parsed])
    return [
        Source(place, name, "series" if option == "--series" else _kind(place), weight)
        for (place, weight, option), name in zip(parsed, names, strict=True)
    ]


def parts_of_datasets(sources: Iterable[Source], split: str, subset: str | None) -> list[Source]:
    """The sources, where each split and subset of a Hub dataset is a source of its own."""
    part = ":".join(filter(None, (subset, split)))
    return [
        replace(source, alias=f"{source.identity}:{part}") if source.kind == "hub" else source
        for source in sources
    ]


def split_weight(text: str) -> tuple[str, float | None]:
    """`path=0.3` as (path, 0.3); (text, None) without a weight.

    A file whose name really ends so is meant as a file, and the end of a web address with a query
    (`?page=2`) as a part of it.
    """
    match = _WEIGHT.fullmatch(text)
    if match is None or _is_there(text):
        bad = no_weight(text)
        if bad is not None and _is_there(text.removesuffix(f"={bad}")):
            raise UsageError(f"--source {redact(text)}: {bad!r} is no weight.", WEIGHTS)
        return text, None
    place, weight = match["place"], float(match["weight"])
    if "?" in place and place.lower().startswith(("http://", "https://")):
        return text, None
    if weight < 0 or weight == float("inf"):
        raise UsageError(f"{redact(text)}: a weight must be 0 or more.", WEIGHTS)
    return place, weight


def no_weight(text: str) -> str | None:
    """What stands where a weight would and is none: "2x" of `novels=2x`, if nothing is called so.

    The end of a query, or of a password, is never taken for one, and so never shown.
    """
    place, _, rest = text.rpartition("=")
    if not place or _WEIGHT.fullmatch(text) or _is_there(text):
        return None
    return None if "://" in text and ("?" in text or re.search("[/@]", rest)) else rest


def _is_there(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, an unknown ~user
        return False


def _check_weights(parsed: Sequence[tuple[str, float | None]], alone: bool) -> None:
    weighted = [place for place, weight in parsed if weight]
    plain = [place for place, weight in parsed if weight is None]
    if weighted and plain:
        raise UsageError(
            f"{weighted[0]} has a weight and {plain[0]} has none.",
            f"Give every source a weight, such as {plain[0]}=0.5, or none of them.",
        )
    if alone and parsed and not weighted and not plain:
        raise UsageError(
            "Every source has the weight 0, so there is nothing to train on.",
            "Give at least one of them another weight, or none.",
        )


def _kind(place: str) -> Kind:
    if _is_there(place):
        folder = Path(place).expanduser()
        return "hub" if any((folder / name).is_file() for name in _SAVED) else "files"
    return "hub" if is_dataset_id(place) else "files"


def _collections(places: Sequence[str]) -> list[str]:
    """A short name for each place, from its last telling part; numbered where two are equal."""
    names: list[str] = []
    for place in places:
        path = re.sub(r"^[a-z0-9+.-]+://([^/@]*@)?", "", place, flags=re.IGNORECASE).split("?")[0]
        parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..", "~")]
        telling = [part for part in parts if not re.search(r"[*{\[]", part)] or parts
        last = re.sub(r"(\.(jsonl?|ndjson|csv|tsv|parquet|txt|md|epub|html?|gz|bz2|xz|zst))+$", "",
                      telling[-1] if telling else "")  # fmt: skip
        name = slug(last, longest=40) or "texts"
        number, chosen = 1, name
        while chosen in names or chosen in RESERVED:
            number += 1
            chosen = f"{name}-{number}"
        names.append(chosen)
    return names
