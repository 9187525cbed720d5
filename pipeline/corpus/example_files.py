"""Examples as files: JSON lines, CSV, TSV, Parquet or plain text, compressed by their suffix."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from pipeline.corpus.compression import plain_name
from pipeline.corpus.examples import Shape
from pipeline.errors import PipelineError
from pipeline.files import encode_json

FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt")
ROW_GROUP_CHARACTERS = 8_000_000


def suffix_of(target: Path) -> str:
    """The suffix that says which format a file has, whatever compresses it: ".csv" of x.csv.gz."""
    return Path(plain_name(target.name)).suffix.lower()


class Writer(Protocol):
    """Takes rows of one file."""

    def write(self, row: dict[str, Any]) -> None: ...


class _Lines:
    """JSON lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, row: dict[str, Any]) -> None:
        known = {name: value for name, value in row.items() if value is not None}
        self._file.write(encode_json(known) + b"\n")


class _Csv:
    """CSV and TSV: everything in quotes; lists of authors are one cell, a chat is JSON."""

    def __init__(self, file: IO[bytes], columns: Sequence[str], delimiter: str) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._rows = csv.writer(
            self._text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n"
        )
        self._rows.writerow(columns)

    def write(self, row: dict[str, Any]) -> None:
        self._rows.writerow([self._cell(name, value) for name, value in row.items()])

    def close(self) -> None:
        """Let go of the file without closing it."""
        self._text.detach()

    def _cell(self, name: str, value: Any) -> str:
        if name == "authors" and isinstance(value, list):
            return "; ".join(value)
        return value if isinstance(value, str) else "" if value is None else json.dumps(value)


class _Plain:
    """Text after text: each with its end on a line's end, or an empty line between them."""

    def __init__(self, file: IO[bytes], eos: str | None) -> None:
        self._file = file
        self._eos = eos
        self._is_first = True

    def write(self, row: dict[str, Any]) -> None:
        text = row["text"].rstrip("\n")
        if self._eos is None and not self._is_first:
            self._file.write(b"\n")
        self._is_first = False
        self._file.write((text + (self._eos or "") + "\n").encode("utf-8"))


class _Parquet:
    """Parquet, in row groups of some megabytes."""

    def __init__(self, file: IO[bytes], shape: Shape, columns: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        turn = pa.struct([("role", pa.string()), ("content", pa.string())])
        kinds = {"authors": pa.list_(pa.string()), "messages": pa.list_(turn)}
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def write(self, row: dict[str, Any]) -> None:
        if isinstance(row.get("authors"), str):
            row = row | {"authors": [row["authors"]]}
        self._rows.append(row)
        self._size += sum(len(value) for value in row.values() if isinstance(value, str))
        self._size += len(json.dumps(row["messages"])) if "messages" in row else 0
        if self._size > ROW_GROUP_CHARACTERS:
            self._end_group()

    def close(self) -> None:
        """Write what is left, and the footer."""
        self._end_group()
        self._writer.close()

    def _end_group(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._size = [], 0


@contextmanager
def open_writer(
    path: Path, target: Path, shape: Shape, columns: Sequence[str], eos: str | None
) -> Iterator[Writer]:
    """Something that writes rows of `columns` into `path` in the format of the name `target`.

    `eos` is what follows each text in a .txt. Raises PipelineError for records in a .txt.
    """
    suffix = suffix_of(target)
    if suffix == ".txt" and shape != "text":
        raise PipelineError(
            f"{target} cannot hold records (prompts with completions, or chats).",
            "Write a .jsonl, .csv or .parquet.",
        )
    with ExitStack() as stack:
        file = stack.enter_context(_compressed(path, target.name))
        if suffix == ".parquet":
            parquet = _Parquet(file, shape, columns)
            stack.callback(parquet.close)
            yield parquet
        elif suffix in (".csv", ".tsv"):
            rows = _Csv(file, columns, "\t" if suffix == ".tsv" else ",")
            stack.callback(rows.close)
            yield rows
        elif suffix == ".txt":
            yield _Plain(file, eos)
        else:
            yield _Lines(file)


@contextmanager
def _compressed(path: Path, name: str) -> Iterator[IO[bytes]]:
    """`path` for writing, packed as the suffix of `name` says; equal content gives equal bytes."""
    suffix = name.lower().removeprefix(plain_name(name).lower())
    with path.open("wb") as file, ExitStack() as stack:
        packed: Any = file
        if suffix == ".gz":
            import gzip

            packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
        elif suffix == ".bz2":
            import bz2

            packed = bz2.BZ2File(file, "wb")
        elif suffix == ".xz":
            import lzma

            packed = stack.enter_context(lzma.LZMAFile(file, "wb"))
        elif suffix == ".zst":
            import pyarrow as pa

            packed = pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd")
        if packed is not file:
            stack.callback(packed.close)
        yield packed
