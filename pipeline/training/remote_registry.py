"""What a remote copy of a run says of itself: names, markers, sessions, and the registry.

    registry.json                               what there is, for people and programs
    sessions/0003-ab12cd34.json                 who has written here, the last one owns the run
    step-00000120-0003-ab12cd34/                a checkpoint, with the session that sent it
        model.safetensors ...  COMPLETE.json    the marker comes last, and is the truth

The name of a session is in whatever it sends, so nothing that another one sent can be overwritten.
Everything here is hostile input: names are made of numbers and hex digits and of nothing else.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.files import FileFact, encode_json
from pipeline.training import checkpoints
from pipeline.training.attempts import ATTEMPT, FIRST, Attempt, attempt_of, read_attempt
from pipeline.training.checkpoints import COMPLETE, Broken

REGISTRY = "registry.json"
SESSIONS = "sessions"
VERSION = 1
LARGEST_TERM = 10**9
LARGEST_JSON = 8 * 2**20  # bytes; what is longer is not read
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"step-(?P<step>[0-9]{8,15})-(?P<term>[0-9]{4,15})-(?P<session>[0-9a-f]{8})")
_SESSION = re.compile(r"(?P<term>[0-9]{4,15})-(?P<session>[0-9a-f]{8})\.json")
_CURSOR = ("segment", "number", "of", "epoch", "step", "sequences", "size")
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
_RUN = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, order=True)
class Session:
    """One process that writes here. They are numbered; the greatest is the owner of the run."""

    term: int
    session: str

    @property
    def path(self) -> str:
        """Where it says that it is there."""
        return f"{SESSIONS}/{self.term:04}-{self.session}.json"

    @classmethod
    def parse(cls, path: str) -> "Session | None":
        """The session that a path names; None for any other path."""
        folder, _, name = path.rpartition("/")
        match = _SESSION.fullmatch(name) if folder in (SESSIONS, "") else None
        found = cls(int(match["term"]), match["session"]) if match else None
        is_own = found is not None and found.path == f"{SESSIONS}/{name}"
        return found if is_own and found and found.term <= LARGEST_TERM else None


@dataclass(frozen=True, order=True)
class Name:
    """The name of a remote checkpoint; the greatest is the newest."""

    step: int
    by: Session

    def __str__(self) -> str:
        return f"{checkpoints.name_of(self.step)}-{self.by.term:04}-{self.by.session}"

    @property
    def marker(self) -> str:
        """Where its marker is."""
        return f"{self}/{COMPLETE}"

    @classmethod
    def parse(cls, text: str) -> "Name | None":
        """The name that a text is; None if it is none, or is spelled otherwise than here."""
        match = _NAME.fullmatch(text)
        if not match:
            return None
        found = cls(int(match["step"]), Session(int(match["term"]), match["session"]))
        return found if str(found) == text and found.by.term <= LARGEST_TERM else None


@dataclass(frozen=True)
class RemoteCheckpoint:
    """A complete checkpoint at the remote: its files with sizes and hashes."""

    name: Name
    files: tuple[FileFact, ...]
    saved: str = ""
    marker: bytes = b""  # empty where only the registry was read
    cursor: tuple[tuple[str, str | int], ...] = ()  # of a series: see `segments.Cursor`
    attempt: Attempt = FIRST  # said by the marker, and not by the registry

    @property
    def step(self) -> int:
        return self.name.step

    @property
    def size(self) -> int:
        """Bytes of all files, without the marker."""
        return sum(fact.size for fact in self.files)


def read_marker(data: bytes, name: Name) -> RemoteCheckpoint:
    """A checkpoint by its COMPLETE.json. Raises Broken for what is none, or of another step."""
    value = _json(data)
    if not isinstance(value, dict) or value.get("version") != checkpoints.VERSION:
        raise Broken(f"{COMPLETE} cannot be read")
    files = value.get("files")
    if value.get("step") != name.step or not isinstance(files, dict) or not files:
        raise Broken(f"{COMPLETE} is of another checkpoint")
    facts = [_fact(path, fact) for path, fact in files.items()]
    found = tuple(fact for fact in facts if fact is not None)
    if len(found) < len(facts):
        raise Broken(f"{COMPLETE} names what is no file of a checkpoint")
    about = value.get("about")
    about = about if isinstance(about, dict) else {}
    cursor, attempt = _cursor(about.get("cursor")), attempt_of(about)
    return RemoteCheckpoint(name, found, _time(value.get("saved")), data, cursor, attempt)


def _fact(path: Any, value: Any) -> FileFact | None:
    if not isinstance(path, str) or not _FILE.fullmatch(path) or path == COMPLETE:
        return None
    if not isinstance(value, dict):
        return None
    size, sha256 = value.get("size"), value.get("sha256")
    if type(size) is not int or not 0 <= size < 2**53:
        return None
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        return None
    return FileFact(path, size, sha256)


@dataclass(frozen=True)
class Registry:
    """registry.json: an index. Whatever it says is looked at before it is believed."""

    run: str | None
    owner: Session | None
    checkpoints: tuple[RemoteCheckpoint, ...]
    attempt: Attempt = FIRST


def read_registry(data: bytes) -> Registry | None:
    """The registry, or None if anything in it is not as it should be: then it is made anew."""
    value = _json(data)
    if not isinstance(value, dict) or value.get("version") != VERSION:
        return None
    entries, lease = value.get("checkpoints"), value.get("lease")
    if not isinstance(entries, list) or not isinstance(lease, dict | None):
        return None
    found = [_entry(entry) for entry in entries]
    known = tuple(entry for entry in found if entry is not None)
    if len(known) < len(found) or len({entry.name for entry in known}) < len(known):
        return None
    owner = Session.parse(f"{lease.get('name')}.json") if lease else None
    return Registry(run_id(value.get("run")), owner, known, read_attempt(value.get(ATTEMPT)))


def _entry(value: Any) -> RemoteCheckpoint | None:
    if not isinstance(value, dict) or not isinstance(value.get("files"), dict):
        return None
    name = Name.parse(value["name"]) if isinstance(value.get("name"), str) else None
    facts = [_fact(path, fact) for path, fact in value["files"].items()]
    files = tuple(fact for fact in facts if fact is not None)
    if name is None or not files or len(files) < len(facts) or value.get("step") != name.step:
        return None
    cursor = _cursor(value.get("cursor"))
    return RemoteCheckpoint(name, files, _time(value.get("saved")), cursor=cursor)


def _cursor(value: Any) -> tuple[tuple[str, str | int], ...]:
    """Where in a series a run was: the name of the segment, and numbers; nothing else is taken."""
    if not isinstance(value, dict) or len(value) > len(_CURSOR):
        return ()
    for key, item in value.items():
        is_name = key == "segment" and isinstance(item, str) and _SEGMENT.fullmatch(item)
        is_number = key in _CURSOR and type(item) is int and 0 <= item < 2**53
        if not is_name and not is_number:
            return ()
    return tuple(value.items())


def write_registry(
    run: str | None,
    owner: Session | None,
    complete: Iterable[RemoteCheckpoint],
    partial: Iterable[Name] = (),
    attempt: Attempt = FIRST,
) -> bytes:
    """registry.json: complete checkpoints with their files, the newest first.

    `partial` are uploads that were broken off. They are only told, and never read back.
    """
    value = {
        "version": VERSION,
        "run": run,
        **attempt.noted(),
        "lease": {"name": f"{owner.term:04}-{owner.session}"} if owner else None,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoints": [
            {
                "name": str(found.name),
                "step": found.step,
                "session": found.name.by.session,
                "status": "complete",
                "saved": found.saved,
                "size": found.size,
                **({"cursor": dict(found.cursor)} if found.cursor else {}),
                "files": {f.path: {"size": f.size, "sha256": f.sha256} for f in found.files},
            }
            for found in sorted(complete, key=lambda found: found.name, reverse=True)
        ],
        "partial": [str(name) for name in sorted(partial, reverse=True)],
    }
    return encode_json(value, indent=2) + b"\n"


def write_session(session: Session, run: str, attempt: Attempt = FIRST) -> bytes:
    """What a session says of itself; of the attempt also if it is the first."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    value = {
        "version": VERSION, "run": run, "session": session.session, "begun": begun,
        ATTEMPT: attempt.as_dict(),
    }  # fmt: skip
    return encode_json(value, indent=2) + b"\n"


def read_session(data: bytes) -> Mapping[str, str | None]:
    """`run` and `begun` of a session; None for what it does not say in the form expected."""
    value = _json(data)
    value = value if isinstance(value, dict) else {}
    return {"run": run_id(value.get("run")), "begun": _time(value.get("begun")) or None}


def attempt_in_session(data: bytes) -> Attempt | None:
    """The attempt that counted when a session began; None if it says nothing of that."""
    value = _json(data)
    return read_attempt(value[ATTEMPT]) if isinstance(value, dict) and ATTEMPT in value else None


def run_id(value: Any) -> str | None:
    """The id of a run, if it is one: letters, digits, dots, hyphens, underscores; at most 64."""
    return value if isinstance(value, str) and _RUN.fullmatch(value) else None


def _time(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 40:
        return ""
    try:
        return datetime.fromisoformat(value).isoformat(timespec="seconds")
    except ValueError:
        return ""


def _json(data: bytes) -> Any:
    """What JSON says; None for what is none, or is nested to overflow the stack."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
