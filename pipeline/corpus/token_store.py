"""Rows of token ids on the disk, mapped into memory: read as needed, never copied as a whole.

A store is a folder:

- `store.json`: what it was made from and with, what is in it, size and sha256 of each file, and a
  hash of all this. Without it there is no store.
- `ids.bin`: the ids of all rows, one after the other, as uint16 or uint32 by the vocabulary.
- `starts.bin`: int64, where each row starts in there, and the end of the last.
- `trained.bin`: which tokens are trained on, one bit for each, every row from a new byte on. Not
  there where all are, but the first of each row.
- `collections.bin`: uint32, the place of each row's source in the list of their names; not there
  where no source has a name.

All little-endian. `token_cache` makes stores.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.errors import PipelineError
from pipeline.files import fingerprint, sha256_file, sync, write_json

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
HEADER = "store.json"
IDS, STARTS, TRAINED, COLLECTIONS = "ids.bin", "starts.bin", "trained.bin", "collections.bin"


class TokenStore:
    """An open store: rows of token ids. It can be pickled, for the workers of a data loader."""

    def __init__(self, directory: Path, header: dict[str, Any]) -> None:
        """Use `open_store`."""
        import numpy as np

        self._directory = directory
        self._header = header
        self._ids = _mapped(directory / IDS, header["dtype"])
        self._starts = _mapped(directory / STARTS, "<i8")
        self._trained: np.ndarray | None = None
        if header["masked"]:
            self._trained = _mapped(directory / TRAINED, "|u1")
            room = (self.lengths() + 7) // 8
            self._trained_starts = np.concatenate([[0], np.cumsum(room)])

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._starts) - 1

    def __reduce__(self) -> tuple[Callable[..., "TokenStore"], tuple[Path, dict[str, Any]]]:
        return TokenStore, (self._directory, self._header)

    def row(self, index: int) -> "tuple[np.ndarray, np.ndarray | None]":
        """The ids of a row, a view of the file, and which are trained on (None: all but the first).

        Raises IndexError for a row that is not there.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"There is no row {index}: the store has {len(self)}.")
        import numpy as np

        start, end = int(self._starts[index]), int(self._starts[index + 1])
        ids = self._ids[start:end]
        if self._trained is None:
            return ids, None
        first, last = self._trained_starts[index : index + 2]
        bits = np.unpackbits(self._trained[first:last], count=end - start)
        return ids, bits.astype(bool)

    def lengths(self) -> "np.ndarray":
        """The tokens of each row, int64."""
        import numpy as np

        return np.diff(self._starts)

    def collections(self) -> list[str | None]:
        """The name of the source of each row."""
        names: list[str | None] = self._header["collections"]
        if COLLECTIONS not in self._header["files"]:
            return [None] * len(self)
        return [names[code] for code in _mapped(self._directory / COLLECTIONS, "<u4").tolist()]

    def statistics(self) -> dict[str, Any]:
        """What went in, what became of it and what was lost, as `token_cache` counted it."""
        return json.loads(json.dumps(self._header["statistics"]))  # type: ignore[no-any-return]

    @property
    def key(self) -> dict[str, Any]:
        """What the store was made from and with."""
        return dict(self._header["key"])

    @property
    def dtype(self) -> str:
        """The type of the ids on the disk: "<u2" or "<u4"."""
        return str(self._header["dtype"])


def open_store(directory: Path) -> TokenStore:
    """Open a store; reads it once, to see that it is as it was written.

    Raises PipelineError if there is none, or naming what is damaged.
    """
    header = read_header(directory)
    for name, fact in header["files"].items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != fact["size"]:
            raise damaged(directory, f"{name} has not its {fact['size']:,} bytes")
        if sha256_file(path) != fact["sha256"]:
            raise damaged(directory, f"{name} has changed")
    return TokenStore(directory, header)


def read_header(directory: Path) -> dict[str, Any]:
    """The header of a store. Raises PipelineError if there is none or it is damaged."""
    path = directory / HEADER
    if not path.is_file():
        raise PipelineError(f"There is no token store in {directory}.")
    try:
        value = json.loads(path.read_text("utf-8"))
        header, digest = value["header"], value["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise damaged(directory, f"{HEADER} is not what was written") from None
    if not isinstance(header, dict) or fingerprint(header) != digest:
        raise damaged(directory, f"{HEADER} has changed")
    if header.get("format") != FORMAT:
        raise damaged(directory, f"its format is {header.get('format')!r} and not {FORMAT}")
    return header


def damaged(directory: Path, what: str) -> PipelineError:
    """The error for a store that cannot be used."""
    return PipelineError(
        f"The token store in {directory} is damaged: {what}.", "Delete the folder."
    )


def dtype_for(vocabulary: int) -> str:
    """The smallest type for the ids of a vocabulary of so many tokens."""
    return "<u2" if vocabulary <= 1 << 16 else "<u4"


class StoreWriter:
    """Writes the files of a store into a folder that is not yet one, rows by rows.

    with StoreWriter(folder, dtype="<u2", masked=False) as writer:
        writer.add(ids, lengths, trained, names)
    writer.finish(key, statistics)
    """

    def __init__(self, directory: Path, *, dtype: str, masked: bool) -> None:
        self._directory = directory
        self._dtype = dtype
        self._masked = masked
        self._files: dict[str, BinaryIO] = {}
        self._end = 0
        self._codes: dict[str | None, int] = {}

    def __enter__(self) -> "StoreWriter":
        import numpy as np

        wanted = [IDS, STARTS, COLLECTIONS, *([TRAINED] if self._masked else [])]
        for name in wanted:
            self._files[name] = (self._directory / name).open("wb")
        np.zeros(1, "<i8").tofile(self._files[STARTS])
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add(
        self,
        ids: "np.ndarray",
        lengths: "np.ndarray",
        trained: "np.ndarray | None",
        names: Sequence[str | None],
    ) -> None:
        """Add rows: their ids joined, their lengths, their bits (`pack_masks`), their sources."""
        import numpy as np

        if trained is None and self._masked:
            trained = pack_masks([default_mask(int(n)) for n in lengths])
        ends = self._end + np.cumsum(lengths, dtype="<i8")
        codes = [self._codes.setdefault(name, len(self._codes)) for name in names]
        ids.astype(self._dtype, copy=False).tofile(self._files[IDS])
        ends.astype("<i8", copy=False).tofile(self._files[STARTS])
        np.asarray(codes, "<u4").tofile(self._files[COLLECTIONS])
        if trained is not None:
            trained.tofile(self._files[TRAINED])
        self._end += int(lengths.sum())

    def finish(self, key: dict[str, Any], statistics: dict[str, Any]) -> None:
        """Write the header, after which the folder is a store. Call it after the `with` block."""
        if not set(self._codes) - {None}:
            (self._directory / COLLECTIONS).unlink()
            del self._files[COLLECTIONS]
        files = {}
        for name in self._files:
            path = self._directory / name
            sync(path)
            files[name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
        header = {
            "format": FORMAT,
            "key": key,
            "dtype": self._dtype,
            "masked": self._masked,
            "collections": list(self._codes),
            "statistics": statistics,
            "files": files,
        }
        header = json.loads(json.dumps(header))  # as it will be read, for the hash
        write_json(self._directory / HEADER, {"header": header, "sha256": fingerprint(header)})


def pack_masks(masks: "Sequence[Sequence[bool] | np.ndarray]") -> "np.ndarray":
    """Masks of rows as bits, each row from a new byte on."""
    import numpy as np

    packed = [np.packbits(np.asarray(mask, bool)) for mask in masks]
    return np.concatenate(packed) if packed else np.zeros(0, np.uint8)


def default_mask(n: int) -> "np.ndarray":
    """All tokens of a row are trained on but the first."""
    import numpy as np

    mask = np.ones(n, bool)
    mask[:1] = False
    return mask


# --- statistics -----------------------------------------------------------------------------------

_SHOWN_IDS = 5  # of examples that lost something, for each reason


def no_statistics() -> dict[str, Any]:
    """The statistics of nothing.

    `examples`, of these `empty` ones, their `characters` and `tokens`; `repeated` tokens (context
    at the start of blocks); `rows`, the tokens `stored` in them, and those that are `predicted`.
    `dropped` has the tokens lost by reason, `left_out` by reason the ids of a few examples that
    lost something, `collections` the same numbers for each source, "" for that without a name.

        stored + dropped == tokens + repeated
    """
    names = "examples", "empty", "characters", "tokens", "repeated", "rows", "stored", "predicted"
    return {**dict.fromkeys(names, 0), "dropped": {}, "left_out": {}, "collections": {}}


def add_statistics(total: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Add `other` to `total`."""
    for name, value in other.items():
        if isinstance(value, int):
            total[name] = total.get(name, 0) + value
        elif isinstance(value, list):
            total[name] = [*total.get(name, []), *value][:_SHOWN_IDS]
        else:
            add_statistics(total.setdefault(name, {}), value)


def _mapped(path: Path, dtype: str) -> "np.ndarray":
    """A file as an array that is read when it is looked at; an empty file cannot be mapped."""
    import numpy as np

    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")
