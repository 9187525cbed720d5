"""New tokens for a model: names and signs that should be one token instead of several.

    tokens = read_tokens(Path("names.txt"))
    extended = extend_tokenizer(base.path, tokens, cache / "tokenizers")
    extended.path, extended.new, extended.size

Only what is spelled in several tokens until now counts as new. New tokens are ordinary and not
special ones: a text may contain them, and a model may write them.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST = 200  # characters
MOST = 100_000
TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)


@dataclass(frozen=True)
class NewToken:
    """A token that the vocabulary did not have: its id, and how it was spelled until now."""

    text: str
    id: int
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class Extended:
    """A tokenizer with new tokens: where it lies, which are new, how many ids there are."""

    path: Path
    new: tuple[NewToken, ...]
    size: int


def read_tokens(path: Path) -> tuple[str, ...]:
    """Read a file of tokens: one on each line (blanks around it do not count), or a JSON list,
    where they do. What is there twice counts once.

    Raises:
        UsageError: the file cannot be read, has no tokens, or one that cannot be one.
    """
    try:
        text = path.expanduser().read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--extra-tokens {path} cannot be read: {reason}.") from error
    if text.lstrip().startswith("["):
        tokens = _from_json(path, text)
    else:
        tokens = [(i, line.strip()) for i, line in enumerate(text.split("\n"), 1)]
    found: dict[str, None] = {}
    for place, token in tokens:
        if not token:
            continue
        if len(token) > LONGEST or not all(c.isprintable() for c in token):
            what = f"is longer than {LONGEST} characters"
            if len(token) <= LONGEST:
                what = "has characters that cannot be printed"
            raise UsageError(f"--extra-tokens {path}:{place}: {token[:40]!r} {what}.")
        found[token] = None
    if not 0 < len(found) <= MOST:
        raise UsageError(
            f"--extra-tokens {path} holds {len(found):,} tokens.",
            f"Give a file with one token on each line, at most {MOST:,}.",
        )
    return tuple(found)


def _from_json(path: Path, text: str) -> list[tuple[int, str]]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--extra-tokens {path} begins as a JSON list does, and is none: {error}.",
            "In a plain list, do not let the first line begin with a bracket.",
        ) from error
    for i, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise UsageError(f"--extra-tokens {path}: entry {i} is {value!r}, not a string.")
    return list(enumerate(values, 1))


def extend_tokenizer(base: Path, tokens: Sequence[str], folder: Path) -> Extended:
    """Make a tokenizer that is `base`'s with `tokens` added, in a folder in `folder`.

    The folder is named by what is in it and made once. Without a token that is new it is `base`.

    Raises:
        PipelineError: the tokenizer has no tokenizer.json, or does not take a token as one.
    """
    from pipeline.corpus.token_cache import load_tokenizer

    before = load_tokenizer(base)
    known = before.get_vocab()
    fresh = [t for t in tokens if t not in known and len(_plain(before, t)) > 1]
    if not fresh:
        return Extended(base, (), len(before))
    source = base / TOKENIZER
    if not source.is_file():
        raise PipelineError(
            f"--extra-tokens needs a {TOKENIZER}, and the base model in {base} has none."
        )
    rules = json.loads(source.read_text("utf-8"))
    first = max(known.values()) + 1
    rules["added_tokens"] = [
        *rules.get("added_tokens", []),
        *(_entry(first + i, token) for i, token in enumerate(fresh)),
    ]
    path = folder / f"extended-{fingerprint([str(base), rules])[:16]}"
    if not (path / TOKENIZER).is_file():
        _write(base, rules, path)
    after = load_tokenizer(path)
    new = tuple(
        NewToken(token, first + i, tuple(_plain(before, token))) for i, token in enumerate(fresh)
    )
    for token in new:
        if _plain(after, token.text) != [token.id]:
            raise PipelineError(
                f"The tokenizer in {base} does not take {token.text!r} as one token.",
                "Leave it out of --extra-tokens.",
            )
    return Extended(path, new, len(after))


def _entry(token_id: int, token: str) -> dict[str, Any]:
    """As tokenizer.json has it: found in the text as it stands, wherever it stands."""
    return {
        "id": token_id, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": False,
    }  # fmt: skip


def _write(base: Path, rules: dict[str, Any], path: Path) -> None:
    """The base's own files with other rules; the rules come last, so that half is not whole."""
    path.mkdir(parents=True, exist_ok=True)
    for pattern in (*TOKENIZER_FILES, "config.json"):
        for file in base.glob(pattern):
            if file.name != TOKENIZER:
                shutil.copyfile(file, path / file.name)
    write_json(path / TOKENIZER, rules)


def _plain(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    from pipeline.corpus.tokens import plain_ids

    return plain_ids(tokenizer, text)
