"""The memory of a run: in use now, and at the most since training began."""

import sys

import pytest

from pipeline.training.memory import _CLEAR, MemoryMeter

MB = 1_000_000


def test_the_peak_is_remembered_after_the_memory_is_freed() -> None:
    meter = MemoryMeter(cuda=False)
    before = meter.restart()
    block = bytearray(80 * MB)
    block[::4096] = b"x" * len(block[::4096])  # so that it is really there
    assert meter.now() >= before + 70 * MB
    del block
    assert meter.peak() >= before + 70 * MB


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not _CLEAR.exists(), reason="Linux forgets, others not"
)
def test_a_peak_before_training_does_not_count() -> None:
    meter = MemoryMeter(cuda=False)
    block = bytearray(200 * MB)
    block[::4096] = b"x" * len(block[::4096])
    high = meter.peak()
    del block
    before = meter.restart()
    assert before <= meter.peak() < high - 100 * MB
