"""Which run may go on where another one is: at one address is one run, and what it grew out of.

A series gets new segments, or a run more steps: `--allow-changed` goes on with it as another run,
whose id follows from its settings and data. The copies of the one before stay what they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import PipelineError
from pipeline.storage.writing import Trouble
from pipeline.training import checkpoints
from pipeline.training.checkpoints import COMPLETE, Broken, Checkpoint
from pipeline.training.remote_registry import LARGEST_JSON, RemoteCheckpoint
from pipeline.training.remote_run import RemoteRun
from pipeline.training.run_state import STATE

FOLLOWS = "follows"  # in what a checkpoint says of itself: the steps at which it left other runs

Follows = Callable[[Checkpoint], bool]


def accepts(run: RemoteRun, follows: Follows | None) -> Callable[[RemoteCheckpoint], bool]:
    """The question whether a checkpoint there is one that this run goes on with: `follows`, asked
    of what the remote says of it (its marker, and how far the run had come).

    Raises PipelineError: the remote cannot be asked.
    """

    def is_accepted(remote: RemoteCheckpoint) -> bool:
        if follows is None:
            return False
        try:
            with _glimpse(run, remote) as found:
                return _asked(follows, found)
        except Broken:
            return False

    return is_accepted


def _asked(follows: Follows, found: Checkpoint) -> bool:
    try:
        return follows(found)
    except Trouble:
        raise
    except (PipelineError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return False  # it does not say what it must: a remote may say anything


@contextmanager
def _glimpse(run: RemoteRun, remote: RemoteCheckpoint) -> Iterator[Checkpoint]:
    """A remote checkpoint without its weights. Raises Broken, PipelineError."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / checkpoints.name_of(remote.step)
        path.mkdir()
        (path / COMPLETE).write_bytes(remote.marker)
        record = checkpoints.read_record(path)
        for fact in remote.files:
            if fact.path == STATE:
                data = run.ask(lambda: run.folder.read(f"{remote.name}/{STATE}", LARGEST_JSON))
                if sha256(data).hexdigest() != fact.sha256:
                    raise Broken(f"{STATE} is not as it was written")
                (path / STATE).write_bytes(data)
        yield Checkpoint(path, remote.step, remote.size, record["about"], remote.saved)


def ancestors(found: Checkpoint | None, run: str) -> dict[str, int]:
    """For the checkpoints of `run`, which goes on from `found`: other runs that it comes from, and
    the step at which it left each."""
    if found is None:
        return {}
    before, of = found.about.get(FOLLOWS), found.about.get("run")
    left = dict(before) if isinstance(before, dict) else {}
    return left if of in (None, run) else left | {str(of): found.step}


def descends(newest: Checkpoint) -> Follows:
    """For sending by hand: whether the run of `newest` went on with another one's checkpoint.

    That is so up to the step at which it left that run, which its own checkpoints say.
    """

    def is_ancestor(other: Checkpoint) -> bool:
        left, run = newest.about.get(FOLLOWS), other.about.get("run")
        step = left.get(run) if isinstance(left, dict) and isinstance(run, str) else None
        return isinstance(step, int) and other.step <= step

    return is_ancestor
