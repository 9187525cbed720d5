"""Slices of a merge add up to the whole, and what is no number is noticed."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipeline.errors import PipelineError
from pipeline.export.adapters import Change, LowRank
from pipeline.export.arithmetic import Job, NotFinite, check_finite, pieces, work_memory
from pipeline.tensor_files import Stored, read_file

ROWS, COLUMNS, RANK = 37, 24, 3


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """A matrix and what changes it, in a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("arithmetic") / "tensors.safetensors"
    tensors = {
        "w": torch.randn(ROWS, COLUMNS).bfloat16(),
        "a": torch.randn(RANK, COLUMNS),
        "b": torch.randn(ROWS, RANK),
        "across": torch.randn(RANK, ROWS),
        "down": torch.randn(COLUMNS, RANK),
        "by row": torch.rand(ROWS) + 1,
        "by column": torch.rand(COLUMNS) + 1,
        "rows": torch.randn(3, COLUMNS),
    }
    save_file(tensors, path)
    return read_file(path, "test")


CHANGES = {
    "nothing": Change(),
    "lora": Change(low_rank=LowRank("a", "b", 0.5, False)),
    "transposed": Change(low_rank=LowRank("across", "down", 2.0, True)),
    "dora": Change(low_rank=LowRank("a", "b", 0.5, False, "by row")),
    "dora of columns": Change(low_rank=LowRank("across", "down", 0.5, True, "by column")),
    "rows": Change(rows="rows", indices=(36, 0, 11)),
    "more rows": Change(low_rank=LowRank("a", "b", 0.5, False), rows="rows", indices=(5, 35, 36)),
}


@given(name=st.sampled_from(list(CHANGES)), spare=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_slices_of_any_size_make_the_same_tensor_within_the_limit(
    stored: dict[str, Stored], name: str, spare: int
) -> None:
    job = Job("w", stored["w"], CHANGES[name], "BF16", (ROWS, COLUMNS))
    whole = torch.cat([task() for task in pieces(job, stored, 10**9)])
    fixed, each = job.memory(stored)
    limit = fixed + each * (1 + spare)
    tasks = list(pieces(job, stored, limit))
    assert len(tasks) == -(-ROWS // min(ROWS, 1 + spare))
    assert work_memory(job, stored, limit) <= limit
    assert torch.allclose(torch.cat([t() for t in tasks]).float(), whole.float(), rtol=2**-7)


def test_changes_are_what_their_formulas_say(stored: dict[str, Stored]) -> None:
    w, a, b = (stored[name].whole().double() for name in ("w", "a", "b"))
    m, rows = (stored[name].whole().double() for name in ("by row", "rows"))
    v = w + 0.5 * b @ a
    replaced = w.clone()
    replaced[[36, 0, 11]] = rows
    expected = {
        "nothing": w,
        "lora": v,
        "transposed": w + 2 * (stored["down"].whole() @ stored["across"].whole()).T.double(),
        "dora": m[:, None] * v / v.norm(dim=1, keepdim=True),
        "rows": replaced,
    }
    for name, numbers in expected.items():
        job = Job("w", stored["w"], CHANGES[name], "F32", (ROWS, COLUMNS))
        found = torch.cat([task() for task in pieces(job, stored, 10**9)])
        assert torch.allclose(found.double(), numbers, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@given(at=st.integers(0, 299), size=st.integers(1, 300))
@settings(max_examples=10, deadline=None)
def test_one_number_that_is_not_finite_is_enough(
    dtype: torch.dtype, value: float, at: int, size: int
) -> None:
    numbers = torch.randn(size).to(dtype)
    check_finite(numbers, "w")
    numbers[at % size] = value
    with pytest.raises(NotFinite, match="w"):
        check_finite(numbers, "w")


def test_number_too_large_for_16_bits_is_noticed(tmp_path: Path) -> None:
    save_file({"w": torch.tensor([[70_000.0]])}, tmp_path / "w.safetensors")
    stored = read_file(tmp_path / "w.safetensors", "test")["w"]
    assert next(pieces(Job("w", stored, Change(), "BF16", (1, 1)), {}, 10**6))() == 70_144
    with pytest.raises(NotFinite):
        next(pieces(Job("w", stored, Change(), "F16", (1, 1)), {}, 10**6))()


def test_memory_for_less_than_one_row_is_refused(stored: dict[str, Stored]) -> None:
    job = Job("w", stored["w"], CHANGES["lora"], "BF16", (ROWS, COLUMNS))
    fixed, each = job.memory(stored)
    with pytest.raises(PipelineError, match=r"Merging w needs .* MB of memory"):
        next(pieces(job, stored, fixed + each - 1))
