"""The corpus as Parquet: one row per chunk, the chunks of a document in order, side by side.

Row groups end where a document ends, at a document chosen by a hash of its own id (a longer one
with a higher chance), and not at a running count. Dropping or adding a book therefore moves no
boundary but its own, and little of a dataset has to be sent again. `parquet_files` has the rest of
the layout.

Equal documents give equal bytes. Memory holds one row group: 8 MB of text on average, 32 at most.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.corpus.arrow_arrays import make_array
from pipeline.corpus.documents import Document, find_splits, read_documents
from pipeline.corpus.parquet_files import SHARD_BYTES, ParquetFiles, Writer
from pipeline.corpus.splits import chance
from pipeline.errors import PipelineError

__all__ = ["Chunks", "Document", "ShardWriter", "chunk_schema", "find_splits", "read_documents"]

ROW_GROUP_BYTES = 8_000_000  # of text, on average
MAX_ROW_GROUP_BYTES = 32_000_000  # of text
_FIRST_OCTET = -64  # the least, as a signed number, with which a character of UTF-8 can begin


@dataclass(frozen=True)
class Chunks:
    """Chunks of a document that follow one another: all of them, or some.

    They begin and end at characters `begins[n]` and `ends[n]` of `data`, the whole document in
    UTF-8. One may begin before the end of the one before and repeat what is between; what the
    chunks hold from there on, joined, is the document.
    """

    document_id: str
    data: bytes
    begins: Sequence[int]
    ends: Sequence[int]
    first: int = 0  # number of the first one in the document
    tokens: Sequence[int] | None = None  # of each, by the tokenizer that the document was cut with
    about: Mapping[str, Any] = field(default_factory=dict)  # other columns, the same for all rows

    def overlaps(self) -> list[int]:
        """How many characters at the beginning of each are the end of the one before; the first one
        repeats nothing.

        Raises PipelineError if text is missing between two, or if one of them brings nothing new.
        """
        befores = [*self.begins[:1], *self.ends[:-1]]
        places = zip(self.begins, befores, self.ends, strict=True)
        for number, (begin, before, end) in enumerate(places, self.first):
            if not 0 <= begin <= before < end:
                raise self._wrong(number)
        return [before - begin for begin, before in zip(self.begins, befores, strict=True)]

    def bytes_before(self) -> dict[int, int]:
        """How many bytes come before each of the characters at which a chunk begins or ends.

        Raises PipelineError if the document is shorter.
        """
        import numpy as np

        places = sorted({*self.begins, *self.ends})
        if self.data.isascii():
            found = {place: place for place in places}
        else:
            octets = np.frombuffer(self.data, np.int8)
            found, character, byte = {}, 0, 0
            for place in places:
                while character < place and byte < len(octets):
                    # As many bytes as characters are missing hold no more characters than that.
                    some = octets[byte : byte + place - character]
                    character += int(np.count_nonzero(some >= _FIRST_OCTET))
                    byte += len(some)
                while byte < len(octets) and octets[byte] < _FIRST_OCTET:
                    byte += 1
                found[place] = byte if character == place else len(octets) + 1
        if max(found.values(), default=0) > len(self.data):
            raise self._wrong(self.first + len(self.ends) - 1)
        return found

    def _wrong(self, number: int) -> PipelineError:
        return PipelineError(
            f"Text is missing or doubled at chunk {number} of document {self.document_id}."
        )


@cache
def chunk_schema() -> Any:
    """The pyarrow schema of a chunk row."""
    import pyarrow as pa

    return pa.schema(
        [
            ("text", pa.string()),
            ("document_id", pa.string()),
            ("chunk", pa.int32()),
            ("char_start", pa.int64()),
            ("char_end", pa.int64()),
            ("is_last", pa.bool_()),
            ("overlap", pa.int32()),
            ("tokens", pa.int32()),
            ("title", pa.string()),
            ("authors", pa.list_(pa.string())),
            ("language", pa.string()),
            ("source", pa.string()),
            ("rights", pa.string()),
            ("work", pa.string()),
            ("split", pa.string()),
            ("collection", pa.string()),
            ("weight", pa.float64()),
        ]
    )


class ShardWriter(Writer):
    """Writes documents as `SPLIT-00000-of-0000N.parquet` into an existing directory, in a stream.

        with ShardWriter(directory, "train") as writer:
            writer.write_document(Chunks("84", data, begins, ends, about={"title": "Frankenstein"}))
        writer.paths  # the finished files

    Named, kept apart and removed as `ParquetFiles` does it. No document, no file.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        *,
        shard_bytes: int = SHARD_BYTES,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self._files = ParquetFiles(
            directory, split, chunk_schema(),
            dictionary=["document_id", "title", "authors.list.element", "language", "source",
                        "rights", "work", "split", "collection"],
            statistics=["document_id", "chunk", "char_start", "char_end", "language", "work"],
            shard_bytes=shard_bytes,
        )  # fmt: skip
        self._row_group_bytes = row_group_bytes
        self._group: list[_Piece] = []
        self._group_bytes = 0

    @property
    def paths(self) -> list[Path]:
        """The finished files."""
        return self._files.paths

    @property
    def rows(self) -> int:
        """Rows in finished row groups."""
        return self._files.rows

    def write_document(self, chunks: Chunks) -> None:
        """Write the chunks of one document, or of a part of it.

        Raises PipelineError if they do not follow each other without a gap.
        """
        written = 0
        document: list[_Piece] = []
        held = 0  # bytes of text of these
        for piece in _pieces(chunks, MAX_ROW_GROUP_BYTES // 8):
            if self._group_bytes + held + piece.bytes > MAX_ROW_GROUP_BYTES:
                self._end_group()
            if held + piece.bytes > MAX_ROW_GROUP_BYTES:
                self._add(document, held)
                self._end_group()
                document, held = [], 0
            document.append(piece)
            held += piece.bytes
            written += piece.bytes
        self._add(document, held)
        if written and _ends_group(chunks.document_id, written, self._row_group_bytes):
            self._end_group()

    def close(self) -> list[Path]:
        """Write what is left, give the shards their names, and return their paths."""
        self._end_group()
        return self._files.close()

    def discard(self) -> None:
        """Remove what was written."""
        self._group = []
        self._files.discard()

    def _add(self, pieces: list["_Piece"], size: int) -> None:
        self._group += pieces
        self._group_bytes += size

    def _end_group(self) -> None:
        """Write the rows gathered so far as one row group.

        Raises PipelineError if what is known of a document holds a lone surrogate.
        """
        if self._group:
            self._files.write_table(_as_table(self._group), self._group_bytes)
        self._group = []
        self._group_bytes = 0


@dataclass(frozen=True)
class _Piece:
    """Some rows of a document, their texts as an Arrow array, and how many bytes these have."""

    texts: Any
    bytes: int
    columns: Mapping[str, Sequence[Any]]
    about: Mapping[str, Any]  # columns that have one value

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column but `text`."""
        return self.columns.get(name) or [self.about.get(name)] * len(self.texts)


def _pieces(chunks: Chunks, limit: int) -> Iterator[_Piece]:
    """The rows in pieces of about `limit` characters of text or less each."""
    overlaps, places = chunks.overlaps(), chunks.bytes_before()
    start = size = 0
    for number, (begin, end) in enumerate(zip(chunks.begins, chunks.ends, strict=True)):
        if size and size + end - begin > limit:
            yield _piece(chunks, overlaps, places, slice(start, number))
            start, size = number, 0
        size += end - begin
    if overlaps:
        yield _piece(chunks, overlaps, places, slice(start, len(overlaps)))


def _piece(chunks: Chunks, overlaps: list[int], places: Mapping[int, int], part: slice) -> _Piece:
    begins, ends = chunks.begins[part], chunks.ends[part]
    spans = [(places[begin], places[end]) for begin, end in zip(begins, ends, strict=True)]
    columns: dict[str, Sequence[Any]] = {
        "chunk": range(chunks.first + part.start, chunks.first + part.stop),
        "char_start": begins,
        "char_end": ends,
        "is_last": [end == len(chunks.data) for _, end in spans],
        "overlap": overlaps[part],
    }
    if chunks.tokens is not None:
        columns["tokens"] = chunks.tokens[part]
    about = {"authors": (), **chunks.about, "document_id": chunks.document_id}
    texts = _texts(chunks.data, spans, any(overlaps[part]))
    return _Piece(texts, sum(end - begin for begin, end in spans), columns, about)


def _texts(data: bytes, spans: list[tuple[int, int]], do_overlap: bool) -> Any:
    """Parts of a text in UTF-8 as an Arrow array, without a copy where they do not overlap."""
    import pyarrow as pa

    if do_overlap:
        return pa.array([data[begin:end] for begin, end in spans], pa.binary()).view(pa.string())
    first = spans[0][0]
    offsets = array("i", [0, *(end - first for _, end in spans)])
    text = pa.py_buffer(data).slice(first, spans[-1][1] - first)
    return pa.StringArray.from_buffers(len(spans), pa.py_buffer(offsets), text)


def _as_table(pieces: list[_Piece]) -> Any:
    """The rows of a row group."""
    import pyarrow as pa

    schema = chunk_schema()
    columns = [pa.chunked_array([piece.texts for piece in pieces], pa.string())]
    try:
        for name, kind in zip(schema.names[1:], schema.types[1:], strict=True):
            values = chain.from_iterable(piece.column(name) for piece in pieces)
            columns.append(make_array(list(values), kind))
    except UnicodeEncodeError as error:
        known = ((piece.about["document_id"], piece.about) for piece in pieces)
        name = next(
            (name for name, about in known
             if error.object in about.values() or error.object in about["authors"]), "",
        )  # fmt: skip
        raise PipelineError(
            f"There is half a character ({error.object[error.start]!a}) in what is known of "
            f"document {name!a}.",
            "Correct its title or author.",
        ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _ends_group(document_id: str, size: int, row_group_bytes: int) -> bool:
    """Whether a row group ends after this document: with chance `size / row_group_bytes`."""
    return chance(document_id.encode()) < size / row_group_bytes
