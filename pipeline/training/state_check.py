"""What the JSON of a checkpoint must look like before anything in it is used.

A checkpoint may come from elsewhere: its hashes say that it is as it was written, and not that what
was written makes sense. Here nothing is imported that takes long, and nothing is loaded.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

LARGEST = 2**53  # what a float still counts exactly; no run comes near it
_MOST_NESTED = 50
_COUNTS = ("step", "sequences", "tokens", "positions")
_SECONDS = ("seconds", "scoring_seconds", "total_seconds")
_TICKS = ("last_epoch", "_step_count")
_ABOUT = {
    "run": str, "reason": str, "identity": dict, "versions": dict, "follows": dict, "cursor": dict,
}  # fmt: skip


def parse(data: bytes) -> Any:
    """What JSON says. Raises ValueError for what is none, or is nested beyond all reason."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(_MOST_NESTED):
        level = [item for outer in level for item in _items(outer)]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 0 on that something can be counted with."""
    return type(value) is int and 0 <= value < LARGEST


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and -LARGEST < value < LARGEST


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < LARGEST


def check_about(about: Mapping[str, Any]) -> None:
    """Raise ValueError, with a clause, unless a checkpoint says of itself what can be read.

    What it does not say is no fault, and neither is what nobody asks for.
    """
    for name, kind in _ABOUT.items():
        if name in about and not isinstance(about[name], kind):
            raise ValueError(f"{name} is no {'text' if kind is str else 'object'}")
    if "steps" in about and not is_count(about["steps"]):
        raise ValueError("steps is no number of steps")


def time_of(value: Any) -> str:
    """A time in ISO 8601 as it was written; nothing for whatever is none."""
    if not isinstance(value, str) or len(value) > 40:
        return ""
    try:
        found = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return value if 1971 <= found.year < 9999 else ""


def check_progress(progress: Any) -> None:
    """Raise ValueError, with a clause, unless `progress` says how far a run had come."""
    if not isinstance(progress, dict):
        raise ValueError("there is no progress in it")
    kinds: dict[str, Callable[[Any], bool]] = dict.fromkeys(_COUNTS, is_count)
    kinds |= dict.fromkeys(_SECONDS, _is_duration)
    kinds["cursor"] = lambda value: value is None or isinstance(value, dict)
    for name, value in progress.items():
        if name not in kinds:
            raise ValueError(f"progress has {name[:40]!r}, which is not known here")
        if not kinds[name](value):
            raise ValueError(f"{name} is {value!r:.40}")


def check_state(state: Any) -> None:
    """Raise ValueError, with a clause, for the first part of a run's state that makes no sense.

    A part that is not there is missed by who loads it.
    """
    if not isinstance(state, dict):
        raise ValueError("it is no object")
    check_progress(state.get("progress"))
    for name, is_sound in _PARTS.items():
        if name in state and not is_sound(state[name]):
            raise ValueError(f"{name} is not as a run writes it")


def _is_optimizer(value: Any) -> bool:
    match value:
        case {"state": dict(state), "groups": list(groups)}:
            numbers = [number for kept in state.values() for number in _kept(kept).items()]
            return (
                all(isinstance(kept, dict) and key.isdecimal() for key, kept in state.items())
                and all(is_count(n) if name == "step" else is_number(n) for name, n in numbers)
                and all(isinstance(group, dict) for group in groups)
            )
    return False


def _kept(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_scheduler(value: Any) -> bool:
    return isinstance(value, dict) and all(is_count(value.get(name)) for name in _TICKS)


def _is_scaler(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_duration, value.values())))


def _is_random(value: Any) -> bool:
    match value:
        case {
            "numpy": ["MT19937", int(position), (0 | 1), gauss],
            "python": [3, following],
        }:
            return (
                0 <= position <= 624
                and is_number(gauss)
                and (following is None or is_number(following))
            )
    return False


_PARTS: dict[str, Callable[[Any], bool]] = {
    "optimizer": _is_optimizer, "scheduler": _is_scheduler, "scaler": _is_scaler,
    "random": _is_random,
}  # fmt: skip
