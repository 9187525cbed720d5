"""loss.png is a picture of a readable size for any run, and shows what it should."""

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.metrics import HeldOut, Point
from pipeline.training.picture import plot_loss


def points(n: int) -> list[Point]:
    return [
        Point(i, 3.5 - math.log(i) / 10 + 0.1 * math.sin(i), 1e-4 * i / n, 100 * i, float(i), 100)
        for i in range(1, n + 1)
    ]


def scores(n: int, steps: int) -> list[HeldOut]:
    losses = [3.4 - 0.1 * i for i in range(n)]
    return [HeldOut(steps * i // max(n - 1, 1), x, x / 3) for i, x in enumerate(losses)]


@pytest.mark.parametrize(
    ("n", "n_scores"), [(0, 1), (1, 2), (2, 2), (3, 0), (50, 2), (50, 40), (5000, 6)]
)
def test_the_picture_is_a_png_of_a_readable_size(tmp_path: Path, n: int, n_scores: int) -> None:
    path = tmp_path / "loss.png"
    title = r"$\undefined$ \books & more, 二十" + "\x1b[2J very long" * 20
    plot_loss(points(n), scores(n_scores, n), title, path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert (width, height) == (1350, 840)
    assert len(data) > 10_000
    assert list(tmp_path.iterdir()) == [path], "nothing else is left behind"


def test_a_rate_of_zero_and_a_constant_loss_can_be_drawn(tmp_path: Path) -> None:
    flat = [Point(i, 0.0, 0.0, i, float(i), 1.0) for i in range(1, 4)]
    plot_loss(flat, [HeldOut(0, 0.0, 0.0), HeldOut(3, 0.0, 0.0)], "flat", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 10_000


def test_the_base_line_the_last_score_and_the_best_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(
        monkeypatch, tmp_path, [HeldOut(0, 3.4, 1.2), HeldOut(20, 3.1, 1.1), HeldOut(50, 3.2, 1.15)]
    )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "training loss",
        "the same, smoothed",
        "held out, base model: 1.2000 bits per byte",
        "held out, step 50: 1.1500 bits per byte",
        "best, step 20: 1.1000 bits per byte",
    ]


def test_one_wild_loss_does_not_flatten_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(monkeypatch, tmp_path, [HeldOut(0, 3.4, 1.2)], wild=200.0)
    low, high = figure.axes[0].get_ylim()
    assert low < 3.1
    assert 3.5 < high < 30


def test_the_lowest_and_the_highest_loss_are_in_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wild in (2.7, 3.9):
        figure = drawn(monkeypatch, tmp_path, [HeldOut(0, 3.4, 1.2)], wild=wild)
        low, high = figure.axes[0].get_ylim()
        assert low < wild - 0.03 and wild + 0.03 < high, "with a margin"


def test_no_text_lies_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, tmp_path, scores(12, 50))
    losses, rates = figure.axes
    texts = [losses.title, losses.yaxis.label, rates.yaxis.label, rates.xaxis.label]
    texts += figure.legends[0].get_texts()
    texts += [label for axes in figure.axes for label in axes.get_yticklabels() if label.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        others = boxes[:i] + boxes[i + 1 :]
        assert box.count_overlaps(others) == 0, texts[i]
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


def drawn(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    held_out: list[HeldOut],
    wild: float | None = None,
) -> Any:
    """The figure that `plot_loss` saves."""
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    save = Figure.savefig

    def save_and_keep(self: Figure, *args: Any, **options: Any) -> None:
        kept.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", save_and_keep)
    run = points(50)
    if wild:
        run[25] = Point(26, wild, 1e-4, 2600, 26.0, 100)
    plot_loss(run, held_out, "A run", folder / "loss.png")
    return kept[0]
