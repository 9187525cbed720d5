"""The command that a run was started with, for `pipeline status` to say how to go on.

It goes into checkpoints, and from there to remotes, so no password and no signature is in it; and
what comes from a remote is printed only if it is a command of this program.
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeGuard

from pipeline.storage.urls import redact
from pipeline.training.requests import is_supervised

COMMAND = "command"  # in what a checkpoint says of itself; what decides a run is not told by it
HIDDEN = "***"
_STAGE_FILE = "step6_train.py"
_PROGRAMS = ("pipeline", "cli.py", "__main__.py")
_WORDS = ("train", "all")
_MOST_WORDS, _LONGEST = 200, 8000
# Said once, for one session: the same again would go back again.
_ONCE = "--resume"
_TOKEN = re.compile(r"\b(hf_[A-Za-z0-9]{10,}|gh[pousr]_[A-Za-z0-9]{10,}|sk-[A-Za-z0-9_-]{10,})")


def this_training(argv: Sequence[str] | None = None) -> list[str]:
    """The words of this process's command after `pipeline`, without secrets and without --resume;
    none if it is no command of this program that trains."""
    program, *words = list(sys.argv if argv is None else argv) or [""]
    name = PurePath(program.replace("\\", "/")).name.removesuffix(".exe")
    if name == _STAGE_FILE:
        words = ["train", *words]
    elif name not in _PROGRAMS:
        return []
    if not words or words[0] not in _WORDS:
        return []
    found, is_value = [], False
    for word in words:
        if is_value:
            is_value = False
        elif word == _ONCE:
            is_value = True
        elif not word.startswith(f"{_ONCE}="):
            found.append(_without_secrets(word))
    if is_supervised():  # who supervises has started this without it
        found.append("--until-done")
    return found if _is_fit(found) else []


def _without_secrets(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value.count("://") > 1:
        value = HIDDEN
    elif "://" in value:
        address, question, _ = redact(value).partition("?")
        value = address + (f"?{HIDDEN}" if question else "")
    return f"{option}{equals}{_TOKEN.sub(HIDDEN, value)}"


def command_of(about: Mapping[str, Any]) -> str | None:
    """The command in a checkpoint, as a shell takes it; None if there is none that is fit to be
    shown, as a remote may say anything."""
    words = about.get(COMMAND)
    return f"pipeline {shlex.join(words)}" if _is_fit(words) else None


def _is_fit(words: Any) -> TypeGuard[list[str]]:
    if not isinstance(words, list) or not 0 < len(words) <= _MOST_WORDS:
        return False
    if not all(isinstance(word, str) and word.isprintable() for word in words):
        return False
    return words[0] in _WORDS and sum(map(len, words)) <= _LONGEST
