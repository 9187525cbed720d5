"""Rows on the disk: what is written is read back, and what is damaged is not read at all."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.token_store import (
    HEADER,
    IDS,
    STARTS,
    TRAINED,
    StoreWriter,
    TokenStore,
    dtype_for,
    open_store,
    pack_masks,
)
from pipeline.errors import PipelineError

KEY = {"data": "some books"}


def write(
    directory: Path,
    rows: list[list[int]],
    masks: list[list[bool]] | None = None,
    names: list[str | None] | None = None,
    dtype: str = "<u2",
) -> TokenStore:
    """A store of these rows, added in two parts."""
    directory.mkdir()
    names = names or [None] * len(rows)
    half = len(rows) // 2
    with StoreWriter(directory, dtype=dtype, masked=masks is not None) as writer:
        for part in (slice(0, half), slice(half, None)):
            ids = np.asarray([token for row in rows[part] for token in row], dtype)
            lengths = np.asarray([len(row) for row in rows[part]], np.int64)
            trained = None if masks is None else pack_masks(masks[part])
            writer.add(ids, lengths, trained, names[part])
    writer.finish(KEY, {"rows": len(rows)})
    return open_store(directory)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=20), max_size=12),
    data=st.data(),
)
def test_rows_and_masks_come_back_as_they_were(
    rows: list[list[int]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    masks = [
        data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))) for row in rows
    ]
    store = write(tmp_path_factory.mktemp("s") / "store", rows, masks)
    read = [store.row(i) for i in range(len(store))]
    assert [ids.tolist() for ids, _ in read] == rows
    assert [trained.tolist() for _, trained in read if trained is not None] == masks
    assert store.lengths().tolist() == [len(row) for row in rows]


def test_without_masks_none_is_kept(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [[1, 2], [3]])
    assert store.row(0)[1] is None
    assert not (tmp_path / "store" / TRAINED).exists()


def test_rows_without_a_mask_beside_rows_with_one_are_trained_on_but_for_the_first(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").mkdir()
    with StoreWriter(tmp_path / "store", dtype="<u2", masked=True) as writer:
        writer.add(np.asarray([1, 2, 3, 4]), np.asarray([3, 1]), None, [None] * 2)
        writer.add(np.asarray([5, 6]), np.asarray([2]), pack_masks([[False, False]]), [None])
    writer.finish(KEY, {})
    store = open_store(tmp_path / "store")
    masks = [store.row(i)[1] for i in range(3)]
    assert [mask.tolist() for mask in masks if mask is not None] == [
        [False, True, True],
        [False],
        [False, False],
    ]


def test_a_token_takes_two_bytes_or_four(tmp_path: Path) -> None:
    assert (dtype_for(65536), dtype_for(65537)) == ("<u2", "<u4")
    write(tmp_path / "small", [[65535] * 100])
    assert (tmp_path / "small" / IDS).stat().st_size == 200
    large = write(tmp_path / "large", [[65536] * 100], dtype=dtype_for(128_256))
    assert (tmp_path / "large" / IDS).stat().st_size == 400
    assert large.row(0)[0].tolist() == [65536] * 100


def test_a_row_is_a_view_of_the_file(tmp_path: Path) -> None:
    ids, _ = write(tmp_path / "store", [[1, 2], [3, 4, 5]]).row(1)
    assert isinstance(ids.base, np.memmap | np.ndarray)
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_the_sources_of_rows_are_kept_by_name(tmp_path: Path) -> None:
    store = write(tmp_path / "named", [[1], [2], [3]], names=["novels", None, "novels"])
    assert store.collections() == ["novels", None, "novels"]
    assert write(tmp_path / "unnamed", [[1], [2]]).collections() == [None, None]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_that_is_not_there_is_an_index_error(tmp_path: Path, index: int) -> None:
    with pytest.raises(IndexError, match="the store has 2"):
        write(tmp_path / "store", [[1, 2], [3]]).row(index)


def test_a_store_without_rows_can_be_opened(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [])
    assert len(store) == 0
    assert store.collections() == []


def test_a_pickled_store_is_a_reference_and_not_a_copy(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [[7] * 100_000], [[True] * 100_000])
    pickled = pickle.dumps(store)
    assert len(pickled) < 2000
    ids, trained = pickle.loads(pickled).row(0)
    assert ids.tolist() == [7] * 100_000
    assert trained.all()


def test_statistics_and_key_are_kept(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [[1], [2]])
    assert store.statistics() == {"rows": 2}
    assert store.key == KEY


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [IDS, STARTS, TRAINED])
@pytest.mark.parametrize("how", ["a byte changed", "cut short", "gone"])
def test_a_damaged_file_is_found(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path / "store", [[1, 2, 3]] * 9, [[True] * 3] * 9)
    path = tmp_path / "store" / name
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut short":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(PipelineError, match=rf"damaged: {name} has"):
        open_store(tmp_path / "store")


def test_a_header_that_somebody_changed_is_found(tmp_path: Path) -> None:
    write(tmp_path / "store", [[1, 2]])
    path = tmp_path / "store" / HEADER
    value: dict[str, Any] = json.loads(path.read_text())
    value["header"]["key"]["data"] = "other books"
    path.write_text(json.dumps(value))
    with pytest.raises(PipelineError, match=r"damaged: store.json has changed"):
        open_store(tmp_path / "store")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"header": 1, "sha256": 2}', "null"])
def test_a_header_that_is_none_is_found(tmp_path: Path, text: str) -> None:
    write(tmp_path / "store", [[1, 2]])
    (tmp_path / "store" / HEADER).write_text(text)
    with pytest.raises(PipelineError, match="damaged"):
        open_store(tmp_path / "store")


def test_a_folder_without_a_header_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="There is no token store"):
        open_store(tmp_path)


def test_a_store_of_another_format_is_not_read(tmp_path: Path) -> None:
    from pipeline.files import fingerprint

    header = {"format": 99}
    (tmp_path / HEADER).write_text(json.dumps({"header": header, "sha256": fingerprint(header)}))
    with pytest.raises(PipelineError, match="its format is 99"):
        open_store(tmp_path)
