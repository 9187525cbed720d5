"""metrics.jsonl is whole at every moment, NaN stops the run, loss.png is a picture."""

import io
import json
import math
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.training.metrics import (
    HeldOut,
    MetricsWriter,
    Point,
    plot_loss,
    read_metrics,
    smoothed,
)


def test_each_record_is_a_line_on_the_disk_at_once(tmp_path: Path) -> None:
    now = [100.0]
    told: list[tuple[float, str]] = []
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        writer = MetricsWriter(file, lambda n, note="": told.append((n, note)), lambda: now[0])
        now[0] = 110.0
        writer.start()
        now[0] = 112.0
        writer.log(
            1,
            {"loss": 3.5, "learning_rate": 1e-4, "num_input_tokens_seen": 1000.0, "grad_norm": 1.0},
        )
        writer.step_done()
        assert len(path.read_text().splitlines()) == 1
        now[0] = 116.0
        writer.log(2, {"loss": 3.25, "learning_rate": 2e-4, "num_input_tokens_seen": 3000.0})
        writer.log(2, {"train_runtime": 6.0, "train_loss": 3.4})
    points = read_metrics(path)
    assert points == writer.points
    assert points == [
        Point(1, 3.5, 1e-4, 1000, 2.0, 500.0),
        Point(2, 3.25, 2e-4, 3000, 6.0, 500.0),
    ]
    assert told == [(1, "loss 3.500, 500 tokens/s")]
    assert set(json.loads(path.read_text().splitlines()[0])) == {
        "step",
        "loss",
        "learning_rate",
        "tokens",
        "seconds",
        "tokens_per_second",
    }


@pytest.mark.parametrize("logs", [{"loss": math.nan}, {"loss": 1.0, "grad_norm": math.inf}])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run(logs: dict[str, float]) -> None:
    file = io.StringIO()
    writer = MetricsWriter(file, lambda n, note="": None)
    with pytest.raises(PipelineError, match="Training broke at step 7"):
        writer.log(7, {"learning_rate": 1.0, "num_input_tokens_seen": 5, **logs})
    assert file.getvalue() == ""


def test_smoothing_keeps_a_level_and_does_not_lag() -> None:
    assert smoothed([2.0] * 30) == pytest.approx([2.0] * 30)
    line = [float(i) for i in range(100)]
    assert smoothed(line)[30:70] == pytest.approx(line[30:70])
    noisy = [1.0 + (-1) ** i for i in range(100)]
    assert max(abs(value - 1) for value in smoothed(noisy)[10:90]) < 0.05
    assert smoothed([]) == []


@pytest.mark.parametrize("n", [1, 40])
def test_the_picture_is_a_png_of_a_readable_size(tmp_path: Path, n: int) -> None:
    points = [Point(i + 1, 3.5 - i / 100, 1e-4, 100 * i, i, 100) for i in range(n)]
    held_out = [HeldOut(0, 3.4, 1.2), HeldOut(n, 3.2, 1.15)]
    path = tmp_path / "loss.png"
    plot_loss(points, held_out, r"$\undefined$ \books & more", path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert (width, height) == (1350, 750)
    assert len(data) > 10_000
