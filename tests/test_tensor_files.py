"""What is written is read back by the safetensors library, and the other way round."""

import io
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file

from pipeline import tensor_files
from pipeline.errors import PipelineError
from pipeline.tensor_files import (
    DTYPES,
    Planned,
    as_matrix,
    check_disk,
    plan_shards,
    read_file,
    read_folder,
    write_folder,
    write_stream,
)

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)
Tensors = dict[str, torch.Tensor]


@st.composite
def tensors(draw: st.DrawFn) -> Tensors:
    """A few tensors of any type, shape and name."""
    made = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)):
        dtype = getattr(torch, draw(st.sampled_from(list(DTYPES.values()))))
        shape = draw(SHAPES)
        made[name] = (torch.arange(as_matrix(shape)[0] * as_matrix(shape)[1]) % 2).to(dtype)
        made[name] = made[name].reshape(shape)
    return made


def plan(given_tensors: Tensors) -> list[Planned]:
    kinds = {getattr(torch, name): kind for kind, name in DTYPES.items()}
    return [Planned(name, kinds[t.dtype], tuple(t.shape)) for name, t in given_tensors.items()]


def cut(given_tensors: Tensors, rows: int) -> tensor_files.Pieces:
    """Tasks that give each tensor in pieces of so many rows."""

    def pieces(tensor: Planned) -> Iterator[Callable[[], torch.Tensor]]:
        matrix = given_tensors[tensor.name].reshape(as_matrix(tensor.shape))
        for first in range(0, len(matrix), rows):
            if matrix[first : first + rows].numel():
                yield lambda first=first: matrix[first : first + rows]  # type: ignore[misc]

    return pieces


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].contiguous().reshape(-1).view(torch.uint8).tolist()
        == other[name].contiguous().reshape(-1).view(torch.uint8).tolist()
        for name in one
    )


@given(tensors(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_safetensors_reads_what_the_stream_wrote(made: Tensors, rows: int) -> None:
    file = io.BytesIO()
    write_stream(file, plan_shards(plan(made), 10**9)[0], cut(made, rows))
    assert same(load(file.getvalue()), made)


@given(made=tensors(), rows=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_what_safetensors_wrote_is_read_in_pieces(
    made: Tensors, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.safetensors"
    path.write_bytes(save(made))
    found = {}
    for name, stored in read_file(path, "model").items():
        n = as_matrix(stored.shape)[0]
        parts = [stored.rows(at, min(at + rows, n)) for at in range(0, n, rows)]
        whole = torch.cat(parts) if parts else stored.rows(0, 0)
        found[name] = whole.reshape(stored.shape)
    assert same(found, made)


def test_data_begin_where_a_mapped_file_can_be_read() -> None:
    made = {"odd": torch.ones(3, dtype=torch.uint8), "wide": torch.ones(2)}
    file = io.BytesIO()
    write_stream(file, plan_shards(plan(made), 10**9)[0], cut(made, 1))
    length = struct.unpack("<Q", file.getvalue()[:8])[0]
    header = json.loads(file.getvalue()[8 : 8 + length])
    assert length % 8 == 0
    assert header["wide"]["data_offsets"][0] % 4 == 0
    assert header["__metadata__"] == {"format": "pt"}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_no_shard_is_too_large_but_for_one_tensor_that_is(sizes: list[int], limit: int) -> None:
    planned = [Planned(str(i), "U8", (size,)) for i, size in enumerate(sizes)]
    shards = plan_shards(planned, limit)
    assert [tensor for shard in shards for tensor in shard] == planned
    assert all(sum(t.size for t in shard) <= limit or len(shard) == 1 for shard in shards)


def test_shards_and_their_index_are_those_of_transformers(tmp_path: Path) -> None:
    made = {f"layer.{i}": torch.full((10, 10), float(i)) for i in range(5)}
    told: list[int] = []
    write_folder(tmp_path, plan(made), cut(made, 3), shard_size=900, on_tensor=told.append)
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == names
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text("utf-8"))
    assert index["metadata"]["total_size"] == sum(told) == 5 * 400
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / file, framework="pt") as shard:
            assert torch.equal(shard.get_tensor(name), made[name])
    assert read_folder(tmp_path, "model").keys() == made.keys()


def test_nothing_is_left_of_a_file_whose_writing_fails(tmp_path: Path) -> None:
    made = {"a": torch.ones(4, 4), "b": torch.ones(4, 4)}

    def pieces(tensor: Planned) -> Iterator[Callable[[], torch.Tensor]]:
        if tensor.name == "b":
            raise RuntimeError("the power went out")
        return iter(cut(made, 2)(tensor))

    with pytest.raises(RuntimeError, match="power"):
        write_folder(tmp_path, plan(made), pieces)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [3, 5])
def test_pieces_that_do_not_make_the_tensor_are_an_error(rows: int) -> None:
    planned = [Planned("a", "F32", (4, 4))]
    with pytest.raises(ValueError, match="pieces"):
        write_stream(io.BytesIO(), planned, lambda _: [lambda: torch.ones(rows, 4)])


def test_torch_has_its_threads_back_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made = {"a": torch.ones(4, 4)}
        write_stream(io.BytesIO(), plan(made), cut(made, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A model in two files, to be broken."""
    made = {"a": torch.ones(10), "b": torch.ones(10)}
    write_folder(tmp_path, plan(made), cut(made, 10), shard_size=50)
    return tmp_path


def test_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PipelineError, match=r"model-00002-of-00002\.safetensors is damaged or not"):
        read_folder(sharded, "base model")


def test_tensor_that_is_not_where_the_index_says_is_named(sharded: Path) -> None:
    save_file({"c": torch.ones(10)}, sharded / "model-00002-of-00002.safetensors")
    with pytest.raises(PipelineError, match=r"lacks the tensor 'b'"):
        read_folder(sharded, "base model")


@pytest.mark.parametrize("place", ["../elsewhere.safetensors", 7, "a/b"])
def test_index_that_leaves_its_folder_is_refused(sharded: Path, place: object) -> None:
    index = {"weight_map": {"a": place}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(PipelineError, match="names no files"):
        read_folder(sharded, "base model")


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no weights: neither model\.safetensors nor"):
        read_folder(tmp_path, "base model")


def test_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, path)
    stored = read_file(path, "model")["a"]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PipelineError, match="changed while it was read"):
        stored.whole()


def test_disk_that_is_too_small_is_known_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**10, 9 * 10**9, 10**9)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_disk(tmp_path / "not" / "there", 9 * 10**8)
    with pytest.raises(PipelineError, match=r"1\.00 GB are free there: 2\.05 GB are missing"):
        check_disk(tmp_path / "not" / "there", 3 * 10**9)


def test_files_are_whole_for_every_other_reader(tmp_path: Path) -> None:
    made = {"a": torch.randn(7, 3).bfloat16(), "b": torch.arange(5)}
    write_folder(tmp_path, plan(made), cut(made, 2))
    assert same(load_file(tmp_path / "model.safetensors"), made)
