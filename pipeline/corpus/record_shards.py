"""Records as Parquet: `completion-train-00000-of-0000N.parquet`, one row each.

A record is held out or not by a hash of its content, so that equal records are on one side and
the choice depends on nothing else. Memory holds one row group.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.console import progress
from pipeline.corpus.examples import Shape
from pipeline.corpus.parquet_files import ParquetFiles, Writer
from pipeline.corpus.record_files import KINDS, bare_name, characters, kind_of, read_records
from pipeline.corpus.splits import chance
from pipeline.files import encode_json

SPLITS = ("train", "validation")
ROW_GROUP_BYTES = 8_000_000
_ABOUT = ("collection", "weight", "source", "rights", "language")


def record_schema(kind: Shape) -> Any:
    """The pyarrow schema of a row: the record, where it is from, what its source weighs."""
    import pyarrow as pa

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    content = {
        "completion": [("prompt", pa.string()), ("completion", pa.string())],
        "chat": [("messages", pa.list_(turn))],
    }
    about = [
        ("document_id", pa.string()), ("record", pa.int64()), ("collection", pa.string()),
        ("weight", pa.float64()), ("source", pa.string()), ("rights", pa.string()),
        ("language", pa.string()), ("split", pa.string()),
    ]  # fmt: skip
    return pa.schema([*content[kind], *about])


def write_record_files(
    directory: Path,
    paths: Sequence[Path],
    about: Mapping[str, Mapping[str, Any]],
    fraction: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Write the records of all files into an existing directory, kind by kind.

    `about` is what is known of each file, by its name. Returns a row for each file: how many
    records it has, and how many of them and of their characters are in each split. PipelineError
    names file and line of what is no record.
    """
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        ours = [path for path in paths if kind_of(path.name) == kind]
        if not ours:
            continue
        with (
            RecordShards(directory, kind, fraction, seed) as shards,
            progress(f"records ({kind})", None, "records") as advance,
        ):
            for path in ours:
                name, known = bare_name(path.name), about.get(path.name, {})
                records, sizes = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
                for number, record in enumerate(read_records(path), 1):
                    advance(note=path.name)
                    split = shards.add(name, number, record, known)
                    records[split] += 1
                    sizes[split] += characters(record)
                rows.append(
                    {"file": path.name, "kind": kind, "records": sum(records.values()),
                     "held_out": records["validation"],
                     "characters": sum(sizes.values()), "chunks": 0, **sizes}
                )  # fmt: skip
    return rows


class RecordShards(Writer):
    """Writes the records of one kind into an existing directory, split, in a stream.

    `fraction` of them, chosen by `seed`, is held out. Use it in a `with` block.
    """

    def __init__(self, directory: Path, kind: Shape, fraction: float, seed: int) -> None:
        self._fraction = fraction
        self._seed = seed
        self._groups: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        self._sizes = dict.fromkeys(SPLITS, 0)
        self._files = {
            split: ParquetFiles(
                directory, f"{kind}-{split}", record_schema(kind),
                dictionary=["document_id", "collection", "source", "rights", "language", "split"],
                statistics=["document_id", "record"],
            )
            for split in SPLITS
        }  # fmt: skip

    def close(self) -> list[Path]:
        """Write what is left, give the shards their names, and return their paths."""
        for split in SPLITS:
            self._end_group(split)
        return [path for files in self._files.values() for path in files.close()]

    def discard(self) -> None:
        """Remove what was written."""
        for files in self._files.values():
            files.discard()

    def add(
        self, document_id: str, number: int, record: Mapping[str, Any], about: Mapping[str, Any]
    ) -> str:
        """Write a record, the `number`-th of the file `document_id`; returns its split.

        `about` is what the report says of that file. A source of weight 0 is held out whole.
        """
        held_out = about.get("weight") == 0 or self._is_held_out(record)
        split = "validation" if held_out else "train"
        row = {"document_id": document_id, "record": number, "split": split, **record}
        self._groups[split].append(row | {name: about.get(name) for name in _ABOUT})
        self._sizes[split] += 4 * characters(record)  # no character takes more bytes
        if self._sizes[split] > ROW_GROUP_BYTES:
            self._end_group(split)
        return split

    def _end_group(self, split: str) -> None:
        self._files[split].write_group(self._groups[split], self._sizes[split])
        self._groups[split], self._sizes[split] = [], 0

    def _is_held_out(self, record: Mapping[str, Any]) -> bool:
        return chance(f"{self._seed}\0".encode() + encode_json(record)) < self._fraction
