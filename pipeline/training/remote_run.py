"""The remote copy of a run: which checkpoints are complete there, and who owns it.

What counts is the marker of a checkpoint and the files that are listed beside it. The registry only
helps to find what a listing does not show yet.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pipeline.errors import PipelineError, UsageError
from pipeline.storage.writing import RemoteFolder, TooLarge, Trouble
from pipeline.training.attempts import FIRST, Attempt
from pipeline.training.checkpoints import COMPLETE, Broken
from pipeline.training.remote_registry import (
    LARGEST_JSON,
    LARGEST_TERM,
    REGISTRY,
    SESSIONS,
    Name,
    Registry,
    RemoteCheckpoint,
    Session,
    attempt_in_session,
    read_marker,
    read_registry,
    read_session,
    write_registry,
    write_session,
)

_LEASE_TRIES = 5
_MARKER_TRIES = 3
_SIZE_TRIES = 2
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")  # no way out of the directory
_NOTES = 3  # of sessions, that are asked which attempt counts
_HINTS = 20  # checkpoints that are looked for although only the registry has them

T = TypeVar("T")
Ask = Callable[[Callable[[], Any]], Any]
Accepts = Callable[[RemoteCheckpoint], bool]


class Superseded(PipelineError):
    """A later session writes to the same place: this one has to stop."""


def once(question: Callable[[], T]) -> T:
    """Ask, and leave trying again to the caller."""
    return question()


def run_of(marker: bytes) -> str | None:
    """The run that a COMPLETE.json is of, fit to be the name of a folder, if it says so."""
    try:
        run = json.loads(marker)["about"]["run"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return run if isinstance(run, str) and _RUN.fullmatch(run) else None


class RemoteRun:
    """One run below one address. `ask` says how often a request is tried.

    `look` first; what it saw is what the other methods go by. All of them raise PipelineError.
    """

    def __init__(self, folder: RemoteFolder, ask: Ask = once) -> None:
        self.folder = folder
        self.run: str | None = None
        self.attempt = FIRST  # the one that counts; see `attempts`
        self.session: Session | None = None
        self._has_lease = False
        self.ask = ask
        self._sizes: Mapping[str, int] = {}
        self._known: dict[Name, RemoteCheckpoint] = {}
        self._hints: dict[Name, RemoteCheckpoint] = {}
        self._registered = FIRST  # the attempt that the registry tells

    def follow(self, other: "RemoteRun") -> None:
        """Be of the same session, and know what it knows."""
        self.run, self.session, self._has_lease = other.run, other.session, other._has_lease
        self.attempt = other.attempt
        self._sizes, self._known, self._hints = other._sizes, {**other._known}, {**other._hints}

    # --- what there is ------------------------------------------------------------------------

    def look(self) -> Registry | None:
        """List what there is. Returns the registry, None if there is none or it is damaged."""
        self._sizes = self.ask(self.folder.sizes)
        registry = None
        with suppress(Trouble):  # an index that cannot be read is one that is not there
            registry = read_registry(self.ask(lambda: self.folder.read(REGISTRY, LARGEST_JSON)))
        self._hints = {found.name: found for found in registry.checkpoints} if registry else {}
        self._registered = registry.attempt if registry else FIRST
        return registry

    def marked(self) -> list[Name]:
        """The checkpoints whose marker is listed, the newest first."""
        found = (Name.parse(path.removesuffix(f"/{COMPLETE}")) for path in self._sizes)
        return sorted(name for name in found if name is not None and self._is_marked(name))[::-1]

    def _is_marked(self, name: Name) -> bool:
        return name.marker in self._sizes

    def partial(self) -> list[Name]:
        """The checkpoints of which files are listed, and no marker."""
        folders = {path.partition("/")[0] for path in self._sizes if "/" in path}
        found = {Name.parse(folder) for folder in folders}
        return sorted(name for name in found if name is not None and not self._is_marked(name))

    def bytes_of(self, name: Name) -> int:
        """How many bytes of a checkpoint are listed."""
        return sum(size for path, size in self._sizes.items() if path.startswith(f"{name}/"))

    def complete(self) -> Iterator[RemoteCheckpoint]:
        """The complete checkpoints, the newest first: marker read, all files there in full."""
        listed = self.marked()
        unlisted = sorted(self._hints.keys() - set(listed), reverse=True)[:_HINTS]
        for name in sorted([*listed, *unlisted], reverse=True):
            found = self.read(name)
            if found is not None:
                yield found

    def held(self) -> Iterator[RemoteCheckpoint]:
        """Those of them that the attempt that counts goes on with."""
        return (one for one in self.complete() if self.attempt.holds(one.attempt, one.step))

    def newest(self) -> RemoteCheckpoint | None:
        """The newest complete checkpoint of the attempt that counts."""
        return next(self.held(), None)

    def abandoned(self) -> list[Name]:
        """The complete checkpoints that the attempt that counts does not go on with."""
        if self.attempt == FIRST:  # nobody ever went back
            return []
        found = filter(None, map(self.read, self.marked()))
        return [one.name for one in found if not self.attempt.holds(one.attempt, one.step)]

    def read(self, name: Name) -> RemoteCheckpoint | None:
        """A checkpoint by its marker, if it is complete."""
        found = self._known.get(name) or self._marker(name)
        if found is None:
            return None
        if not all(self._is_whole(f"{name}/{fact.path}", fact.size) for fact in found.files):
            return None
        self._known[name] = found
        return found

    def _marker(self, name: Name) -> RemoteCheckpoint | None:
        """The marker of a checkpoint, if it is there and makes sense."""
        for _ in range(_MARKER_TRIES):
            try:
                data = self.ask(lambda: self.folder.read(name.marker, LARGEST_JSON))
                return read_marker(data, name)
            except Broken:
                continue  # it may be so there, or only have come so
            except Trouble as trouble:
                if trouble.missing or isinstance(trouble, TooLarge):
                    return None
                raise
        return None

    def _is_whole(self, path: str, size: int) -> bool:
        """Whether a file is as long as it should be. A listing may tell a size that is not so:
        before a checkpoint is passed over, with the work that is in it, the file itself is asked.
        """
        if self._sizes.get(path) == size:
            return True
        return any(self.ask(lambda: self.folder.size(path)) == size for _ in range(_SIZE_TRIES))

    # --- the owner ----------------------------------------------------------------------------

    def owner(self) -> Session | None:
        """The last session that began, of those listed."""
        return _last(map(Session.parse, self._sizes))

    def begin(
        self, run: str | None, *, by_hand: bool = False, accepts: Accepts = lambda _: False
    ) -> None:
        """Become the owner of the run. Raises UsageError if the place is another run's.

        Two that begin at the same moment may take the same number, so one looks again. `by_hand`
        leaves the owner what it is: a copy made by hand must not stop a machine that trains.
        `accepts` says of the newest checkpoint there, if it is of another run, whether this one
        goes on with it: then the place is this run's from now on.
        """
        registry = self.look()
        if by_hand:
            owner = self.owner()
            self.run = self._agreed(run, self._told(owner, registry), accepts)
            self.attempt = self.told_attempt()
            self.session = Session(owner.term if owner else 1, secrets.token_hex(4))
            return
        for _ in range(_LEASE_TRIES):
            owner = _last([self.owner(), registry.owner if registry else None])
            if self.session is not None and owner == self.session:
                return
            if self.session is None:
                self.run = self._agreed(run, self._told(owner, registry), accepts)
                self.attempt = self.told_attempt()
            names = [*self.marked(), *self.partial(), *self._hints]
            term = 1 + max([owner.term if owner else 0, *(name.by.term for name in names)])
            session = Session(min(term, LARGEST_TERM), secrets.token_hex(4))
            note = write_session(session, self.run or "", self.attempt)
            self.ask(lambda: self.folder.put({session.path: note}))  # noqa: B023
            self.session, self._has_lease = session, True
            self._sizes = {**self.ask(self.folder.sizes), session.path: len(note)}
        raise Superseded(f"Several machines begin to write to {self.folder.shown} at once.")

    def _agreed(self, run: str | None, there: str | None, accepts: Accepts) -> str:
        """The id of the run: the one given, else the one that is told there, else a new one.

        What the newest checkpoint says counts for more than what is told: who told it may have
        ended before anything of that run had arrived.
        """
        newest = next(self.complete(), None) if run else None
        if newest is None:
            return run or there or secrets.token_hex(8)
        there = run_of(newest.marker) or there
        if there and run != there and not accepts(newest):
            raise UsageError(
                f"{self.folder.shown} has checkpoints of another run ({there}, and this is {run}).",
                "Give another --sync-to: one address holds one run, and what --allow-changed goes "
                "on with.",
            )
        return run or secrets.token_hex(8)

    def told_attempt(self) -> Attempt:
        """The attempt that counts, by the registry and the last sessions; `look` comes first."""
        sessions = [found for found in map(Session.parse, self._sizes) if found is not None]
        for session in sorted(sessions, reverse=True)[:_NOTES]:
            if (told := self._attempt_in(session)) is not None:
                return max(told, self._registered)
        return self._registered

    def _attempt_in(self, session: Session) -> Attempt | None:
        for _ in range(_MARKER_TRIES):
            try:
                note = self.ask(lambda: self.folder.read(session.path, LARGEST_JSON))
            except Trouble as trouble:
                if trouble.missing or isinstance(trouble, TooLarge):
                    return None
                raise
            if read_session(note)["begun"]:  # else it may only have come damaged
                return attempt_in_session(note)
        return None

    def announce(self, attempt: Attempt) -> None:
        """Say which attempt counts from now on, before anything of it is there."""
        self.attempt = attempt
        if self.session is not None and self._has_lease:
            note = write_session(self.session, self.run or "", attempt)
            path = self.session.path
            self.ask(lambda: self.folder.put({path: note}))

    def run_there(self) -> str | None:
        """The id of the run that is there, fit to be the name of a folder; None if none is told."""
        told = self._told(self.owner(), self.look())
        newest = next((run for one in self.complete() if (run := run_of(one.marker))), None)
        there = newest or told
        return there if there and _RUN.fullmatch(there) else None

    def _told(self, owner: Session | None, registry: Registry | None) -> str | None:
        there = registry.run if registry else None
        if owner is not None:
            with suppress(Trouble):
                told = self.ask(lambda: self.folder.read(owner.path, LARGEST_JSON))
                there = read_session(told)["run"] or there
        return there

    @property
    def is_owner(self) -> bool:
        """Whether this session became the owner of the run, and does not send by hand."""
        return self._has_lease

    def check_owner(self) -> None:
        """Raises Superseded if another session has begun since this one did."""
        if self.session is None or not self._has_lease:
            return
        listed = self.ask(lambda: self.folder.sizes(SESSIONS))
        owner = _last([self.session, *map(Session.parse, listed)])
        if owner is not None and owner != self.session:
            raise Superseded(
                f"Another machine continues this run and writes to {self.folder.shown} "
                f"(session {owner.session}); nothing more is sent there from here.",
                "Stop one of the two. The next start takes the newest checkpoint of both.",
            )

    # --- deleting, and the registry -----------------------------------------------------------

    def delete(self, name: Name) -> None:
        """Delete a checkpoint: first its marker, so that no half of it is ever taken for one."""
        self._known.pop(name, None)
        self._hints.pop(name, None)
        self.ask(lambda: self.folder.delete([name.marker]))
        if self.ask(lambda: self.folder.size(name.marker)) is not None:
            raise Trouble(
                f"{self.folder.shown}/{name.marker} was deleted and is still there.", passes=True
            )
        rest = self.ask(lambda: self.folder.sizes(str(name)))
        for group in self.folder.groups(sorted(rest)):
            self.ask(lambda: self.folder.delete(group))  # noqa: B023
        gone = {name.marker, *rest}
        self._sizes = {path: size for path, size in self._sizes.items() if path not in gone}

    def delete_partial(self, name: Name) -> None:
        """Delete what an upload left that was broken off, unless it is complete after all."""
        if self.ask(lambda: self.folder.size(name.marker)) is None:
            self.delete(name)

    def save_registry(self) -> None:
        """Write what there is into the registry; what is not known yet is read."""
        entries = []
        for name in self.marked():
            found = self._known.get(name) or self._hint(name) or self.read(name)
            if found is not None:
                entries.append(found)
        owner = self.session if self._has_lease else self.owner()
        attempt = max(self.attempt, self._registered)
        data = write_registry(self.run, owner, entries, self.partial(), attempt)
        self.ask(lambda: self.folder.put({REGISTRY: data}))

    def _hint(self, name: Name) -> RemoteCheckpoint | None:
        """What the registry says of a checkpoint, if its files are listed with those sizes."""
        found = self._hints.get(name)
        if found is None:
            return None
        agreed = all(self._sizes.get(f"{name}/{fact.path}") == fact.size for fact in found.files)
        return found if agreed else None

    def read_again(self, name: Name) -> RemoteCheckpoint | None:
        """The same as `read`, but what was read before is forgotten."""
        self._known.pop(name, None)
        return self.read(name)

    def arrived(self, found: RemoteCheckpoint) -> None:
        """Take note of a checkpoint that was just sent, which a listing may not show yet."""
        self._known[found.name] = found
        there = {f"{found.name}/{fact.path}": fact.size for fact in found.files}
        self._sizes = {**self._sizes, **there, found.name.marker: len(found.marker)}

    def sources(self) -> dict[str, str]:
        """Files that may already have some content: sha256 -> name. To be checked."""
        known = {**self._hints, **self._known}
        return {
            fact.sha256: f"{name}/{fact.path}"
            for name, found in sorted(known.items())
            for fact in found.files
            if self._sizes.get(f"{name}/{fact.path}") == fact.size
        }


def _last(sessions: Iterable[Session | None]) -> Session | None:
    return max((session for session in sessions if session is not None), default=None)
