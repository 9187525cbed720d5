"""Which places of the held-out text are looked at, and how two models are compared there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export.logit_rows import RowFile
from pipeline.export.proof_logits import PLACES, choose_sample
from pipeline.scoring.bits import Window


@st.composite
def held_out(draw: st.DrawFn) -> list[Window]:
    found = []
    for n, length in enumerate(draw(st.lists(st.integers(2, 400), min_size=1, max_size=30))):
        mask = draw(st.none() | st.integers(1, length - 1))
        marks = None if mask is None else [i >= mask for i in range(length)]
        found.append(Window(str(n), [n] * length, length, marks))
    return found


@given(held_out(), st.integers(10, 300_000), st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_places_are_scored_tokens_and_few_enough(
    windows: list[Window], vocabulary: int, tokens: int
) -> None:
    tail = [7, 8, 9]
    sample = choose_sample(windows, vocabulary, tails=[tail])
    assert sample.windows[:-1] == windows
    assert 1 < sample.count <= PLACES + 1
    assert (sample.count - 1) * vocabulary * 4 <= 512 * 2**20
    for window, places in zip(windows, sample.places, strict=False):
        assert places == sorted(set(places))
        assert all(0 < i < len(window.ids) for i in places)
        assert all(window.mask is None or window.mask[i] for i in places)
    assert sample.ends == [(len(windows), 2)]
    assert sample.end_rows == [sample.count - 1]
    short = sample.shortened()
    rows = [(w.document, i) for w, p in zip(sample.windows, sample.places, strict=True) for i in p]
    assert rows == [
        (w.document, i) for w, p in zip(short.windows, short.places, strict=True) for i in p
    ]
    few = sample.with_tokens(tokens)
    total = sum(window.predicted for window in windows)
    assert sum(window.predicted for window in few.windows) >= min(tokens, total)
    assert few.windows[-1].ids == tail
    assert few.end_rows == [few.count - 1]


def test_rows_are_compared_as_torch_does_and_replaced(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(5, 50), torch.randn(5, 50)
    path = tmp_path / "rows"
    with RowFile(path, write=True) as file:
        first = file.take(list(one.numpy()), range(5))
    assert first.kls == []
    assert first.nats == pytest.approx(-one.log_softmax(-1)[range(5), range(5)].numpy(), rel=1e-5)
    with RowFile(path, compare=True, write=True) as file:
        second = file.take(list(other[:2].numpy()), [0, 1])
        second.add(file.take(list(other[2:].numpy()), [2, 3, 4]))
    wanted = (one.softmax(-1) * (one.log_softmax(-1) - other.log_softmax(-1))).sum(-1)
    assert second.kls == pytest.approx(wanted.numpy(), rel=1e-4)
    assert second.furthest == pytest.approx((one - other).abs().max().item())
    assert second.tops == other.argmax(-1).tolist()
    assert np.fromfile(path, np.float32).tolist() == other.flatten().tolist()
    with RowFile(path, compare=True) as file, pytest.raises(ValueError, match="0 logits"):
        file.take(list(torch.randn(6, 50).numpy()), range(6))


def test_a_model_is_asked_at_its_places_and_scored_as_always(merged: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from pipeline.export.proof_logits import ask_model
    from pipeline.scoring.bits import nats_of

    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    windows = [
        Window("a", list(range(50, 90)), 40),
        Window("b", [5, 9, 4], 2, [False, False, True]),
    ]
    sample = choose_sample(windows, 49152, tails=[[3, 4, 0]])
    nats, rows = ask_model(model, sample, autocast=None, what="it", path=tmp_path / "rows")
    assert nats == pytest.approx(sum(nats_of(model, windows)))
    assert len(rows.tops) == sample.count == 39 + 1 + 1
    assert sum(rows.nats[:39]) == pytest.approx(nats_of(model, windows[:1])[0], rel=1e-5)
    assert not model._forward_hooks
    _, again = ask_model(
        model, sample.shortened(), autocast=None, what="it", path=tmp_path / "rows", compare=True
    )
    assert max(again.kls) < 1e-6
