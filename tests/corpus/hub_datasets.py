"""The datasets of a Hub on loopback, and how tests read them."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.hub_rows import read_hub_rows
from pipeline.errors import PipelineError
from tests.datasets_server import TOKEN


def parquet(rows: list[dict[str, Any]], row_group_size: int | None = None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=row_group_size)
    return file.getvalue()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def card(*paths: str) -> bytes:
    files = "".join(f"  - split: train\n    path: {json.dumps(path)}\n" for path in paths)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n# x\n".encode()


TALES = [{"text": f"Tale {number}: Où?", "id": number} for number in range(25)]
PLAIN = {"train.jsonl": lines([{"text": "a"}])}
DATASETS = {
    "ada/tales": {
        "README.md": b"# Tales\n",
        "data/train-00000-of-00002.parquet": parquet(TALES[:10], row_group_size=3),
        "data/train-00001-of-00002.parquet": parquet(TALES[10:]),
        "data/test-00000-of-00001.parquet": parquet(TALES[:1]),
    },
    "ada/lines": {"train.jsonl": lines(TALES[:20]), "test.jsonl": lines(TALES[20:])},
    "ada/plain": PLAIN,
    "ada/several": {
        "README.md": b"---\nconfigs:\n- config_name: first\n  data_files: a.jsonl\n"
        b"- config_name: second\n  data_files: b.jsonl\n---\n",
        "a.jsonl": lines([{"text": "a"}]),
        "b.jsonl": lines([{"text": "b"}]),
    },
    "ada/script": {"script.py": b"raise SystemExit('this ran')\n", **PLAIN},
    "ada/nothing": {"README.md": b"# Nothing\n"},
    "ada/damaged": {"train.parquet": parquet(TALES)[:-40] + b"\0" * 40},
    "ada/broken": {"train.jsonl": b'{"text": "a"}\n{"text": \n'},
    "ada/private": PLAIN,
    "ada/gated": PLAIN,
}


def texts(dataset: str, cache: Path, **options: Any) -> list[str]:
    return [row["text"] for _, row in read_hub_rows(dataset, cache=cache, **options)]


def refusal(dataset: str, cache: Path, **options: Any) -> PipelineError:
    with pytest.raises(PipelineError) as error:
        texts(dataset, cache, **options)
    assert TOKEN not in f"{error.value} {error.value.__cause__}"
    assert error.value.hint
    return error.value
