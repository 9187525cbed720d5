"""Sizes in tokens: where the tokens of a text begin, with any tokenizer that is not slow.

A tokenizer is a folder, a `tokenizer.json`, or an id of the Hugging Face Hub. A text is tokenized
once, in pieces that end with a paragraph, and all that is kept of it is the offset of each token:
that says how many tokens any part of the text has, without looking at it again. A chunk that is
tokenized by itself may have a token more or less at its ends.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import sha256_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# As much English prose as 6000 to 7000 characters, at four or so to a token: two chunks and a
# prompt fit into a window of 4096.
DEFAULT_TOKENS = 1536

_TOKENIZER = "tokenizer.json"
_FILES = (
    _TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "*.tiktoken", "spiece.model", "sentencepiece*.model", "vocab.*",
    "merges.txt",
)  # fmt: skip
_CONFIG = "config.json"  # says which kind of tokenizer it is, where nothing else does
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_PIECE = 50_000  # characters that are tokenized at a time
_PIECES = 8  # pieces that several threads may work on at once
_PIECE_END = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer on this disk. `name` says which one it is: what it was called, and a hash of
    its files."""

    path: Path
    name: str


def find_tokenizer(spec: str) -> TokenizerFiles:
    """The tokenizer `spec`: a folder, a `tokenizer.json`, or an id of the Hub.

    One of the Hub is fetched once; afterwards the copy in the Hub's own cache is taken, without
    asking. Raises PipelineError if it is not there, or is no tokenizer.
    """
    path = Path(spec).expanduser()
    if spec.strip() and path.is_file():
        return TokenizerFiles(path, f"{path.name} ({sha256_file(path)[:16]})")
    if spec.strip() and path.is_dir():
        return TokenizerFiles(path, f"{path.resolve().name} ({_hash_of(path, spec)})")
    if not _HUB_ID.fullmatch(spec):
        raise PipelineError(
            f"The tokenizer {spec!r} is not there.",
            "Give a folder with a tokenizer.json, such a file, or an id of the Hugging Face Hub.",
        )
    path = _from_hub(spec)
    return TokenizerFiles(path, f"{spec} ({_hash_of(path, spec)})")


def _hash_of(folder: Path, spec: str) -> str:
    """A short hash of the tokenizer's files in a folder."""
    found = sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})
    if not found:
        raise PipelineError(
            f"{spec} has no tokenizer in it.", f"A tokenizer's folder has a {_TOKENIZER}."
        )
    if (folder / _TOKENIZER) in found:
        found = [folder / _TOKENIZER]
    digest = hashlib.sha256()
    for path in found:
        digest.update(f"{path.name}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()[:16]


def _from_hub(repo_id: str) -> Path:
    """The folder of a tokenizer of the Hub, from the local cache if it is there."""
    from huggingface_hub import errors, snapshot_download

    patterns = [*_FILES, _CONFIG]
    try:
        path = Path(snapshot_download(repo_id, allow_patterns=patterns, local_files_only=True))
        _hash_of(path, repo_id)
    except (errors.LocalEntryNotFoundError, PipelineError):
        with _hub_errors(repo_id):
            path = Path(snapshot_download(repo_id, allow_patterns=patterns))
    return path


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise PipelineError(
            f"The tokenizer {repo_id} is gated: its owner wants you to accept terms.",
            f"Accept them at https://huggingface.co/{repo_id}, then run `hf auth login`.",
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise PipelineError(
            f"The tokenizer {repo_id} is neither a folder or file here nor on the Hub.",
            "Check its spelling; a private one needs `hf auth login`.",
        ) from None
    except (httpx.HTTPError, OSError):
        raise PipelineError(
            f"The tokenizer {repo_id} is not on this disk, and the Hub cannot be reached for it.",
            "Check the network (and that HF_HUB_OFFLINE is not set), then run the command again.",
        ) from None


def tokenizer_file(found: TokenizerFiles, folder: Path) -> Path:
    """The tokenizer as one file that `TokenPlaces` reads; made in `folder` if it has none.

    Raises PipelineError for a tokenizer that cannot say where its tokens are.
    """
    if found.path.is_file():
        return found.path
    if (found.path / _TOKENIZER).is_file():
        return found.path / _TOKENIZER
    from transformers import AutoTokenizer

    try:
        made: Any = AutoTokenizer.from_pretrained(str(found.path), local_files_only=True)
        backend = made.backend_tokenizer
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise PipelineError(
            f"The tokenizer {found.name} cannot be used: {reason}.",
            "Sizes in tokens need a tokenizer with a tokenizer.json.",
        ) from error
    path = folder / _TOKENIZER
    path.write_text(backend.to_str(), "utf-8")
    return path


@lru_cache(maxsize=1)
def _load(path: Path, changed: int) -> "Tokenizer":
    """The tokenizer of a file, last changed then. Raises PipelineError if it is damaged."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise PipelineError(
            f"{path} is no tokenizer that can be read.", "It should be a tokenizer.json."
        ) from error
    # Some files ask for what suits a batch of short sentences.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A book about markup has "</s>" in it: plain characters, and no end of a text.
    tokenizer.encode_special_tokens = True
    return tokenizer


class TokenPlaces:
    """Where the tokens of a text begin: a `chunking.Measure`."""

    def __init__(self, text: str, path: Path) -> None:
        """Tokenize `text` with the tokenizer in the file `path`."""
        import numpy as np

        tokenizer = _load(path, path.stat().st_mtime_ns)
        starts = [np.empty(0, np.int64)]
        batch: list[str] = []
        begin = at = 0
        for piece in _pieces(text):
            batch.append(piece)
            at += len(piece)
            if len(batch) == _PIECES or at == len(text):
                for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
                    starts.append(np.array([a for a, _ in encoding.offsets], np.int64) + begin)
                    begin += len(batch.pop(0))
        self._length = len(text)
        # The bytes of one character may be tokens that begin at the same place.
        self._starts = np.maximum.accumulate(np.concatenate(starts))

    def units(self, offset: int) -> int:
        """How many tokens begin before the character at `offset`."""
        import numpy as np

        return int(np.searchsorted(self._starts, offset))

    def place(self, unit: int) -> int:
        """The offset of the character that a token begins with."""
        return int(self._starts[max(unit, 0)]) if unit < len(self._starts) else self._length


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces, which end with a paragraph where there is one."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            # The longest white space begins a token: it stays together.
            match = _PIECE_END.search(text, end, end + _PIECE)
            end = match.end() if match else end + _PIECE
        yield text[start:end]
        start = end
