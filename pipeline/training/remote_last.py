"""The last checkpoint of a finished run, sent once more where its copy never arrived."""

from functools import partial
from pathlib import Path

from pipeline.console import say
from pipeline.training import checkpoints
from pipeline.training.attempts import attempt_of, local_attempt
from pipeline.training.copy_notes import never_arrived, note_copy, read_copied
from pipeline.training.remote_copies import RemoteCopies, shown_url
from pipeline.training.remote_lineage import descends
from pipeline.training.remote_local import is_last


def send_last(folder: Path, url: str, timeout: float) -> None:
    """Send the last checkpoint of the finished run in `folder` to `url`, unless it is there: one
    that arrived is not asked for again. Waits for `timeout` seconds at most.

    Nothing is sent of a run that is not finished, or has been deleted. Raises PipelineError if it
    does not arrive, and UsageError for an address that makes no sense or is another run's.
    """
    last = next(checkpoints.whole(folder, hashes=False), None)
    if last is None or not is_last(last):
        return
    copied = read_copied(folder)
    if copied is not None and copied.step >= last.step and copied.url == shown_url(url):
        return
    with RemoteCopies(
        url, run=folder.name, by_hand=True, follows=descends(last),
        on_arrival=partial(note_copy, folder),
    ) as copies:  # fmt: skip
        attempt = attempt_of(last.about)
        copies.announce(max(copies.attempt, local_attempt(folder)))
        if not copies.attempt.holds(attempt, last.step):
            return  # it was begun anew on another machine
        if (last.step, attempt) in copies.there():
            note_copy(folder, last.step, copies.shown)
            return
        copies.offer(last)
        outcome = copies.finish(timeout)
    if not outcome.ok:
        raise never_arrived(folder, outcome)
    say(f"{outcome}.")
