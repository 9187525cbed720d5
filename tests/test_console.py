"""What a person sees while a stage works, on a terminal and in a log."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pipeline import console
from pipeline.console import duration, heard_by, many, progress, say, warn
from tests.terminal import frames_of

NOTE = "loss 2.913, lr 8.1e-04, 331 tokens/s, 3.1 GB"

TRAINING = f"""
import sys, time
from pipeline.console import progress, say, warn
with progress("Training", 62, "steps") as advance:
    for step in range(1, 5):
        time.sleep(0.3)
        advance(1, {NOTE!r})
        if step == 2:
            say("Held out, step 2: 1.1750 bits per byte.")
            warn("The loss jumped.")
            print("printed")
            sys.stderr.write("written\\n")
        if step == 3:
            with progress("Scoring step 3", 8000, "tokens") as inner:
                for _ in range(3):
                    time.sleep(0.15)
                    inner(1000)
say("done")
"""
SAID = [
    "Held out, step 2: 1.1750 bits per byte.",
    "warning: The loss jumped.",
    "printed",
    "written",
    "done",
]


@pytest.fixture(scope="module")
def shown() -> dict[int, list[list[str]]]:
    """The pictures on terminals of several widths, side by side: they take their time."""
    widths = (120, 80, 40)
    with ThreadPoolExecutor() as threads:
        return dict(zip(widths, threads.map(partial(frames_of, TRAINING), widths), strict=True))


@pytest.fixture
def wide(shown: dict[int, list[list[str]]]) -> list[list[str]]:
    return shown[120]


def bars(frames: list[list[str]]) -> list[str]:
    return [line for frame in frames for line in frame if line[:1] in console._SPINNER]


def test_one_line_shows_bar_count_time_left_and_note(wide: list[list[str]]) -> None:
    shown = re.compile(rf"\S Training  ━{{20,40}}  3/62  0:\d\d:\d\d left  {NOTE}  \d\.\d steps/s")
    assert any(shown.fullmatch(line) for line in bars(wide))


def test_what_is_said_in_between_does_not_tear_the_bar(wide: list[list[str]]) -> None:
    for frame in wide:
        moving = [line for line in frame if line not in SAID]
        assert all(line[:1] in console._SPINNER for line in moving), frame
        assert len(moving) <= 2
        assert frame[: len(frame) - len(moving)] == SAID[: len(frame) - len(moving)], frame


def test_work_within_work_has_a_line_below_and_both_go(wide: list[list[str]]) -> None:
    assert any(
        "Training" in frame[-2] and "Scoring step 3" in frame[-1]
        for frame in wide
        if len(frame) > 1
    )
    assert wide[-1] == SAID


@pytest.mark.parametrize("width", [80, 40])
def test_a_line_is_cut_to_the_width_of_the_terminal(
    width: int, shown: dict[int, list[list[str]]]
) -> None:
    frames = shown[width]
    lines = bars(frames)
    assert max(map(len, lines)) < width
    assert all(line.split()[1] in ("Training", "Scoring") for line in lines), "none is wrapped"
    assert frames[-1][-1] == "done"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_steps_of_a_minute_have_a_pace_too() -> None:
    clock = Clock()
    work = console._Work("Training", 10, "steps", clock)
    assert work.left() is None
    for minute in range(1, 4):
        clock.now = 60.0 * minute
        work.advance()
    assert work.speed() == "60.0 s/step"
    clock.now += 20
    assert work.left() == 7 * 60 - 20


def test_pace_is_that_of_late_and_without_pauses() -> None:
    clock = Clock()
    work = console._Work("chunk", 2000, "texts", clock)
    for _ in range(500):
        clock.now += 10
        work.advance()
    for _ in range(400):
        clock.now += 0.5
        work.advance()
    assert work.rate() == pytest.approx(2)
    work.pause()
    clock.now += 3600
    assert work.left() == pytest.approx(550)
    work.resume()
    work.advance()
    assert work.rate() == pytest.approx(2, rel=0.01)


def test_who_knows_better_tells_the_time_that_is_left() -> None:
    clock = Clock()
    work = console._Work("Training", 10, "steps", clock)
    clock.now = 1
    work.advance(left=500)
    clock.now = 101
    assert work.left() == 400


def test_off_a_terminal_there_is_a_line_for_a_tenth_or_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    advance = console._plain_lines(console._Work("Training", 100, "steps", clock))
    for _ in range(30):  # a step a second: a tenth takes as long as the least interval
        clock.now += 1
        advance(1, "loss 3.0")
    for _ in range(15):  # five times slower: a tenth of the work takes less than a minute
        clock.now += 5
        advance()
    for _ in range(4):  # so slow that a minute comes first
        clock.now += 45
        advance()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        f"Training: {n} of 100" for n in (10, 20, 30, 40, 46, 48)
    ]
    assert lines[0] == "Training: 10 of 100 (1.0 steps/s, 1 min 30 s left) loss 3.0"


def test_work_that_is_soon_done_says_nothing_off_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("quick", 100) as advance:
        for _ in range(100):
            advance()
    assert capsys.readouterr().err == ""


def test_listeners_hear_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[str, str]] = []
    with heard_by(lambda kind, text: heard.append((kind, text))):
        say("one")
        warn("two")
    say("three")
    assert heard == [("info", "one"), ("warning", "two")]
    assert capsys.readouterr().err == "one\nwarning: two\nthree\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (4.24, "4.2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (192, "3 min 12 s"), (3599.7, "1 h 00 min"), (3600 * 30 + 240, "30 h 04 min"),
    ],
)  # fmt: skip
def test_times_are_told_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "told"), [(0, "0 books"), (1, "1 book"), (2, "2 books"), (1234, "1,234 books")]
)
def test_a_number_takes_its_noun_along(n: int, told: str) -> None:
    assert many(n, "book") == told
    assert many(n, "book is", "books are") == told + (" is" if n == 1 else " are")
