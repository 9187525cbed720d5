"""The search for references: all are found, with the lines of the text file."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.hub import scanning
from pipeline.hub.scanning import Scan, join_scans, parts_of, scan_parquet

NAME = "Project Gutenberg"


def find(text: str) -> list[Any]:
    """Each place where the name stands, however its words are parted."""
    words = NAME.split()
    found, at = [], text.find(words[0])
    while at >= 0:
        if text[at:].split()[:2] == words:
            line = text.count("\n", 0, at) + 1
            found.append(SimpleNamespace(line=line, quote=text[at:].split("\n\n")[0]))
        at = text.find(words[0], at + 1)
    return found


def write(path: Path, *documents: tuple[str, list[str]], start: int = 0) -> Path:
    """A Parquet file of chunks; the first document begins at `start`."""
    rows = []
    for document, chunks in documents:
        end = start
        for number, text in enumerate(chunks):
            end += len(text)
            rows.append({"text": text, "document_id": document, "chunk": number, "char_end": end})
        start = 0
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return path


def scan(path: Path, search: Any = find, size: int = 10**9) -> Scan:
    """What is found in a file, read in parts of `size` bytes."""
    return join_scans(scan_parquet(part, search) for part in parts_of(path, size))


def places(*scans: Scan) -> dict[str, list[tuple[int, str]]]:
    return {name: found.first for name, found in join_scans(scans).found.items()}


def test_a_reference_is_found_with_its_line(tmp_path: Path) -> None:
    texts = ["One.\n\n", f"Two.\n\n{NAME} made this.\n\n", "Three.\n"]
    path = write(tmp_path / "a.parquet", ("clean", ["Nothing.\n"]), ("84", texts))
    assert places(scan(path)) == {"84": [(5, f"{NAME} made this.")]}


def test_one_that_stands_where_two_chunks_meet_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ("84", ["By Project ", "Gutenberg.\n"]))
    assert places(scan(path, lambda text: find(text.replace(".", "")))) != {}


def test_what_a_chunk_repeats_of_the_one_before_is_found_once(tmp_path: Path) -> None:
    first, second = f"One.\n{NAME} here.\n", f"{NAME} here.\nTwo.\n"
    rows = [
        {"text": first, "document_id": "84", "char_end": len(first), "overlap": 0},
        {"text": second, "document_id": "84", "char_end": len(first) + 5,
         "overlap": len(second) - 5},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = scan(tmp_path / "a.parquet")
    assert found.found["84"].count == 1
    assert found.ends == ("84", len(first) + 5, 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a\n", "b", f"{NAME} ", "\n\n"]), min_size=1), st.integers(0, 9))
def test_lines_are_those_of_the_whole_document_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = write(folder / "whole.parquet", ("x", ["".join(parts)]))
    head, tail = parts[:cut], parts[cut:]
    files = []
    if head:
        files.append(write(folder / "train.parquet", ("x", head)))
    if tail:
        files.append(write(folder / "valid.parquet", ("x", tail), start=len("".join(head))))
    lines = [line for line, _ in places(*(scan(f) for f in files)).get("x", [])]
    assert lines == [line for line, _ in places(scan(whole)).get("x", [])]


@pytest.mark.parametrize("size", [1, 100, 10**9])
def test_it_does_not_matter_in_what_parts_a_file_is_read(tmp_path: Path, size: int) -> None:
    texts = [f"Line.\n{NAME} {n}\n\n" for n in range(20)]
    path = write(tmp_path / "a.parquet", ("84", texts), ("85", ["x\n"]), ("86", texts))
    found = scan(path, size=size)
    assert found == scan(path)
    assert found.ends == ("86", len("".join(texts)), 60)
    assert found.found["86"].count == 20


def test_only_the_first_places_are_quoted_and_all_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ("84", [f"{NAME} {'x' * 500}\n\n"] * 9))
    found = scan(path).found["84"]
    assert found.count == 9
    assert len(found.first) == scanning.QUOTES
    assert all(len(quote) <= scanning.LONGEST_QUOTE for _, quote in found.first)


def test_what_rows_say_of_their_documents_is_collected_once(tmp_path: Path) -> None:
    row = {"text": "x\n", "document_id": "84", "title": "T", "authors": ["A", "B"], "rights": "©"}
    rows = [row] * 9 + [row | {"document_id": "85", "rights": None}] * 9
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    about = [
        {"document_id": "84", "title": "T", "authors": ["A", "B"], "rights": "©"},
        {"document_id": "85", "title": "T", "authors": ["A", "B"]},
    ]
    assert scan(tmp_path / "a.parquet").about == about
    assert scan(tmp_path / "a.parquet", size=1).about == about
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "bare.parquet")
    assert scan(tmp_path / "bare.parquet").about == [{"document_id": ""}]


def test_a_text_file_is_searched_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_BLOCK", 10)
    path = tmp_path / "notes.txt"
    path.write_bytes(b"caf\xe9\n\n" * 10 + f"{NAME}\n".encode())
    assert scanning.scan_text(path, find).first == [(21, NAME)]
    path.write_bytes(b"\0" + NAME.encode())
    assert scanning.scan_text(path, find).count == 0


def test_records_are_looked_into_by_number(tmp_path: Path) -> None:
    pairs = [
        {"prompt": "Who?", "completion": said, "document_id": "qa", "record": number}
        for number, said in ((6, "Me."), (7, f"{NAME}."))
    ]
    chats = [{"messages": [{"role": "user", "content": "Hi"},
                           {"role": "assistant", "content": f"{NAME} bids you hello"}],
              "document_id": "talk", "record": 1}]  # fmt: skip
    for name, rows in (("completion", pairs), ("chat", chats)):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")

    def near(text: str) -> list[Any]:
        return find(text.replace(".", ""))

    found = places(scan(tmp_path / "completion.parquet", near))
    assert [line for line, _ in found["qa"]] == [7]
    assert places(scan(tmp_path / "chat.parquet", near)).keys() == {"talk"}


def test_what_was_found_can_be_noted_and_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ("84", ["x\n", f"{NAME}\n"]), ("85", ["y\n"]))
    found = scan(path)
    assert Scan.from_row(json.loads(json.dumps(found.as_row()))) == found


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(PipelineError, match=r"a\.parquet cannot be read as Parquet"):
        scan(tmp_path / "a.parquet")
