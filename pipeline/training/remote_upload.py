"""Sending one checkpoint: files first, each proven to have arrived, and the marker last."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.files import TEMPORARY_PREFIX, FileFact
from pipeline.storage.writing import Digests, Trouble
from pipeline.training.checkpoints import COMPLETE, Broken, Checkpoint
from pipeline.training.remote_registry import Name, Session, read_marker
from pipeline.training.remote_run import RemoteRun

SENDING = f"{TEMPORARY_PREFIX}sending-"
_held: set[str] = set()  # the folders of links that this process is using
_LOOKS = 2  # how often a file that was sent is looked for before it is sent again


def is_abandoned(name: str) -> bool:
    """Whether the folder of this name holds links of an upload whose process is gone."""
    import psutil

    if not name.startswith(SENDING):
        return False
    number = name.removeprefix(SENDING).partition("-")[0]
    if number == str(os.getpid()):  # in containers, every process may have been number 1
        return name not in _held
    return not (number.isdecimal() and psutil.pid_exists(int(number)))


class Upload:
    """A checkpoint on its way. What has arrived is not sent again when `advance` is called again.

    The files are held by hard links where the disk can do that: the checkpoint may be deleted
    meanwhile, and arrives all the same. Made in milliseconds. Raises Broken.
    """

    def __init__(self, checkpoint: Checkpoint, by: Session) -> None:
        self.name = Name(checkpoint.step, by)
        self.about = checkpoint
        self.size = checkpoint.size
        self.failures = 0  # in a row, without anything arriving
        self._is_first = True
        self.sent = 0  # bytes that went over the line
        self._arrived: set[str] = set()
        self._looks: dict[str, int] = {}  # of a file that was sent: how often it was not seen
        self._digests: dict[str, Digests] = {}
        self._links: Path | None = None
        self._path = self._hold(checkpoint.path)
        try:
            self._marker = (self._path / COMPLETE).read_bytes()
        except OSError as error:
            raise Broken(f"{COMPLETE} cannot be read") from error
        self.record = read_marker(self._marker, self.name)

    @property
    def step(self) -> int:
        return self.name.step

    def _hold(self, path: Path) -> Path:
        try:
            prefix = f"{SENDING}{os.getpid()}-"  # says who uses it: see `is_abandoned`
            self._links = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
            _held.add(self._links.name)
            for file in path.iterdir():
                os.link(file, self._links / file.name)
        except OSError:  # a disk without hard links
            self.release()
            return path
        return self._links

    def release(self) -> None:
        """Let go of the files."""
        if self._links is not None:
            shutil.rmtree(self._links, ignore_errors=True)
            _held.discard(self._links.name)
            self._links = None

    @property
    def is_gone(self) -> bool:
        """Whether the files were deleted before they could be sent."""
        return not self._path.is_dir()

    def advance(self, run: RemoteRun) -> None:
        """Send what has not arrived yet. Raises Trouble, Broken, Superseded."""
        try:
            self._advance(run)
        finally:
            self._is_first = False

    def _advance(self, run: RemoteRun) -> None:
        run.check_owner()
        facts = {fact.path: fact for fact in self.record.files}
        for group in run.folder.groups([path for path in facts if path not in self._arrived]):
            self._send(run, [facts[path] for path in group])
        run.check_owner()  # a machine that slept for hours in between must not go on
        run.folder.put({self.name.marker: self._marker})
        if run.folder.read(self.name.marker, len(self._marker)) != self._marker:
            raise Trouble(f"{run.folder.shown}/{self.name.marker} arrived changed.", passes=True)

    def _send(self, run: RemoteRun, facts: list[FileFact]) -> None:
        """Send some files together; another checkpoint's copy is made one of this one there."""
        sources = run.sources()
        wanted: dict[str, Path | bytes] = {}
        for fact in facts:
            if self._is_there(run, fact):
                continue
            source = sources.get(fact.sha256)
            if source is None or not self._copied(run, source, fact):
                wanted[self._remote(fact)] = self._path / fact.path
        if wanted:
            run.folder.put(wanted)
            self._looks.update({f.path: 0 for f in facts if self._remote(f) in wanted})
            self.sent += sum(fact.size for fact in facts if self._remote(fact) in wanted)
        for fact in facts:
            if fact.path in self._arrived:
                continue
            try:
                is_same = run.folder.holds(self._remote(fact), self._known(fact))
            except Trouble as trouble:
                raise self._unseen(run, fact) if trouble.missing else trouble from trouble
            if not is_same:
                raise Trouble(
                    f"{run.folder.shown}/{self._remote(fact)} arrived changed.", passes=True
                )
            self._arrived.add(fact.path)
            self.failures = 0

    def _unseen(self, run: RemoteRun, fact: FileFact) -> Trouble:
        shown = f"{run.folder.shown}/{self._remote(fact)}"
        return Trouble(f"{shown} was sent, and does not appear there.", passes=True)

    def _is_there(self, run: RemoteRun, fact: FileFact) -> bool:
        """Whether an earlier try did send it; the first has nothing to look for."""
        if self._is_first:
            return False
        size = run.folder.size(self._remote(fact))
        if size is None and self._looks.get(fact.path, _LOOKS) < _LOOKS:
            self._looks[fact.path] += 1  # it was sent, and some stores take time to show it
            raise self._unseen(run, fact)
        if size != fact.size:
            return False
        if run.folder.holds(self._remote(fact), self._known(fact)):
            self._arrived.add(fact.path)
            return True
        return False

    def _copied(self, run: RemoteRun, source: str, fact: FileFact) -> bool:
        with suppress(Trouble):
            run.folder.copy(source, self._remote(fact), fact.size)
            if run.folder.holds(self._remote(fact), self._known(fact)):
                self._arrived.add(fact.path)
                return True
        return False

    def _known(self, fact: FileFact) -> Digests:
        """Checksums of a local file, which is to be what the marker says. Raises Broken."""
        if fact.path not in self._digests:
            digests = Digests.of(self._path / fact.path)
            if digests.sha256 != fact.sha256:
                raise Broken(f"{fact.path} is not as it was written")
            self._digests[fact.path] = digests
        return self._digests[fact.path]

    def _remote(self, fact: FileFact) -> str:
        return f"{self.name}/{fact.path}"
