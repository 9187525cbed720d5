"""Tokenize once: a store of rows, made from examples if it is not there or not of these.

    store = open_or_build(folder, examples, tokenizer_path, EncodeSettings(length=1024), jobs=4)

Examples are tokenized in groups by several processes. Each group becomes a part, a file that is
whole or not there, named by a hash of the group's content, the tokenizer and the settings. What is
stopped goes on with the parts that are there. In the end the parts are joined, and the folder gets
its name when everything in it is on the disk.

A store is used again only if tokenizer, settings and data are those that it was made from, and its
files are as they were written. In any other case it is made anew, and the reason is said.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from pipeline.console import Advance, progress, say, warn
from pipeline.corpus.encoding import Encoded, Encoder, EncodeSettings, Fit, fit
from pipeline.corpus.token_store import (
    HEADER,
    StoreWriter,
    TokenStore,
    add_statistics,
    default_mask,
    dtype_for,
    no_statistics,
    open_store,
    pack_masks,
)
from pipeline.corpus.tokens import tokenizer_fingerprint
from pipeline.errors import PipelineError
from pipeline.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    encode_json,
    fingerprint,
    is_disk_full,
    sha256_bytes,
    sync,
)
from pipeline.parallel import map_in_order

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PART_CHARACTERS = 4_000_000  # of text in a group; a larger document is a group of its own
PART_EXAMPLES = 20_000
EMPTY = "without text"
# Groups below which one process is done before others have started (they import torch: 3 s).
_WORTH_PROCESSES = 4


@dataclass(frozen=True)
class Example:
    """Something to train on: `content` is {"text"}, {"prompt", "completion"} or {"messages"}.

    `id` is for messages; `collection` is the name of the source that it came from.
    """

    id: str
    content: Mapping[str, Any]
    collection: str | None = None

    @property
    def characters(self) -> int:
        """The length of everything that is said in it."""
        turns = self.content.get("messages", ())
        texts = (self.content.get(name, "") for name in ("text", "prompt", "completion"))
        return sum(map(len, texts)) + sum(len(turn["content"]) for turn in turns)

    def digest(self) -> str:
        """A hash of everything in it."""
        return sha256_bytes(encode_json([self.id, self.content, self.collection]))


@dataclass
class _Group:
    """Examples that become one part, whose name is `key`."""

    key: str
    examples: list[Example] = field(default_factory=list)


def open_or_build(
    directory: Path,
    examples: Iterable[Example],
    tokenizer_path: Path,
    settings: EncodeSettings,
    jobs: int = 1,
    *,
    data_key: str | None = None,
) -> TokenStore:
    """The store in `directory` if it was made from all this, else a new one in its place.

    Args:
        directory: the store's own; what is there is replaced.
        examples: what to tokenize, in the order of the rows.
        tokenizer_path: a folder with a tokenizer, for this process and others.
        settings: how examples become rows.
        jobs: processes at work.
        data_key: a hash of the data that `examples` come from. If given, the examples are not
            looked at where the store is there; without, all are held in memory and hashed.

    Raises:
        PipelineError: an example cannot be encoded, a setting makes no sense, or the disk is full.
    """
    from filelock import FileLock

    settings.check()
    tokenizer = load_tokenizer(tokenizer_path)
    if data_key is None:
        examples = list(examples)
        data_key = fingerprint([example.digest() for example in examples])
    key = {**_tools_key(tokenizer, settings), "data": data_key}
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.parent / f"{TEMPORARY_PREFIX}{directory.name}.lock"):
        store = _usable(directory, key)
        if store is not None:
            return store
        try:
            _build(directory, examples, tokenizer, tokenizer_path, settings, jobs, key)
        except OSError as error:
            if is_disk_full(error):
                raise PipelineError(f"The disk is full: no room for {directory}.") from error
            raise
        return open_store(directory)


def load_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in a folder on this disk. Raises PipelineError if it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(f"The tokenizer in {path} cannot be loaded: {reason}") from error
    return tokenizer


def _tools_key(tokenizer: "PreTrainedTokenizerBase", settings: EncodeSettings) -> dict[str, Any]:
    """What the ids depend on besides the data."""
    import tokenizers
    import transformers

    return {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "settings": settings.as_dict(),
        "software": f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}",
        "version": 1,  # raise it when the same input gives other rows
    }


def _usable(directory: Path, key: dict[str, Any]) -> TokenStore | None:
    """The store that is there, if it is of `key`; else None, and it is said why not."""
    if not (directory / HEADER).is_file():
        return None
    try:
        store = open_store(directory)
    except PipelineError as error:
        warn(f"{error.message} It is made anew.")
        return None
    wanted = json.loads(json.dumps(key))
    if store.key != wanted:
        other = [name for name in wanted if store.key.get(name) != wanted[name]]
        say(f"Tokenizing anew, since the store was made with other {' and '.join(other)}.")
        return None
    shutil.rmtree(_parts(directory), ignore_errors=True)  # of a build that was killed at its end
    return store


# --- building -------------------------------------------------------------------------------------


def _parts(directory: Path) -> Path:
    return directory / "parts"


def _build(
    directory: Path,
    examples: Iterable[Example],
    tokenizer: "PreTrainedTokenizerBase",
    tokenizer_path: Path,
    settings: EncodeSettings,
    jobs: int,
    key: dict[str, Any],
) -> None:
    if directory.exists() and not (directory / HEADER).is_file() and any(directory.iterdir()):
        raise PipelineError(
            f"{directory} holds something, but no token store.", "Give another folder."
        )
    building = directory.with_name(directory.name + ".building")
    parts = _parts(building)
    parts.mkdir(parents=True, exist_ok=True)
    for path in building.glob("*.bin"):  # joined by a process that was killed; of other parts?
        path.unlink()
    tools = fingerprint({name: value for name, value in key.items() if name != "data"})
    work = partial(_write_part, parts, tokenizer_path, tools, settings)
    with progress("Tokenizing", unit="examples") as advance:
        groups = _groups(examples, tools)
        first = list(islice(groups, _WORTH_PROCESSES))
        jobs = jobs if len(first) == _WORTH_PROCESSES else 1
        keys: list[str] = []
        missing = _missing(chain(first, groups), parts, keys, advance)
        for count in map_in_order(work, missing, jobs):
            advance(count)
    _join(building, [parts / f"{name}.npz" for name in keys], tokenizer, key)
    if directory.exists():
        shutil.rmtree(directory)
    building.rename(directory)
    sync(directory.parent)
    shutil.rmtree(_parts(directory))


def _groups(examples: Iterable[Example], tools: str) -> Iterator[_Group]:
    """Examples in groups of a few million characters, each with a key of all that is in it."""
    group: list[Example] = []
    size = 0
    for example in examples:
        if group and (size + example.characters > PART_CHARACTERS or len(group) == PART_EXAMPLES):
            yield _Group(_group_key(group, tools), group)
            group, size = [], 0
        group.append(example)
        size += example.characters
    if group:
        yield _Group(_group_key(group, tools), group)


def _group_key(group: list[Example], tools: str) -> str:
    return fingerprint([tools, [example.digest() for example in group]])


def _missing(
    groups: Iterable[_Group], parts: Path, keys: list[str], advance: Advance
) -> Iterator[_Group]:
    """The groups whose parts are not there yet; notes the keys of all, in order."""
    for group in groups:
        keys.append(group.key)
        if _read_part(parts / f"{group.key}.npz") is None:
            yield group
        else:
            advance(len(group.examples))


@lru_cache(maxsize=1)
def _encoder(tokenizer_path: Path, tools: str, template: str | None) -> tuple[Encoder, str]:
    """What a process encodes with, made once, and the type of its ids; `tools` tells two apart."""
    tokenizer = load_tokenizer(tokenizer_path)
    return Encoder(tokenizer, template), _dtype(tokenizer)


def _dtype(tokenizer: "PreTrainedTokenizerBase") -> str:
    # Not by the number of tokens: ids may have gaps.
    return dtype_for(max(tokenizer.get_vocab().values()) + 1)


def _write_part(
    parts: Path, tokenizer_path: Path, tools: str, settings: EncodeSettings, group: _Group
) -> int:
    """Tokenize a group, in whatever process, and write its part; how many examples it had."""
    import numpy as np

    encoder, dtype = _encoder(tokenizer_path, tools, settings.template)
    rows, masks, names = [], [], []
    statistics = no_statistics()
    for example in group.examples:
        encoded, fitted = _encode(encoder, example, settings)
        add_statistics(statistics, _count(example, encoded, fitted))
        rows += [np.asarray(row.ids, dtype) for row in fitted.rows]
        masks += [row.trained for row in fitted.rows]
        names += [example.collection] * len(fitted.rows)
    arrays: dict[str, Any] = {
        "ids": np.concatenate(rows) if rows else np.zeros(0, dtype),
        "lengths": np.asarray([len(row) for row in rows], "<i8"),
    }
    if any(mask is not None for mask in masks):
        arrays["trained"] = pack_masks(
            [default_mask(len(row)) if mask is None else mask
             for mask, row in zip(masks, rows, strict=True)]
        )  # fmt: skip
    about = encode_json({"names": names, "statistics": statistics})
    arrays["about"] = np.frombuffer(about, np.uint8)
    with atomic_path(parts / f"{group.key}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return len(group.examples)


def _encode(encoder: Encoder, example: Example, settings: EncodeSettings) -> tuple[Encoded, Fit]:
    if not str(example.content.get("text", "there")).strip():
        return Encoded([]), Fit([])  # BOS and EOS alone teach a model to say nothing
    try:
        encoded = encoder.encode(example.content)
    except PipelineError as error:
        raise PipelineError(f"Example {example.id!r}: {error.message}", error.hint) from error
    return encoded, fit(encoded, settings.length, settings.overlong, settings.overlap)


def _read_part(path: Path) -> dict[str, Any] | None:
    """The arrays of a part; None if it is not there, or not as it was written."""
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}  # a zip: checksums are checked
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None


def _join(
    building: Path,
    parts: list[Path],
    tokenizer: "PreTrainedTokenizerBase",
    key: dict[str, Any],
) -> None:
    """Put the parts together to the files of a store."""
    masked = any("trained" in _names_in(part) for part in parts)
    statistics = no_statistics()
    with StoreWriter(building, dtype=_dtype(tokenizer), masked=masked) as writer:
        for part in parts:
            arrays = _read_part(part)
            if arrays is None:
                raise PipelineError(
                    f"{part} is damaged or gone.", "Run the command again: it makes it anew."
                )
            about = json.loads(arrays["about"].tobytes())
            writer.add(arrays["ids"], arrays["lengths"], arrays.get("trained"), about["names"])
            add_statistics(statistics, about["statistics"])
    writer.finish(key, statistics)


def _names_in(part: Path) -> list[str]:
    with ZipFile(part) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]


def _count(example: Example, encoded: Encoded, fitted: Fit) -> dict[str, Any]:
    """The statistics of one example."""
    counts = {
        "examples": 1,
        "empty": int(not encoded.ids),
        "characters": example.characters,
        "tokens": len(encoded.ids),
        "repeated": fitted.repeated,
        "rows": len(fitted.rows),
        "stored": sum(len(row.ids) for row in fitted.rows),
        "predicted": sum(row.predicted for row in fitted.rows),
    }
    reasons = [*fitted.dropped, *([] if encoded.ids else [EMPTY])]
    return {
        **counts,
        "dropped": fitted.dropped,
        "left_out": {reason: [example.id] for reason in reasons},
        "collections": {example.collection or "": counts},
    }
