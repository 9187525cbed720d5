"""Parquet shards: what goes in comes out, in files laid out for the Hub."""

import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.corpus import shards
from pipeline.corpus.shards import (
    Chunks,
    Document,
    ShardWriter,
    chunk_schema,
    find_splits,
    read_documents,
)
from pipeline.errors import PipelineError


def cut(document: Document, size: int = 100) -> Chunks:
    """A document in chunks of `size` characters."""
    starts = range(0, len(document.text), size)
    ends = [min(start + size, len(document.text)) for start in starts]
    known = ("title", "authors", "language", "source", "collection", "weight", "work")
    about = {name: getattr(document, name) for name in known}
    return Chunks(document.id, document.text.encode(), list(starts), ends, about=about)


def rows(document: Document) -> list[dict[str, object]]:
    """The same as rows."""
    chunks = cut(document)
    places = enumerate(zip(chunks.begins, chunks.ends, strict=True))
    return [
        {"text": document.text[begin:end], "document_id": document.id, "chunk": number,
         "char_start": begin, "char_end": end, **chunks.about}
        for number, (begin, end) in places
    ]  # fmt: skip


def book(number: int, characters: int = 1000) -> Document:
    """A book that does not compress away."""
    words = (f"{(number * 7919 + i * i * 104729) % 999_983:x}" for i in range(characters))
    text = " ".join(words)[:characters]
    return Document(f"{number}", text, f"Book {number}", ("A. Writer", "B. Writer"), "en", "a.txt")


def write(
    folder: Path, documents: Sequence[Document], split: str = "train", **sizes: int
) -> list[Path]:
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder, split, **sizes) as writer:
        for document in documents:
            writer.write_document(cut(document))
    return writer.paths


def read(paths: Sequence[Path]) -> list[Document]:
    return list(read_documents(paths))


OPTIONAL = st.none() | st.text(max_size=5)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.builds(
            Document,
            id=st.text(min_size=1, max_size=6),
            text=st.text(min_size=1, max_size=700),
            title=OPTIONAL,
            authors=st.lists(st.text(max_size=5), max_size=2).map(tuple),
            language=OPTIONAL,
            source=OPTIONAL,
            collection=OPTIONAL,
            weight=st.none() | st.floats(0, 1e6),
            work=OPTIONAL,
        ),
        max_size=6,
        unique_by=lambda document: document.id,
    )
)
def test_documents_come_back_exactly_and_in_order(
    tmp_path: Path, documents: list[Document]
) -> None:
    assert read(write(tmp_path, documents)) == documents


def test_documents_come_back_from_many_shards(tmp_path: Path) -> None:
    documents = [book(number) for number in range(40)]
    paths = write(tmp_path, documents, shard_bytes=60_000, row_group_bytes=1000)
    assert len(paths) > 3
    assert [path.name for path in paths] == [
        f"train-{number:05}-of-{len(paths):05}.parquet" for number in range(len(paths))
    ]
    assert sorted(tmp_path.iterdir()) == paths, "no temporary file is left"
    assert read(paths) == documents


def test_a_shard_is_no_longer_than_asked(tmp_path: Path) -> None:
    documents = [book(number, 3000) for number in range(200)]
    paths = write(tmp_path, documents, shard_bytes=100_000, row_group_bytes=6000)
    sizes = [path.stat().st_size for path in paths]
    assert len(sizes) > 3
    assert max(sizes) <= 100_000
    assert min(sizes[:-1]) >= 30_000


def test_equal_documents_give_equal_bytes(tmp_path: Path) -> None:
    documents = [book(number) for number in range(20)]
    first = write(tmp_path / "one", documents, shard_bytes=60_000, row_group_bytes=1000)
    second = write(tmp_path / "two", documents, shard_bytes=60_000, row_group_bytes=1000)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def groups(path: Path) -> list[list[str]]:
    """The ids of the documents in each row group."""
    with pq.ParquetFile(path) as file:
        return [
            list(dict.fromkeys(file.read_row_group(i)["document_id"].to_pylist()))
            for i in range(file.num_row_groups)
        ]


def test_row_groups_end_with_documents_and_a_dropped_book_changes_its_own_only(
    tmp_path: Path,
) -> None:
    documents = [book(number) for number in range(100)]
    (path,) = write(tmp_path / "all", documents, row_group_bytes=8000)
    before = groups(path)
    assert 5 < len(before) < 40
    assert [i for group in before for i in group] == [document.id for document in documents]
    less = [document for document in documents if document.id != "50"]
    (path,) = write(tmp_path / "less", less, row_group_bytes=8000)
    after = groups(path)
    assert len([group for group in before if group not in after]) <= 2


def test_no_row_group_is_longer_than_32_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_ROW_GROUP_BYTES", 2500)
    documents = [book(1, 900), book(2, 9000), book(3, 900)]
    (path,) = write(tmp_path, documents)
    with pq.ParquetFile(path) as file:
        sizes = [
            sum(len(t) for t in file.read_row_group(i)["text"].to_pylist())
            for i in range(file.num_row_groups)
        ]
    assert max(sizes) <= 2500
    assert read([path]) == documents


def test_the_layout_is_what_the_hub_likes(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [book(number, 20_000) for number in range(10)])
    with pq.ParquetFile(path) as file:
        assert file.schema_arrow.equals(chunk_schema())
        column = file.metadata.row_group(0).column(0)
        assert column.path_in_schema == "text"
        assert column.compression == "ZSTD"
        assert column.has_offset_index
        assert column.statistics is None, "a minimum would be a whole chunk, in the footer"
        columns = [file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns)]
        encodings = {column.path_in_schema: column.encodings for column in columns}
        assert "RLE_DICTIONARY" in encodings["collection"]


def test_a_split_without_documents_has_no_file(tmp_path: Path) -> None:
    assert write(tmp_path, [], "validation") == []
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        ShardWriter(tmp_path, "train", row_group_bytes=10) as writer,
    ):
        writer.write_document(cut(book(1)))
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_flat_however_much_is_written(tmp_path: Path) -> None:
    def stream(count: int) -> None:
        with ShardWriter(tmp_path, "train", shard_bytes=20_000_000) as writer:
            for number in range(count):
                writer.write_document(cut(replace(text, id=str(number)), 6500))

    text = book(1, 1_000_000)
    stream(20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream(120)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000, f"{grown} KB more for 100 MB more"


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ([0, 101], [100, 1000]),
        ([0, 100], [100, 1001]),
        ([0, 100, 100], [100, 100, 1000]),
        ([0, 150], [200, 150]),
        ([-1], [100]),
    ],
    ids=["gap", "beyond the end", "empty", "backwards", "before the beginning"],
)
def test_chunks_that_are_not_the_document_are_refused(
    tmp_path: Path, begins: list[int], ends: list[int]
) -> None:
    with (
        pytest.raises(PipelineError, match="missing or doubled at chunk"),
        ShardWriter(tmp_path, "train") as writer,
    ):
        writer.write_document(Chunks("1", book(1).text.encode(), begins, ends))


@pytest.mark.parametrize("character", ["a", "é", "“", "я", "日", "😀", "e\u0301"])
@pytest.mark.parametrize("overlap", [0, 7])
def test_chunks_are_counted_in_characters_whatever_their_bytes(
    tmp_path: Path, character: str, overlap: int
) -> None:
    document = replace(book(1), text=character + book(1).text + character * 500)
    chunks = cut(document, 99)
    chunks = replace(chunks, begins=[max(begin - overlap, 0) for begin in chunks.begins])
    with ShardWriter(tmp_path, "train") as writer:
        writer.write_document(chunks)
    written = [row["text"] for row in pq.read_table(writer.paths[0]).to_pylist()]
    places = zip(chunks.begins, chunks.ends, strict=True)
    assert written == [document.text[begin:end] for begin, end in places]
    beyond = replace(chunks, ends=[*chunks.ends[:-1], len(document.text) + 1])
    with (
        pytest.raises(PipelineError, match="missing or doubled"),
        ShardWriter(tmp_path, "validation") as writer,
    ):
        writer.write_document(beyond)


def test_half_a_character_in_what_is_known_of_a_document_is_named(tmp_path: Path) -> None:
    odd = replace(book(2), authors=("A. \ud83d",))
    with (
        pytest.raises(PipelineError, match="in what is known of document '2'"),
        ShardWriter(tmp_path, "train") as writer,
    ):
        for document in (book(1), odd):
            writer.write_document(cut(document))


def test_the_held_out_tail_of_a_document_knows_where_it_begins(tmp_path: Path) -> None:
    whole = cut(book(1))
    parts = {"train": slice(0, 7), "validation": slice(7, None)}
    for split, part in parts.items():
        with ShardWriter(tmp_path, split) as writer:
            writer.write_document(
                replace(whole, begins=whole.begins[part], ends=whole.ends[part], first=part.start)
            )
    train, validation = (read(paths)[0] for paths in find_splits(tmp_path.iterdir()))
    assert (train.char_start, validation.char_start) == (0, 700)
    assert train.text + validation.text == book(1).text
    last = [row["is_last"] for path in sorted(tmp_path.iterdir())
            for row in pq.read_table(path).to_pylist()]  # fmt: skip
    assert last == [False] * 9 + [True]


# Reading what others, or a person with pandas, made of the files.


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_rows_of_a_foreign_file_are_documents(tmp_path: Path) -> None:
    one = table(tmp_path / "a.parquet", [{"text": "one"}, {"text": "two"}])
    two = table(tmp_path / "b.parquet", [{"id": 7, "text": "three", "title": "T", "tags": [1]}])
    documents = read([one, two])
    assert [(d.id, d.text) for d in documents] == [("0", "one"), ("1", "two"), ("7", "three")]
    assert documents[2].title == "T"


def test_files_of_earlier_versions_are_read_as_before(tmp_path: Path) -> None:
    documents = [replace(book(n), work="w") for n in range(3)]
    (path,) = write(tmp_path, documents)
    new = ["overlap", "tokens", "rights", "work", "split"]
    pq.write_table(pq.read_table(path).drop_columns(new), tmp_path / "older.parquet")
    assert read([tmp_path / "older.parquet"]) == [book(n) for n in range(3)]
    assert read([path]) == documents


def test_a_work_that_is_no_text_is_somebodys_own(tmp_path: Path) -> None:
    (document,) = read([table(tmp_path / "a.parquet", [{"text": "one", "work": 8}])])
    assert document.work is None


def test_files_without_sources_and_weights_are_read_as_before(tmp_path: Path) -> None:
    documents = [replace(book(n), collection="novels", weight=0.5) for n in range(3)]
    (path,) = write(tmp_path, documents)
    older = pq.read_table(path).drop_columns(["collection", "weight"])
    pq.write_table(older, tmp_path / "older.parquet")
    assert read([tmp_path / "older.parquet"]) == [book(n) for n in range(3)]
    assert read([path]) == documents


def test_source_and_weight_of_a_foreign_file_are_read_if_both_are_what_we_mean(
    tmp_path: Path,
) -> None:
    rows: list[tuple[dict[str, object], tuple[str | None, float | None]]] = [
        ({"collection": "novels", "weight": 1}, ("novels", 1.0)),
        ({"collection": "novels", "weight": 0.5}, ("novels", 0.5)),
        ({"collection": "novels", "weight": float("nan")}, ("novels", None)),
        ({"collection": "novels", "weight": None}, ("novels", None)),
        ({"weight": 70.5}, (None, None)),  # somebody's kilograms
        ({"collection": 7, "weight": 0.5}, (None, None)),
        ({"collection": "novels", "weight": "heavy"}, (None, None)),
    ]
    for number, (row, expected) in enumerate(rows):
        path = table(tmp_path / f"{number}.parquet", [{"text": "one"} | row])
        (document,) = read([path])
        assert (document.collection, document.weight) == expected


def test_dictionary_and_large_strings_are_text_too(tmp_path: Path) -> None:
    for name, kind in (("a", pa.large_string()), ("b", pa.dictionary(pa.int32(), pa.string()))):
        column = pa.array(["one", "two"]).cast(kind)
        pq.write_table(pa.table({"text": column}), tmp_path / f"{name}.parquet")
        assert [d.text for d in read([tmp_path / f"{name}.parquet"])] == ["one", "two"]


def test_a_chunk_that_a_person_edited_is_read_as_edited(tmp_path: Path) -> None:
    mine = rows(book(1))
    mine[3] = mine[3] | {"text": "better words "}
    (document,) = read([table(tmp_path / "a.parquet", mine)])
    assert document.text == book(1).text[:300] + "better words " + book(1).text[400:]


def test_text_is_not_joined_over_a_gap(tmp_path: Path) -> None:
    mine = rows(book(1))
    documents = read([table(tmp_path / "a.parquet", mine[:3] + mine[4:])])
    assert [d.text for d in documents] == [book(1).text[:300], book(1).text[400:]]
    assert [(d.id, d.char_start) for d in documents] == [("1", 0), ("1", 400)]


def test_text_is_not_joined_where_the_offsets_leave_a_gap(tmp_path: Path) -> None:
    mine = rows(book(1))
    numbered = [row | {"chunk": i} for i, row in enumerate(mine[:3] + mine[4:])]
    documents = read([table(tmp_path / "a.parquet", numbered)])
    assert [d.text for d in documents] == [book(1).text[:300], book(1).text[400:]]


def test_our_files_and_foreign_ones_can_be_read_together(tmp_path: Path) -> None:
    ours = write(tmp_path, [book(1), book(2)])
    foreign = table(tmp_path / "z.parquet", [{"text": "one"}, {"text": "two"}])
    texts = [book(1).text, book(2).text, "one", "two"]
    assert [d.text for d in read([*ours, foreign])] == texts
    assert [d.text for d in read([foreign, *ours])] == texts[2:] + texts[:2]


def test_overlapping_chunks_are_joined_without_the_overlap(tmp_path: Path) -> None:
    text = book(1).text
    rows: list[dict[str, object]] = [
        {
            "text": text[start : start + 150],
            "document_id": "1",
            "chunk": number,
            "char_start": start,
            "char_end": min(start + 150, len(text)),
        }
        for number, start in enumerate(range(0, len(text), 100))
    ]
    (document,) = read([table(tmp_path / "a.parquet", rows)])
    assert document.text == text


def test_chunks_written_with_an_overlap_are_the_document_without_it(tmp_path: Path) -> None:
    document = book(1)
    chunks = cut(document)
    begins = [0, *(begin - 30 for begin in chunks.begins[1:])]
    with ShardWriter(tmp_path, "train") as writer:
        writer.write_document(replace(chunks, begins=begins))
    assert read(writer.paths) == [document]
    written = pq.read_table(writer.paths[0]).to_pylist()
    assert [row["overlap"] for row in written] == [0] + [30] * 9
    assert "".join(row["text"][row["overlap"] :] for row in written) == document.text


def test_shuffled_chunks_are_an_error(tmp_path: Path) -> None:
    mine = rows(book(1))
    with pytest.raises(PipelineError, match="chunk 2 of document 1 comes after chunk 5"):
        read([table(tmp_path / "a.parquet", [mine[0], mine[5], mine[2]])])


def test_a_missing_text_column_is_named_with_the_file_and_what_it_has(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.parquet", [{"content": "x", "id": 1}])
    with pytest.raises(PipelineError) as caught:
        read([path])
    assert caught.value.message == (f"{path} has no column `text`; its columns are: content, id.")


def test_a_text_column_of_numbers_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="a column `text` of int64"):
        read([table(tmp_path / "mine.parquet", [{"text": 1}])])


def test_a_row_without_text_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.parquet", [{"text": "x"}, {"text": None}])
    with pytest.raises(PipelineError, match=r"row without text \(row 1\)"):
        read([path])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [book(number, 5000) for number in range(5)])
    whole = path.read_bytes()
    half = whole[: len(whole) // 2]
    for content in (b"", b"no Parquet at all", half, whole[:4] + bytes(len(whole) - 4)):
        path.write_bytes(content)
        with pytest.raises(PipelineError, match="cannot be read as Parquet") as caught:
            read([path])
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_flipped_bit_changes_a_text_unseen(tmp_path: Path) -> None:
    documents = [book(number, 5000) for number in range(3)]
    (path,) = write(tmp_path, documents)
    whole = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(0).column(0)
        begin, size = column.data_page_offset, column.total_compressed_size
    seen = 0
    for position in range(begin, begin + size, 97):
        whole[position] ^= 4
        path.write_bytes(whole)
        whole[position] ^= 4
        try:
            assert read([path]) == documents
        except PipelineError as error:
            assert "cannot be read as Parquet" in str(error)
            seen += 1
    assert seen > 50


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"absent\.parquet is not there"):
        read([tmp_path / "absent.parquet"])


@pytest.mark.parametrize(
    ("name", "is_held_out"),
    [
        ("3_chunks/train-00000-of-00001.parquet", False),
        ("3_chunks/validation-00000-of-00001.parquet", True),
        ("data/test-00000-of-00001.parquet", True),
        ("validation/0000.parquet", True),
        ("val/train-0.parquet", False),
        ("my-test-of-things/books.parquet", False),
        ("data/contest.parquet", False),
    ],
)
def test_splits_are_told_by_name(name: str, is_held_out: bool) -> None:
    assert find_splits([Path(name)]) == (([], [Path(name)]) if is_held_out else ([Path(name)], []))
