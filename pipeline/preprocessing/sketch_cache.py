"""Sketches of cleaned texts, remembered by what is in the texts.

One SQLite file in the workspace's cache. Whatever happens to it, it costs only time: what is
damaged is thrown away, and where nothing can be written it is kept in memory.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.books.sketches import Sketch

_NAME = "sketches-1.sqlite3"  # the number is that of the form of a sketch
_UNSAVED = 256  # sketches, about half a megabyte
_TABLE = "CREATE TABLE IF NOT EXISTS sketches (sha256 TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID"


class SketchCache:
    """Sketches by the sha256 of the text. Made by `open_sketches`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._unsaved = 0

    def __contains__(self, sha256: str) -> bool:
        return self.get(sha256) is not None

    def get(self, sha256: str) -> Sketch | None:
        """The sketch of a text; None where it is not known."""
        try:
            row = self._database.execute(
                "SELECT data FROM sketches WHERE sha256 = ?", (sha256,)
            ).fetchone()
            return Sketch.from_bytes(row[0]) if row else None
        except (sqlite3.Error, ValueError, TypeError):
            return None

    def add(self, sha256: str, data: bytes) -> None:
        """Remember the sketch of a text."""
        try:
            self._database.execute("INSERT OR REPLACE INTO sketches VALUES (?, ?)", (sha256, data))
            self._unsaved += 1
            if self._unsaved >= _UNSAVED:
                self.save()
        except sqlite3.Error:
            self._start_anew()
            self._database.execute("INSERT OR REPLACE INTO sketches VALUES (?, ?)", (sha256, data))

    def save(self) -> None:
        """Keep what was added."""
        self._database.commit()
        self._unsaved = 0

    def _start_anew(self) -> None:
        """Go on in memory where the disk is full or the file was damaged meanwhile."""
        self._database.close()
        self._database = _open(":memory:")

    def close(self) -> None:
        with closing(self._database):
            try:
                self.save()
            except sqlite3.Error:
                return


class NoSketches(SketchCache):
    """In place of a cache where no text is compared: none is wanted, and none is there."""

    def __init__(self) -> None:
        super().__init__(_open(":memory:"))

    def __contains__(self, sha256: str) -> bool:
        return True

    def get(self, sha256: str) -> Sketch | None:
        """None: there is none."""
        return None

    def add(self, sha256: str, data: bytes) -> None:
        """Nothing is kept."""


@contextmanager
def open_sketches(
    folder: Path, *, wanted: bool = True, read_only: bool = False
) -> Iterator[SketchCache]:
    """The cache in `folder`, saved at the end. `read_only`: nothing is written to the disk."""
    cache = SketchCache(_open_file(folder / _NAME, read_only)) if wanted else NoSketches()
    try:
        yield cache
    finally:
        cache.close()


def _open_file(path: Path, read_only: bool) -> sqlite3.Connection:
    if read_only:
        return _copy_in_memory(path)
    for attempt in range(2):
        try:
            return _open(str(path))
        except sqlite3.Error:
            if attempt == 0:
                _remove(path)
    return _open(":memory:")


def _open(name: str) -> sqlite3.Connection:
    """A database that has the table. Raises sqlite3.Error for a file that is none."""
    database = sqlite3.connect(name)
    try:
        # A torn file is only a lost cache, so nothing needs to wait for the disk.
        database.execute("PRAGMA journal_mode = MEMORY")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_TABLE)
        database.execute("SELECT sha256, data FROM sketches LIMIT 1").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _copy_in_memory(path: Path) -> sqlite3.Connection:
    memory = _open(":memory:")
    if path.is_file():
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
                memory.executemany(
                    "INSERT INTO sketches VALUES (?, ?)", file.execute("SELECT * FROM sketches")
                )
        except sqlite3.Error:
            memory.rollback()
    return memory


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
