"""How many books a day may come from the main site of Project Gutenberg.

The site asks programs to take no more than about a hundred a day. The downloads of one person are
counted together, whatever directories they go to, so the count is kept in the cache directory of
the user and not beside the data.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pipeline.console import warn
from pipeline.errors import PipelineError
from pipeline.files import encode_json, write_bytes

LIMIT = 100  # downloads
WINDOW = 24 * 3600.0  # seconds
OTHER_WAYS = (
    "Name a mirror with --mirror URL, read the archive of all texts with --archive FILE_OR_URL, or "
)
TOMORROW = OTHER_WAYS + "run the same command again tomorrow: what has come is kept."

_LOCK_PATIENCE = 60.0  # seconds; the lock is held for milliseconds


def default_path() -> Path:
    """The file in which the downloads of this user are counted."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        # The standard asks to pass over relative paths.
        base = named if Path(named).is_absolute() else Path.home() / ".cache"
    return Path(base) / "bookshelf-llm" / "downloads.json"


class DailyQuota:
    """At most `limit` downloads in any `window` seconds, counted in the file `path`.

    Any number of processes may share the file. `clock` gives seconds since 1970.

    A count that cannot be read is taken as used up, from the time when the file was last written:
    forgetting downloads would be at the cost of the site. Raises PipelineError where the file
    cannot be kept.
    """

    def __init__(
        self,
        path: Path | None = None,
        limit: int = LIMIT,
        window: float = WINDOW,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = default_path() if path is None else path
        self.limit = limit
        self._window = window
        self._clock = clock

    def left(self) -> int:
        """How many downloads are allowed now."""
        with self._locked():
            return max(0, self.limit - len(self._recent()))

    def check(self, wanted: int) -> None:
        """Raises PipelineError if `wanted` downloads are more than are left."""
        left = self.left()
        if wanted <= left:
            return
        # Nothing is fetched then, so that more than a day allows will be too many tomorrow as well.
        fewer = (
            f"ask for fewer with --num-records: at most {left or self.limit} new ones "
            f"{'today' if left else 'tomorrow'} (what is there is not counted)."
        )
        raise PipelineError(
            f"{wanted:,} books are to come from the main site of Project Gutenberg, which "
            f"allows a program {self.limit} a day; {left} are left.",
            TOMORROW if wanted <= self.limit else OTHER_WAYS + fewer,
        )

    def take(self) -> None:
        """Count one download; to be called before it. Raises PipelineError if none is left."""
        with self._locked():
            recent = self._recent()
            if len(recent) < self.limit:
                self._write([*recent, self._clock()])
                return
            self._write(recent)
        raise PipelineError(
            f"The {self.limit} downloads a day that the main site of Project Gutenberg allows a "
            f"program are used up{self._next(recent)}.",
            TOMORROW,
        )

    def _next(self, recent: list[float]) -> str:
        if not self.limit:
            return ""
        free = datetime.fromtimestamp(recent[-self.limit] + self._window).astimezone()
        return f"; the next is allowed at {free:%Y-%m-%d %H:%M}"

    def _recent(self) -> list[float]:
        """The times of the downloads that still count, in order."""
        now = self._clock()
        try:
            times = _times(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return []
        except (ValueError, OverflowError, RecursionError):
            warn(f"{self.path} is damaged: the downloads of the day count as used up.")
            times = [self.path.stat().st_mtime] * self.limit
        # A clock that was set back must not block for longer than a day.
        return sorted(min(when, now) for when in times if when > now - self._window)

    def _write(self, times: list[float]) -> None:
        write_bytes(self.path, encode_json({"downloads": times}) + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=_LOCK_PATIENCE):
                yield
        except Timeout as error:
            raise PipelineError(
                f"{self.path} has been locked by another process for a minute.",
                "End the process that hangs.",
            ) from error
        except OSError as error:
            raise PipelineError(
                f"The downloads of the day cannot be counted in {self.path}: {error.strerror}.",
                "Set XDG_CACHE_HOME to a directory that can be written to, or use --mirror URL.",
            ) from error


def _times(value: object) -> list[float]:
    """The times in the file's JSON. Raises ValueError if it is of another kind."""
    times = value.get("downloads") if isinstance(value, dict) else None
    if not isinstance(times, list):
        raise ValueError("no list of downloads")
    if not all(type(when) in (int, float) and math.isfinite(when) for when in times):
        raise ValueError("a time is no number")
    return [float(when) for when in times]
